"""Boxes, masks and label maps are drawn where they are, in their class's colour."""

import numpy as np
import pytest

from flsl_bench.pictures import canvas
from flsl_bench.pictures.annotations import draw_instances, draw_label_map, with_label_legend


def grey(width, height):
    return np.full((height, width, 3), 100, np.uint8)


def changed(picture, before=100):
    rows, columns = np.nonzero((picture != before).any(2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize(("size", "factor"), [((200, 100), 1), ((400, 200), 0.5), ((100, 50), 2)])
def test_a_mask_and_its_box_are_scaled_to_the_picture(size, factor):
    width, height = size
    mask = np.zeros((1, height, width), bool)
    mask[:, height // 2 :, width // 4 : width // 2] = True
    box = np.array([[width / 4, height / 2, width / 2, height]])
    picture = draw_instances(grey(200, 100), box, [3], masks=mask, image_size=size)
    expected = (100 * 0.5 + canvas.class_colours(4)[3] * 0.5).round()
    assert np.abs(picture[80, 90] - expected).max() <= 1
    assert picture[80, 40].tolist() == [100] * 3 and picture[20, 150].tolist() == [100] * 3
    only_box = draw_instances(grey(200, 100), np.tile(box, (31, 1)), [3] * 31, image_size=size)  # without texts
    assert np.abs(np.array(changed(only_box)) - [50, 50, 101, 100]).max() <= 1
    assert only_box[75, 50].tolist() == canvas.class_colours(4)[3].tolist()
    assert only_box[75, 75].tolist() == [100] * 3


def test_small_masks_lie_on_large_ones_in_any_order():
    masks = np.zeros((2, 40, 40), bool)
    masks[0, 10:20, 10:20] = masks[1] = True
    boxes = np.array([[10, 10, 20, 20], [0, 0, 40, 40]])
    one = draw_instances(grey(40, 40), boxes, [0, 1], masks=masks)
    other = draw_instances(grey(40, 40), boxes[::-1], [1, 0], masks=masks[::-1])
    assert np.array_equal(one[15:19, 14:18], other[15:19, 14:18])
    small_on_large = 0.5 * (0.5 * 100 + 0.5 * canvas.class_colours(2)[1]) + 0.5 * canvas.class_colours(2)[0]
    assert np.abs(one[15, 15] - small_on_large).max() <= 1.5


def test_texts_stay_inside_the_picture_and_unnamed_classes_are_numbers():
    picture = draw_instances(grey(120, 60), [[110, -5, 119, 50]], [7], scores=[0.5], names=["cat"])
    assert picture.shape == (60, 120, 3) and changed(picture)[0] < 100


def test_nothing_to_draw_is_the_image():
    assert np.array_equal(draw_instances(grey(30, 20), np.zeros((0, 4)), []), grey(30, 20))


def test_a_label_map_of_another_size_is_tinted_and_void_left():
    labels = np.full((10, 20), 255)
    labels[:, :10] = 2
    picture = draw_label_map(grey(200, 100), labels, classes=5, opacity=1.0)
    assert (picture[:, :100] == canvas.class_colours(5)[2]).all() and (picture[:, 100:] == 100).all()


def test_the_legend_names_what_is_there_by_size():
    labels = np.array([[1, 1, 0, 255]])
    picture = with_label_legend(grey(200, 50), [labels], ["sky", "tree", "car"])
    strip = picture[50:]
    assert strip.shape == (24, 200, 3)
    colours = canvas.class_colours(3)
    first, second = (np.argwhere((strip == colours[k]).all(2))[:, 1].min() for k in (1, 0))
    assert first < second and not (strip == colours[2]).all(2).any()
    assert with_label_legend(grey(20, 5), [np.full((2, 2), 255)], ["a"]).shape[1] == 20


def test_class_colours_differ_and_do_not_depend_on_their_number():
    colours = canvas.class_colours(150)
    assert len(np.unique(colours, axis=0)) == 150
    assert np.array_equal(colours[:80], canvas.class_colours(80)) and canvas.class_colours(0).shape == (0, 3)


def test_captions_tell_sequences_apart(tmp_path):
    assert canvas.caption_of(tmp_path / "a.jpg", tmp_path) == "a.jpg"
    assert canvas.caption_of(tmp_path / "M0101" / "a.jpg", tmp_path) == "M0101/a.jpg"
    assert canvas.caption_of("x/y/a.jpg") == "a.jpg"
