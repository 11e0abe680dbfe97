"""Box-aligned k-NN: where the patches lie, how they vote, and the whole against loops over images."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flsl_bench.datasets.boxed_images import BoxedImage
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes import box_knn as module
from flsl_bench.probes.box_knn import VIEW, BoxKnn, box_knn, grid_patches, place_box, vote
from flsl_bench.probes.image_features import FeatureOptions, ImageFeatures, PatchFeatures, Resize

SIZES = [(60, 60), (90, 50), (40, 100), (64, 48)]


@pytest.fixture
def features(vit):
    return ImageFeatures(vit, "weights", FeatureOptions(view=VIEW))


@pytest.fixture
def images(tmp_path):
    """Twelve images of four sizes and three classes, each class with a colour of its own in the box."""
    rng = np.random.default_rng(0)
    result = []
    for i in range(12):
        width, height = SIZES[i % 4]
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        x0, y0 = (int(rng.integers(0, side // 2)) for side in (width, height))
        x1, y1 = int(rng.integers(x0 + 5, width)), int(rng.integers(y0 + 5, height))
        pixels[y0:y1, x0:x1, i % 3] = 250
        path = tmp_path / f"{i}.png"
        Image.fromarray(pixels).save(path)
        result.append(BoxedImage(path, (width, height), (x0, y0, x1, y1), ["cat", "dog", "emu"][i % 3]))
    return result


def plain_box(image, size, as_released=False):
    """The box in the 224x224 view of an image of `size`, one coordinate at a time."""
    result = []
    for i, value in enumerate(image.box):
        side, other = size[i % 2], size[1 - i % 2]
        value = value / image.size[i % 2] * side
        resized = 256 if side <= other or as_released else int(256 * side / other)
        margin = 16 if as_released else round((resized - 224) / 2)
        result.append(min(max(value * resized / side - margin, 0), 224))
    return result


def plain_patches(features, image, as_released=False):
    """Nine unit vectors."""
    found = features.one(image.path)
    x0, y0, x1, y1 = plain_box(image, found.image_size, as_released)
    vectors = []
    for row in range(3):
        for column in range(3):
            x, y = x0 + (x1 - x0) * (2 * column + 1) / 6, y0 + (y1 - y0) * (2 * row + 1) / 6
            vector = found.tokens[:, min(int(y // 16), 13), min(int(x // 16), 13)].numpy().astype(np.float64)
            vectors.append(vector / math.sqrt((vector**2).sum()))
    return vectors


def plain_scores(features, train, test, k, temperature=0.07, as_released=False):
    """Percent any, majority and patch."""
    bank = [(v, image.label) for image in train for v in plain_patches(features, image, as_released)]
    some, most, patches = [], [], []
    for image in test:
        right = []
        for vector in plain_patches(features, image, as_released):
            near = sorted(((float(vector @ v), label) for v, label in bank), reverse=True)[:k]
            votes = {}
            for similarity, label in near:
                votes[label] = votes.get(label, 0) + math.exp(similarity / temperature)
            right.append(max(votes, key=votes.get) == image.label)
        some.append(any(right))
        most.append(sum(right) >= 5)
        patches.append(sum(right) / 9)
    return [100 * float(np.mean(values)) for values in (some, most, patches)]


@pytest.mark.parametrize("as_released", [False, True])
def test_scores_equal_a_plain_reference(features, images, monkeypatch, as_released):
    monkeypatch.setattr(module, "_IMAGES_AT_A_TIME", 2)
    train, test = images[:7], images[7:]
    options = BoxKnn(neighbours=(20, 3, 1), as_released=as_released)
    result = box_knn(features, train, test, options, engine="torch")
    for k in (20, 3, 1):
        expected = plain_scores(features, train, test, k, as_released=as_released)
        assert [result.metrics()[f"{name}_{k}"] for name in ("any", "majority", "patch")] == pytest.approx(expected)
    assert (result.train_images, result.test_images, result.cropped_away) == (7, 5, 0)


def test_breakdowns_are_the_scores_of_each_class_alone(features, images):
    result = box_knn(features, images[:7], images[7:])
    for label in ("cat", "dog", "emu"):
        alone = box_knn(features, images[:7], [image for image in images[7:] if image.label == label]).metrics()
        assert {name: values[label] for name, values in result.breakdowns().items()} == {
            f"{name} by class": alone[f"{name}_20"] for name in ("any", "majority", "patch")
        }


def test_an_image_finds_itself(features, images):
    assert set(box_knn(features, images[:3], images[:3], BoxKnn(neighbours=(1,))).metrics().values()) == {100.0}


def test_each_image_is_passed_once_and_progress_is_told(features, images):
    seen = []
    box_knn(features, images[:7], images[7:], progress=lambda *call: seen.append(call))
    assert features.forward_passes == 12
    assert seen[6] == ("training images", 7, 7)
    assert seen[-1] == ("test images", 5, 5)


def test_a_class_without_training_images_is_wrong(features, images):
    result = box_knn(features, [image for image in images if image.label != "cat"], images)
    assert result.breakdowns()["any by class"]["cat"] == 0.0


def test_a_class_with_one_example_and_a_test_set_of_one(features, images):
    result = box_knn(features, images[:2] + images[3:4], images[1:2], BoxKnn(neighbours=(1,)))
    assert result.by_class["dog"].any == 100.0


def test_more_neighbours_than_patches_are_undefined(features, images):
    scores = box_knn(features, images[:3], images[3:4]).metrics()
    assert next(iter(scores)) == "any_20"
    assert [name for name, value in scores.items() if value is None] == [
        f"{name}_{k}" for k in (100, 200) for name in ("any", "majority", "patch")
    ]
    message = r"neighbours=\(20, 10, 100, 200\): the bank has 18 patches; give no more as the first"
    with pytest.raises(ConfigError, match=message):
        box_knn(features, images[:2], images[3:4])


@pytest.mark.parametrize("train", [0, 3])
def test_refuses_no_images(features, images, train):
    with pytest.raises(DataError, match=f"no {'test' if train else 'training'} images with a box; name another split"):
        box_knn(features, images[:train], [] if train else images)


def test_a_box_that_is_cropped_away_is_counted_and_takes_the_border(features, images, tmp_path):
    Image.new("RGB", (400, 100)).save(tmp_path / "wide.png")
    wide = BoxedImage(tmp_path / "wide.png", (400, 100), (0, 10, 20, 90), "cat")
    result = box_knn(features, images[:3], [wide, images[0]])
    assert result.cropped_away == 1
    box = place_box(wide, features.one(wide.path))
    assert box.tolist() == pytest.approx([0, 10 * 2.56 - 16, 0, 90 * 2.56 - 16])
    assert set(grid_patches(box, 3, 16, (14, 14))[1].tolist()) == {0}


def test_the_largest_coordinates_are_in_the_last_patch():
    rows, columns = grid_patches(np.array([224.0, 224.0, 224.0, 224.0]), 3, 16, (14, 14))
    assert set(rows.tolist()) == set(columns.tolist()) == {13}


def test_cells_of_a_box_row_by_row():
    rows, columns = grid_patches(np.array([0.0, 32.0, 96.0, 80.0]), 3, 16, (14, 14))
    assert rows.tolist() == [2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert columns.tolist() == [1, 3, 5] * 3


boxes = st.tuples(*[st.floats(0, 1)] * 4)


@settings(deadline=None, max_examples=200)
@given(width=st.integers(1, 700), height=st.integers(1, 700), annotated=st.integers(1, 700), corners=boxes)
def test_placed_boxes_equal_the_plain_reference_and_stay_inside(width, height, annotated, corners):
    size = annotated, annotated + 7  # what the annotation calls the size need not be the file's
    x0, x1 = sorted(share * size[0] for share in corners[:2])
    y0, y1 = sorted(share * size[1] for share in corners[2:])
    image = BoxedImage(None, size, (x0, y0, x1, y1), "cat")
    found = PatchFeatures(torch.zeros(1, 14, 14), VIEW.geometry((width, height), 16))
    for as_released in (False, True):
        box = place_box(image, found, as_released)
        assert box.tolist() == pytest.approx(plain_box(image, (width, height), as_released), abs=1e-6)
        rows, columns = grid_patches(box, 3, 16, (14, 14))
        assert min(rows.min(), columns.min()) >= 0
        assert max(rows.max(), columns.max()) <= 13


def test_released_boxes_are_right_on_squares_only():
    def boxes(width, height):
        found = PatchFeatures(torch.zeros(1, 14, 14), VIEW.geometry((width, height), 16))
        image = BoxedImage(None, (width, height), (width / 4, height / 4, width / 2, height / 2), "cat")
        return [place_box(image, found, as_released).tolist() for as_released in (False, True)]

    assert boxes(300, 300) == [[48, 48, 112, 112]] * 2
    assert boxes(600, 300) == [[0, 48, 112, 112], [48, 48, 112, 112]]


def test_votes_are_weighted_and_equal_ones_go_to_the_lower_class():
    labels = torch.tensor([[2, 1, 1], [2, 1, 1], [2, 0, 1]])
    similarities = torch.tensor([[0.9, 0.5, 0.5], [0.9, 0.88, 0.88], [0.5, 0.5, 0.5]])
    assert vote(similarities, labels, 3, 0.07).tolist() == [2, 1, 0]


def test_no_temperature_overflows():
    assert vote(torch.tensor([[1.0, 0.5]]), torch.tensor([[1, 0]]), 2, 1e-6).tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": ()}, r"neighbours=\(\): give different numbers of 1 or more"),
        ({"neighbours": (0, 1)}, r"neighbours=\(0, 1\): give different"),
        ({"neighbours": (5, 5)}, r"neighbours=\(5, 5\): give different"),
        ({"temperature": 0.0}, "temperature=0.0: give a number above 0"),
        ({"grid": 0}, "grid=0: give 1 or more"),
    ],
)
def test_refuses_options_that_mean_nothing(options, message):
    with pytest.raises(ConfigError, match=message):
        BoxKnn(**options)


def test_the_released_placement_needs_the_released_view(vit, images):
    features = ImageFeatures(vit, "weights", FeatureOptions(view=Resize(64)))
    with pytest.raises(ConfigError, match="as_released=True is about the view ResizeCenterCrop; use that one"):
        box_knn(features, images, images, BoxKnn(as_released=True))
