"""The miniature ADE20K: its layout, its labels, and that every class occurs."""

import numpy as np
import pytest
from PIL import Image

from flsl_bench.datasets.ade20k import inspect_split, official_splits, read_label_map
from flsl_bench.datasets.ade20k_classes import CLASSES
from flsl_bench.datasets.miniature import make_ade20k
from flsl_bench.datasets.miniature_ade20k import OBJECTS, OUTDOORS, ade20k_scene
from flsl_bench.errors import ConfigError, DataError

COUNTS = {"train": 12, "val": 6}
SPLITS = {"train": "training", "val": "validation"}
EXPECTED = {"sky", "wall", "floor", *OUTDOORS.values(), *filter(None, OBJECTS.values())}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "ade20k"
    return make_ade20k(folder, train_images=COUNTS["train"], val_images=COUNTS["val"])


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names_in(labels):
    return {CLASSES[label - 1] for label in np.unique(labels) if label}


@pytest.mark.parametrize("split", COUNTS)
def test_the_layout_is_that_of_the_challenge(root, split):
    stems = {f"ADE_{split}_{number:08d}" for number in range(1, COUNTS[split] + 1)}
    for kind, suffix in (("images", "jpg"), ("annotations", "png")):
        assert {path.name for path in (root / kind / SPLITS[split]).iterdir()} == {f"{s}.{suffix}" for s in stems}
    assert inspect_split(official_splits(root)[split]).images == COUNTS[split]


@pytest.mark.parametrize("split", COUNTS)
def test_the_files_hold_the_scenes(root, split):
    splits = official_splits(root)[split]
    for index in range(COUNTS[split]):
        scene = ade20k_scene(split, index)
        name = f"ADE_{split}_{index + 1:08d}"
        np.testing.assert_array_equal(read_label_map(splits.label_maps / f"{name}.png"), scene.labels)
        with Image.open(splits.images / f"{name}.jpg") as image:
            assert np.abs(np.asarray(image).astype(int) - scene.image).mean() < 8  # JPEG


@pytest.mark.parametrize("split", COUNTS)
def test_both_splits_have_every_class_in_the_default_size(split):
    scenes = [ade20k_scene(split, index) for index in range(24)]
    assert set().union(*(names_in(scene.labels) for scene in scenes)) == EXPECTED
    unlabelled = np.mean([(scene.labels == 0).mean() for scene in scenes])
    assert 0.02 < unlabelled < 0.2


def test_surfaces_are_where_they_belong():
    for index in range(12):
        labels = ade20k_scene("train", index).labels
        assert labels.shape == ((160, 192) if index % 3 else (192, 160))
        above, below = (CLASSES[np.bincount(row[row > 0]).argmax() - 1] for row in (labels[:2], labels[-2:]))
        assert above in ({"wall"} if index % 4 == 1 else {"sky"}) | set(OBJECTS.values())
        assert below in ({"floor"} if index % 4 == 1 else set(OUTDOORS.values())) | set(OBJECTS.values())


def test_objects_have_an_unlabelled_outline():
    objects = {CLASSES.index(name) + 1 for name in OBJECTS.values() if name}
    for index in range(12):
        labels = ade20k_scene("val", index).labels
        is_object = np.isin(labels, list(objects))
        for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
            touching = (is_object[first] != is_object[second]) & (labels[first] > 0) & (labels[second] > 0)
            assert not touching.any()


def test_the_same_parameters_give_the_same_files_and_another_seed_others(tmp_path):
    first, again, other = (
        files(make_ade20k(tmp_path / str(number), train_images=2, val_images=1, size=(96, 80), seed=seed))
        for number, seed in enumerate((0, 0, 1))
    )
    assert first == again
    assert first.keys() == other.keys() and all(first[name] != other[name] for name in first)


def test_what_is_there_stays_and_is_not_mixed_with_another(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    make_ade20k(root, train_images=COUNTS["train"], val_images=COUNTS["val"])
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(DataError, match=f"{root}: holds another miniature"):
        make_ade20k(root, train_images=COUNTS["train"], val_images=COUNTS["val"], seed=1)


@pytest.mark.parametrize("wrong", [{"size": (63, 200)}, {"train_images": 0}, {"val_images": 0}, {"seed": -1}])
def test_numbers_that_make_no_pictures(tmp_path, wrong):
    with pytest.raises(ConfigError, match="both sides must be at least 64 pixels, both splits need an image"):
        make_ade20k(tmp_path / "ade20k", **wrong)
    assert not (tmp_path / "ade20k").exists()
