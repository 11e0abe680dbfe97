"""Dense retrieval against loops over patches and pixels, and its edges."""

import numpy as np
import pytest
import torch

from flsl_bench.datasets.semantic import VOID, SemanticImages
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes.dense_retrieval import DenseRetrieval, choose_patches, dense_retrieval, transfer
from flsl_bench.probes.image_features import FeatureOptions, ImageFeatures, Resize, ResizeCenterCrop
from tests.probes.drawn_segmentation import CLASSES, draw, plain_areas, plain_patches


@pytest.fixture
def features(vit):
    return ImageFeatures(vit, "weights", FeatureOptions(view=Resize(64)))


@pytest.fixture
def splits(tmp_path):
    return draw(tmp_path / "train", 4), draw(tmp_path / "val", 3, seed=1)


def plain_predictor(features, train, k, temperature):
    bank = [
        (v / np.linalg.norm(v), c / c.sum()) for i in train.images for v, c in plain_patches(features, i) if c.any()
    ]

    def predict(tokens):
        result = []
        for token in tokens:
            near = sorted(((token / np.linalg.norm(token) @ v, i) for i, (v, _) in enumerate(bank)), reverse=True)[:k]
            weights = [np.exp(similarity / temperature) for similarity, _ in near]
            result.append(sum(w * bank[i][1] for w, (_, i) in zip(weights, near, strict=True)) / sum(weights))
        return np.array(result)

    return predict, len(bank)


@pytest.mark.parametrize(("k", "temperature"), [(30, 0.02), (1, 0.02), (7, 0.5)])
def test_areas_equal_a_plain_reference(features, splits, k, temperature):
    result = dense_retrieval(features, *splits, DenseRetrieval(k, temperature), engine="torch")
    predict, patches = plain_predictor(features, splits[0], k, temperature)
    areas = plain_areas(features, splits[1], predict)
    found = np.stack([result.areas.intersection, result.areas.prediction, result.areas.truth])
    assert np.array_equal(found, areas)
    assert (result.train_patches, result.train_images, result.val_images) == (patches, 4, 3)


def test_metrics_and_breakdowns(features, splits):
    result = dense_retrieval(features, *splits)
    iou = result.breakdowns()["IoU by class"]
    expected = 100 * result.areas.intersection / result.areas.union
    assert list(iou) == list(CLASSES)
    assert list(iou.values()) == pytest.approx(list(expected))
    assert next(iter(result.metrics())) == "mIoU"
    assert result.metrics()["mIoU"] == pytest.approx(expected.mean())


def test_faiss_equals_torch(features, splits):
    pytest.importorskip("faiss")
    scores = [dense_retrieval(features, *splits, engine=engine).metrics() for engine in ("faiss", "torch")]
    assert scores[0] == pytest.approx(scores[1])


def test_one_image_segments_itself(features, splits):
    one = SemanticImages(splits[0].images[:1], CLASSES)
    assert dense_retrieval(features, one, one, DenseRetrieval(neighbours=1)).metrics()["aAcc"] > 80


def test_each_image_is_passed_once_and_progress_is_told(features, splits):
    seen = []
    dense_retrieval(features, *splits, progress=lambda *call: seen.append(call))
    assert features.forward_passes == 7
    assert [seen[3], seen[6]] == [("training images", 4, 4), ("validation images", 3, 3)]


def test_the_bank_is_shared_evenly_and_follows_from_the_seed(features, splits):
    def run(seed):
        return dense_retrieval(features, *splits, DenseRetrieval(neighbours=5, max_patches=18, seed=seed))

    assert run(0).train_patches == 18
    assert np.array_equal(run(0).areas.intersection, run(0).areas.intersection)
    assert len({tuple(run(seed).areas.intersection) for seed in range(3)}) > 1


def test_less_room_than_images(features, splits):
    result = dense_retrieval(features, *splits, DenseRetrieval(neighbours=3, max_patches=3))
    assert result.train_patches == 3


class TestChoice:
    def choose(self, counts, most, seed=0):
        return choose_patches(torch.tensor(counts), most, torch.Generator().manual_seed(seed)).tolist()

    def test_patches_without_a_class_are_never_taken(self):
        assert self.choose([[0, 0], [1, 0], [0, 0], [0, 9]], 10) == [1, 3]
        assert self.choose([[0, 0], [1, 0], [0, 0], [0, 9]], 1) in ([1], [3])
        assert self.choose([[0, 0]], 1) == []

    def test_no_room(self):
        assert self.choose([[1, 0]], 0) == []

    def test_rare_classes_come_first(self):
        """u * 1 < u' * 99 with probability 1 - 1 / 198 for one patch; for the least of 99 others it is about a half."""
        counts = [[1, 0]] * 99 + [[0, 1]]
        rare = np.mean([99 in self.choose(counts, 5, seed) for seed in range(200)])
        assert rare > 0.95  # uniformly it would be 0.05

    def test_order_is_that_of_a_plain_reference(self):
        rng = np.random.default_rng(0)
        counts = rng.integers(0, 3, (40, 4)) * (rng.random((40, 1)) > 0.2)
        labelled = [i for i in range(40) if counts[i].any()]
        uniform = torch.rand(len(labelled), generator=torch.Generator().manual_seed(3)).tolist()
        frequency = [sum((counts[:, c] > 0).sum() for c in range(4) if counts[i, c]) for i in labelled]
        ranked = sorted(range(len(labelled)), key=lambda j: uniform[j] * frequency[j])
        assert self.choose(counts.tolist(), 12, 3) == sorted(labelled[j] for j in ranked[:12])


def test_transfer_of_equals_is_their_mean_whatever_their_number_of_pixels():
    shares = transfer(torch.tensor([[0.5, 0.5]]), torch.tensor([[[2, 0], [64, 64]]], dtype=torch.int16), 0.02)
    torch.testing.assert_close(shares, torch.tensor([[0.75, 0.25]]))


def test_all_void_to_learn_from(features, splits, tmp_path):
    with pytest.raises(DataError, match="no patch of the 2 training images has a class; name another split"):
        dense_retrieval(features, draw(tmp_path / "void", 2, void=True), splits[1])


def test_all_void_to_score_is_undefined(features, splits, tmp_path):
    result = dense_retrieval(features, splits[0], draw(tmp_path / "void", 2, void=True))
    assert result.metrics() == {"mIoU": None, "mAcc": None, "aAcc": None}
    assert set(result.breakdowns()["IoU by class"].values()) == {None}


def test_more_neighbours_than_patches(features, splits):
    with pytest.raises(ConfigError, match=r"neighbours=30: the bank has 9 labelled patches; give no more"):
        dense_retrieval(features, *splits, DenseRetrieval(max_patches=9))


@pytest.mark.parametrize("empty", [0, 1])
def test_no_images(features, splits, empty):
    with pytest.raises(DataError, match=f"no {('training', 'validation')[empty]} images; name another split"):
        dense_retrieval(features, *[SemanticImages((), CLASSES) if i == empty else s for i, s in enumerate(splits)])


def test_splits_of_different_classes(features, splits):
    with pytest.raises(DataError, match="4 training and 2 validation classes are not the same"):
        dense_retrieval(features, splits[0], SemanticImages(splits[1].images, CLASSES[:2]))


def test_a_view_of_a_part(vit, splits):
    features = ImageFeatures(vit, "weights", FeatureOptions(view=ResizeCenterCrop(64, 48)))
    with pytest.raises(
        ConfigError, match="the view shows a part of each image, and all of it is labelled; use the view"
    ):
        dense_retrieval(features, *splits)


def test_a_label_map_of_another_size(features, splits):
    image = splits[0].images[0]
    wrong = type(image)(image.path, image.labels, lambda path: np.full((5, 6), VOID, np.uint8))
    with pytest.raises(DataError, match=r"0_labels\.png: label map of 6x5 for an image of 64x48 pixels"):
        dense_retrieval(features, SemanticImages((wrong,), CLASSES), splits[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 0}, "neighbours=0: give 1 or more"),
        ({"max_patches": 0}, "max_patches=0: give 1 or more"),
        ({"temperature": float("nan")}, "temperature=nan: give a number above 0"),
    ],
)
def test_refuses_options_that_mean_nothing(options, message):
    with pytest.raises(ConfigError, match=message):
        DenseRetrieval(**options)
