"""The miniature UAVDT: the official files, and that what they say is true of the pictures."""

import json
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from flsl_bench.datasets import miniature_uavdt, uavdt
from flsl_bench.datasets.miniature import make_davis, make_uavdt
from flsl_bench.datasets.miniature_uavdt import SEQUENCES, uavdt_frames
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.metrics.coco import average_precision
from flsl_bench.metrics.uavdt_coco import official_score, read_truth

FRAMES = 8
WIDTH, HEIGHT = 288, 160
NAMES = [name for names in SEQUENCES.values() for name in names]

# Du et al., ECCV 2018, section 3: hidden and outer shares of each level.
HIDDEN = {1: (0.0, 0.01), 4: (0.01, 0.3), 3: (0.3, 0.7), 2: (0.7, 1.0)}
OUTER = {1: (0.0, 0.01), 3: (0.01, 0.3), 2: (0.3, 0.5)}
SLACK = 0.1  # a whole vehicle has more or fewer pixels as it lies between them


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_uavdt(tmp_path_factory.mktemp("data") / "uavdt")


@pytest.fixture(scope="module")
def flights():
    """The frames of every sequence."""
    return {name: list(uavdt_frames(name)) for name in NAMES}


@pytest.fixture(scope="module")
def truths(flights):
    """All truths with their frames."""
    return [(frame, truth) for frames in flights.values() for frame in frames for truth in frame.truths]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def content(root, split):
    return json.loads((root / f"annotations/uavdt_{split}.json").read_text())


def lines(root, name, kind):
    text = (root / f"GT/{name}_gt_{kind}.txt").read_text()
    return [tuple(map(int, line.split(","))) for line in text.splitlines()]


def pixels(frame, truth):
    """Visible pixels of a vehicle."""
    return np.count_nonzero(frame.visible == truth.track)


def in_full(frames):
    """Pixels of each vehicle, from the frames where nothing of it is hidden or cut off."""
    counts = defaultdict(list)
    for frame in frames:
        for truth in frame.truths:
            if truth.occlusion == truth.out_of_view == 1:
                counts[truth.track].append(pixels(frame, truth))
    return {track: np.median(values) for track, values in counts.items()}


def test_the_sequences_are_of_the_official_split():
    for split, names in SEQUENCES.items():
        assert set(names) <= set(uavdt.SEQUENCES[split])


def test_the_layout_is_uavdts(root):
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    expected = {f"GT/{name}_gt_{kind}.txt" for name in NAMES for kind in ("whole", "ignore")}
    expected |= {f"UAV-benchmark-M/{name}/img{i:06d}.jpg" for name in NAMES for i in range(1, FRAMES + 1)}
    assert found == expected | {"annotations/uavdt_train.json", "annotations/uavdt_test.json", "miniature.json"}


@pytest.mark.parametrize("name", NAMES)
def test_the_files_hold_the_flight(root, flights, name):
    expected = [
        (number, t.track, *t.box, t.out_of_view, t.occlusion, t.category)
        for number, frame in enumerate(flights[name], start=1)
        for t in frame.truths
    ]
    assert lines(root, name, "whole") == expected
    regions = [(i, 1, *f.region, 1, -1, -1) for i, f in enumerate(flights[name], start=1) if f.region]
    assert lines(root, name, "ignore") == regions
    for number, frame in enumerate(flights[name], start=1):
        with Image.open(root / f"UAV-benchmark-M/{name}/img{number:06d}.jpg") as image:
            assert image.size == (WIDTH, HEIGHT)
            assert np.abs(np.asarray(image, np.float32) - frame.image).mean() < 8  # what JPEG loses


@pytest.mark.parametrize("split", SEQUENCES)
def test_the_json_holds_what_the_files_say(root, split):
    found = content(root, split)
    assert len(found["images"]) == FRAMES * len(SEQUENCES[split])
    boxes = sum(len(lines(root, name, "whole")) for name in SEQUENCES[split])
    regions = sum(len(lines(root, name, "ignore")) for name in SEQUENCES[split])
    assert boxes > 10 * len(found["images"])
    assert regions > 0
    assert [a["iscrowd"] for a in found["annotations"]].count(0) == boxes
    assert [a["iscrowd"] for a in found["annotations"]].count(1) == 3 * regions


def test_every_category_and_level_occurs_in_both_splits(root):
    for split in SEQUENCES:
        boxes = [a for a in content(root, split)["annotations"] if not a["iscrowd"]]
        assert {a["category_id"] for a in boxes} == set(uavdt.CATEGORIES)
        assert {a["out_of_view"] for a in boxes} == set(uavdt.OUT_OF_VIEW)
        assert {a["occlusion"] for a in boxes} >= set(uavdt.OCCLUSION) - {2}
    assert 2 in {a["occlusion"] for split in SEQUENCES for a in content(root, split)["annotations"] if not a["iscrowd"]}


def test_a_box_in_full_sight_is_the_extent_of_its_pixels(truths):
    whole = [(f, t) for f, t in truths if t.occlusion == t.out_of_view == 1 and not touches_border(t)]
    assert len(whole) > 500
    for frame, truth in whole:
        rows, columns = np.nonzero(frame.visible == truth.track)
        x, y, w, h = truth.box
        extent = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose((x, y, x + w, y + h), extent, atol=1)  # a leaf may hide the last pixel


def touches_border(truth):
    x, y, w, h = truth.box
    return x <= 0 or y <= 0 or x + w >= WIDTH or y + h >= HEIGHT


def test_boxes_run_over_the_border_by_a_pixel_and_no_more(truths):
    corners = np.array([(t.box[0], t.box[1], t.box[0] + t.box[2], t.box[1] + t.box[3]) for _, t in truths])
    assert corners[:, :2].min() == -1
    assert corners[:, 2].max() == WIDTH + 1
    assert corners[:, 3].max() == HEIGHT + 1


def test_what_is_out_of_view_touches_the_border(truths):
    assert all(touches_border(truth) for _, truth in truths if truth.out_of_view != 1)


@pytest.mark.parametrize(
    ("limits", "level", "other"), [(HIDDEN, "occlusion", "out_of_view"), (OUTER, "out_of_view", "occlusion")]
)
def test_levels_are_those_of_the_lost_pixels(flights, limits, level, other):
    checked = set()
    for frames in flights.values():
        whole = in_full(frames)
        for frame in frames:
            for truth in frame.truths:
                if getattr(truth, other) == 1 and truth.track in whole:
                    lost = 1 - pixels(frame, truth) / whole[truth.track]
                    low, high = limits[getattr(truth, level)]
                    assert low - SLACK <= lost <= high + SLACK
                    checked.add(getattr(truth, level))
    assert len(checked) >= 3


def test_vehicles_move(flights):
    for frames in flights.values():
        first, last = ({t.track: t for t in frame.truths} for frame in (frames[0], frames[-1]))
        moved = [np.subtract(first[i].box[:2], last[i].box[:2]) for i in first.keys() & last.keys()]
        assert max(np.abs(step).max() for step in moved) > 8
        assert len({tuple(step) for step in moved}) > 2  # not the camera alone


def test_no_annotated_vehicle_is_in_an_ignore_region_but_others_are(flights):
    regions = 0
    for frames in flights.values():
        for frame in (frame for frame in frames if frame.region):
            x, y, w, h = frame.region
            assert 0 <= x < x + w <= WIDTH and 0 <= y < y + h <= HEIGHT
            assert not frame.visible[y : y + h, x : x + w].any()
            regions += w * h > 800 and frame.image[y : y + h, x : x + w].std() > 20  # not bare asphalt
    assert regions > 20


@pytest.mark.parametrize("split", SEQUENCES)
def test_the_truth_against_itself_scores_full_marks(root, split):
    found = content(root, split)
    perfect = [{**a, "score": 0.5} for a in found["annotations"] if not a["iscrowd"]]
    assert average_precision(found, perfect, "bbox")["AP"] == pytest.approx(100)
    score = official_score(read_truth(found), perfect)
    assert score.ap == pytest.approx(100)


def test_two_runs_give_the_same_bytes_and_another_seed_does_not(root, tmp_path):
    assert files(make_uavdt(tmp_path / "again")) == files(root)
    other = files(make_uavdt(tmp_path / "other", frames=2, seed=1))
    images = [path for path in other if path.suffix == ".jpg"]
    assert images and all(other[path] != files(root)[path] for path in images)


def test_the_default_is_a_few_megabytes(root):
    assert sum(map(len, files(root).values())) < 4e6


@pytest.mark.parametrize(("size", "frames"), [((64, 64), 1), ((480, 200), 2)])
def test_other_sizes_and_lengths(size, frames):
    for name in ("M0101", "M0205"):
        flight = list(uavdt_frames(name, size=size, frames=frames))
        assert len(flight) == frames
        assert flight[0].image.shape == (*size[::-1], 3)
        assert flight[0].truths


def test_a_finished_miniature_is_left_alone_and_others_are_refused(root, tmp_path, monkeypatch):
    monkeypatch.setattr(miniature_uavdt, "uavdt_frames", lambda *_, **__: pytest.fail("made anew"))
    assert make_uavdt(root) == root
    with pytest.raises(DataError, match="holds another miniature"):
        make_uavdt(root, seed=1)
    davis = make_davis(tmp_path / "davis", frames=4, size=(86, 64))
    with pytest.raises(DataError, match=r"holds another miniature.*'davis'"):
        make_uavdt(davis)


@pytest.mark.parametrize("wrong", [{"size": (160, 288)}, {"size": (80, 60)}, {"frames": 0}, {"seed": -1}])
def test_numbers_that_make_no_flights_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="give at least one frame, a height of at least 64 pixels"):
        make_uavdt(tmp_path / "uavdt", **wrong)
    assert not list(tmp_path.iterdir())
