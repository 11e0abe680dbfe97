"""The miniature DAVIS: its layout, its truth, and that what its clips are for happens in them."""

import itertools

import numpy as np
import pytest
from PIL import Image

from flsl_bench.datasets import miniature_davis
from flsl_bench.datasets.cutouts import compose
from flsl_bench.datasets.davis import PALETTE, object_count, read_mask, sequence, sequences
from flsl_bench.datasets.miniature import make_coco, make_davis
from flsl_bench.datasets.miniature_davis import CLIPS, davis_clip
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.tasks.davis_scoring import score

FRAMES = 16
WIDTH, HEIGHT = 288, 160
SEEDS = range(4)
TIMES = range(FRAMES)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_davis(tmp_path_factory.mktemp("data") / "davis")


@pytest.fixture(scope="module", params=CLIPS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def clips():
    """The frames of a clip, made once: `clips(name, seed)`."""
    made = {}

    def frames(name, seed=0):
        if (name, seed) not in made:
            made[name, seed] = list(davis_clip(name, seed=seed))
        return made[name, seed]

    return frames


def areas(frames, number):
    """Visible pixels of object `number`, int [T]."""
    return np.array([np.count_nonzero(frame.ids == number) for frame in frames])


def alone(frame, number):
    """Object `number` as if nothing hid it, bool [H, W]."""
    return compose(np.zeros_like(frame.image), [frame.placements[number - 1]])[1] == 1


def centroid(mask):
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_layout_is_that_of_davis(root):
    train, val = sequences(root, "train"), sequences(root, "val")
    assert train and len(val) == 3
    assert not set(train) & set(val)
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        found = {path.relative_to(root / kind / "480p").as_posix() for path in (root / kind).rglob("*.*")}
        assert found == {f"{clip}/{t:05d}.{suffix}" for clip in train + val for t in TIMES}


def test_the_files_hold_the_clip(root, name, clips):
    clip = sequence(root, name)
    assert len(clip.images()) == len(clip.masks()) == FRAMES
    for image_path, mask_path, frame in zip(clip.images(), clip.masks(), clips(name), strict=True):
        np.testing.assert_array_equal(read_mask(mask_path), frame.ids)
        with Image.open(image_path) as image:
            assert image.mode == "RGB"
            assert image.size == (WIDTH, HEIGHT) == frame.ids.shape[::-1]
            assert np.abs(np.asarray(image, np.float32) - frame.image).mean() < 8  # what JPEG loses
        with Image.open(mask_path) as mask:
            assert mask.mode == "P"
            np.testing.assert_array_equal(np.reshape(mask.getpalette(), (-1, 3)), PALETTE)


def test_all_objects_are_in_the_first_mask(root, name):
    clip = sequence(root, name)
    first = clip.first_mask()
    numbers = list(range(len(CLIPS[name].actors) + 1))
    assert np.unique(first).tolist() == numbers and len(numbers) > 2
    for path in clip.masks():
        assert set(np.unique(read_mask(path))) <= set(numbers)


def test_a_clip_of_val_has_three_objects(root):
    assert max(object_count(sequence(root, name).first_mask()) for name in sequences(root, "val")) == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_objects_are_many_patches_large_and_apart_at_first(name, seed, clips):
    first = clips(name, seed)[0]
    patch = (16 * HEIGHT / 480) ** 2  # in pixels of the frame, after scaling to the protocol's short side
    for number in range(1, len(first.placements) + 1):
        visible = np.count_nonzero(first.ids == number)
        assert visible > 50 * patch
        assert visible > 0.95 * alone(first, number).sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_later_objects_hide_earlier_ones(name, seed, clips):
    for frame in clips(name, seed)[::3]:
        expected = np.zeros_like(frame.ids)
        for number in range(1, len(frame.placements) + 1):
            expected[alone(frame, number)] = number
        np.testing.assert_array_equal(frame.ids, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_of_the_people_passes_in_front_of_the_other(seed, clips):
    frames = clips("people-crossing", seed)
    whole = np.array([alone(frame, 1).sum() for frame in frames])
    seen = areas(frames, 1) / whole
    assert min(seen[:3].min(), seen[-2:].min()) > 0.95
    assert 0.05 < seen.min() < 0.3
    hiding = int(seen.argmin())
    both = alone(frames[hiding], 1) & alone(frames[hiding], 2)
    assert both.sum() > 0.7 * whole[hiding]
    assert (frames[hiding].ids[both] == 2).all()
    sides = [np.sign(centroid(alone(f, 1))[0] - centroid(alone(f, 2))[0]) for f in (frames[0], frames[-1])]
    assert sides[0] == -sides[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cup_leaves_the_frame_and_stays_away(seed, clips):
    frames = clips("cat-cup", seed)
    seen = areas(frames, 2) > 0
    last = int(np.flatnonzero(seen)[-1])
    assert seen[: last + 1].all() and 8 <= last <= FRAMES - 3
    assert (areas(frames, 1) > 0).all()
    at_the_edge = (frames[last].ids[:, [0, -1]] == 2).any()
    assert at_the_edge


@pytest.mark.parametrize("seed", SEEDS)
def test_motion_is_smooth(name, seed, clips):
    frames = clips(name, seed)
    for number in range(1, len(frames[0].placements) + 1):
        masks = [alone(frame, number) for frame in frames]
        # The centroid of the last bit to leave the frame, the cup's handle, says nothing about the cup.
        way = np.array([centroid(mask) for mask in masks if mask.sum() > 0.3 * masks[0].sum()])
        steps = np.diff(way, axis=0)
        assert np.linalg.norm(steps, axis=1).max() < 0.05 * WIDTH
        assert np.abs(np.diff(steps, axis=0)).max() < 0.03 * WIDTH
        assert np.linalg.norm(way[-1] - way[0]) > 0.02 * WIDTH
        scales = np.array([frame.placements[number - 1].scale for frame in frames])
        angles = np.array([frame.placements[number - 1].angle for frame in frames])
        assert np.abs(np.diff(np.log(scales))).max() < 0.02
        assert np.abs(np.diff(angles)).max() < 3


def test_ground_and_light_change_a_little_between_frames(name, clips):
    for before, after in itertools.pairwise(clips(name)):
        ground = (before.ids == 0) & (after.ids == 0)
        change = np.abs(after.image.astype(np.float32) - before.image)[ground]
        assert 0.1 < change.mean() < 40
    brightness = [frame.image[frame.ids == 0].mean() for frame in clips(name)]
    assert np.abs(np.diff(brightness)).max() < 0.05 * brightness[0]


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_truth_against_itself_scores_one(root, split):
    scores = score(root / "Annotations/480p", root, split=split, workers=1)
    assert not scores.failures
    for table in (scores.summary(), *scores.per_sequence().values()):
        decays = {"J-Decay", "F-Decay"}
        assert table == {key: 0.0 if key in decays else 1.0 for key in table} and decays < table.keys()


def test_two_runs_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    first, second = (files(make_davis(tmp_path / folder, frames=4)) for folder in ("a", "b"))
    assert first == second
    other = files(make_davis(tmp_path / "c", frames=4, seed=1))
    assert other.keys() == first.keys()
    assert {path.name for path in first if other[path] == first[path]} == {"train.txt", "val.txt"}


def test_a_clip_does_not_depend_on_what_was_made_before(clips):
    frames = clips("street-trio")
    for once, again in zip(frames, davis_clip("street-trio"), strict=True):
        np.testing.assert_array_equal(once.image, again.image)
        np.testing.assert_array_equal(once.ids, again.ids)


def test_the_default_is_a_few_megabytes(root):
    assert sum(map(len, files(root).values())) < 4e6


@pytest.mark.parametrize("size, frames", [((86, 64), 4), ((480, 200), 6), ((128, 96), 40)])
def test_other_sizes_and_lengths_tell_the_same(size, frames):
    for name in CLIPS:
        clip = list(davis_clip(name, size=size, frames=frames))
        assert len(clip) == frames
        assert clip[0].image.shape == (*size[::-1], 3)
        assert np.unique(clip[0].ids).tolist() == list(range(len(CLIPS[name].actors) + 1))
    assert areas(davis_clip("cat-cup", size=size, frames=frames), 2)[-1] == 0
    hidden = areas(davis_clip("people-crossing", size=size, frames=frames), 1)
    assert hidden.min() < 0.6 * hidden[0]


def test_a_finished_miniature_is_left_alone(root, monkeypatch):
    monkeypatch.setattr(miniature_davis, "davis_clip", lambda *_, **__: pytest.fail("made anew"))
    assert make_davis(root) == root


def test_other_parameters_and_lost_files_are_refused(tmp_path):
    root = make_davis(tmp_path / "davis", frames=4, size=(86, 64))
    with pytest.raises(DataError, match="holds another miniature"):
        make_davis(root, frames=5, size=(86, 64))
    (root / "JPEGImages/480p/cat-cup/00000.jpg").unlink()
    with pytest.raises(DataError, match="lost or changed"):
        make_davis(root, frames=4, size=(86, 64))


def test_a_miniature_of_coco_is_refused(tmp_path):
    root = make_coco(tmp_path / "data", train_images=1, val_images=1)
    with pytest.raises(DataError, match=r"holds another miniature.*'coco'.*name another folder"):
        make_davis(root)


def test_an_unknown_folder_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match=rf"{tmp_path}: exists and is not a miniature"):
        make_davis(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(miniature_davis, "_write_splits", stop)
    with pytest.raises(KeyboardInterrupt):
        make_davis(tmp_path / "davis", frames=4, size=(86, 64))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"size": (160, 288)}, {"size": (80, 60)}, {"frames": 3}, {"seed": -1}])
def test_numbers_that_make_no_clips_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="give at least 4 frames, a height of at least 64 pixels"):
        make_davis(tmp_path / "davis", **wrong)
    assert not list(tmp_path.iterdir())
