"""The linear probe against a plain training in float64, and its edges."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flsl_bench.datasets.semantic import SemanticImages
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes.image_features import FeatureCache, FeatureOptions, ImageFeatures, Resize
from flsl_bench.probes.linear_segmentation import LinearSegmentation, linear_segmentation, patch_loss
from tests.probes.drawn_segmentation import CLASSES, draw, plain_areas, plain_patches

STRONG = LinearSegmentation(epochs=60, batch=2, learning_rate=0.05)


@pytest.fixture
def features(vit):
    return ImageFeatures(vit, "weights", FeatureOptions(view=Resize(64)))


@pytest.fixture
def splits(tmp_path):
    return draw(tmp_path / "train", 4), draw(tmp_path / "val", 3, seed=1)


def areas_of(result):
    return np.stack([result.areas.intersection, result.areas.prediction, result.areas.truth])


def plain_training(x, counts, epochs, rate, decay, seed):
    """Batch norm and a linear layer trained on one batch an epoch by AdamW (arXiv 1711.05101, algorithm 2)."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.empty(counts.shape[1], x.shape[1]).normal_(0, 0.01, generator=generator).double().numpy()
    parameters = [weight, np.zeros(counts.shape[1])]
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in parameters]
    mean, variance = np.zeros(x.shape[1]), np.ones(x.shape[1])
    normed = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    for step in range(epochs):
        mean, variance = 0.9 * mean + 0.1 * x.mean(0), 0.9 * variance + 0.1 * x.var(0, ddof=1)
        logits = normed @ parameters[0].T + parameters[1]
        share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        error = (share * counts.sum(1, keepdims=True) - counts) / counts.sum()
        now = rate * (1 - step / epochs)
        for i, gradient in enumerate((error.T @ normed, error.sum(0))):
            parameters[i] = parameters[i] * (1 - now * decay)
            moments[i] = [0.9 * moments[i][0] + 0.1 * gradient, 0.999 * moments[i][1] + 0.001 * gradient**2]
            first, second = moments[i][0] / (1 - 0.9 ** (step + 1)), moments[i][1] / (1 - 0.999 ** (step + 1))
            parameters[i] = parameters[i] - now * first / (np.sqrt(second) + 1e-8)
    return lambda tokens: (tokens - mean) / np.sqrt(variance + 1e-5) @ parameters[0].T + parameters[1]


def test_areas_equal_a_plain_training(features, splits):
    options = LinearSegmentation(epochs=25, batch=4, learning_rate=0.02, weight_decay=0.1, seed=5)
    result = linear_segmentation(features, *splits, options)
    x, counts = map(np.array, zip(*(p for i in splits[0].images for p in plain_patches(features, i)), strict=True))
    predict = plain_training(x, counts, 25, 0.02, 0.1, seed=5)
    areas = plain_areas(features, splits[1], predict)
    assert np.abs(areas_of(result) - areas).max() <= 2  # pixels whose two best classes all but tie
    assert len(set(areas[1].tolist())) > 1
    assert (result.train_patches, result.train_images, result.val_images) == (counts.any(1).sum(), 4, 3)


def test_loss_is_the_cross_entropy_of_pixels():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(6, 4)).astype(np.float32))
    counts = torch.from_numpy(rng.integers(0, 5, (6, 4)))
    pixels = [(i, k) for i in range(6) for k in range(4) for _ in range(counts[i, k])]
    expected = F.cross_entropy(logits[[i for i, _ in pixels]], torch.tensor([k for _, k in pixels]))
    torch.testing.assert_close(patch_loss(logits, counts), expected)


def test_it_learns(features, splits):
    trained = linear_segmentation(features, splits[0], splits[0], STRONG).metrics()
    assert trained["mIoU"] > 60
    assert trained["mIoU"] > 20 + linear_segmentation(features, splits[0], splits[0]).metrics()["mIoU"]


@pytest.mark.parametrize("keep_bytes", [0, 8_000])
def test_result_does_not_depend_on_what_is_kept(features, splits, keep_bytes):
    options = LinearSegmentation(epochs=3, batch=2, learning_rate=0.05)
    kept, read = (linear_segmentation(features, *splits, options, keep_bytes=n) for n in (4 << 30, keep_bytes))
    assert np.array_equal(areas_of(kept), areas_of(read))


def test_kept_or_cached_features_are_passed_once(vit, splits, tmp_path):
    options = LinearSegmentation(epochs=3, batch=2)
    for keep_bytes in (4 << 30, 8_000, 0):
        cache = FeatureCache(tmp_path / f"cache{keep_bytes}")
        features = ImageFeatures(vit, "weights", FeatureOptions(view=Resize(64)), cache=cache)
        linear_segmentation(features, *splits, options, keep_bytes=keep_bytes)
        assert features.forward_passes == 7


def test_one_seed_one_result(features, splits):
    def run(seed):
        torch.manual_seed(torch.seed())  # the global generator has no say
        return areas_of(linear_segmentation(features, *splits, LinearSegmentation(epochs=2, batch=1, seed=seed)))

    assert np.array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))


def test_progress_is_told(features, splits):
    seen = []
    linear_segmentation(
        features, *splits, LinearSegmentation(epochs=2, batch=3), progress=lambda *call: seen.append(call)
    )
    assert [seen[3], seen[7], seen[-1]] == [
        ("training images", 4, 4),
        ("steps", 4, 4),
        ("validation images", 3, 3),
    ]


def test_one_image(features, splits):
    one = SemanticImages(splits[0].images[:1], CLASSES)
    assert linear_segmentation(features, one, one, STRONG).metrics()["aAcc"] > 80


def test_batches_without_labels_teach_nothing(features, splits, tmp_path):
    void = draw(tmp_path / "void", 2, void=True)
    mixed = SemanticImages(splits[0].images + void.images, CLASSES)
    scores = linear_segmentation(features, mixed, splits[1], LinearSegmentation(epochs=3, batch=1)).metrics()
    assert all(0 <= value <= 100 for value in scores.values())


def test_all_void_to_learn_from(features, splits, tmp_path):
    with pytest.raises(DataError, match="no patch of the 2 training images has a class; name another split"):
        linear_segmentation(features, draw(tmp_path / "void", 2, void=True), splits[1])


def test_all_void_to_score_is_undefined(features, splits, tmp_path):
    void = draw(tmp_path / "void", 2, void=True)
    result = linear_segmentation(features, splits[0], void, LinearSegmentation(epochs=1))
    assert result.metrics() == {"mIoU": None, "mAcc": None, "aAcc": None}


def test_a_batch_of_one_patch(vit, splits):
    features = ImageFeatures(vit, "weights", FeatureOptions(view=Resize(16)))
    with pytest.raises(ConfigError, match="a batch of a single patch cannot be normalised; use a larger view or batch"):
        linear_segmentation(features, SemanticImages(splits[0].images[2:3], CLASSES), splits[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs=0: give 1 or more"),
        ({"batch": 0}, "batch=0: give 1 or more"),
        ({"learning_rate": 0.0}, r"learning_rate=0\.0: give a number above 0"),
        ({"weight_decay": -1.0}, r"weight_decay=-1\.0: give 0 or more"),
    ],
)
def test_refuses_options_that_mean_nothing(options, message):
    with pytest.raises(ConfigError, match=message):
        LinearSegmentation(**options)
