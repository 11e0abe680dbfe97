"""Similarities within objects and between them against loops over all pairs."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flsl_bench.datasets.objects import ade20k_objects, coco_objects
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes.image_features import FeatureOptions, ImageFeatures, Resize
from flsl_bench.probes.object_similarity import (
    BACKGROUND,
    KINDS,
    NONE,
    ObjectSimilarity,
    SimilarityCounter,
    object_similarity,
    patch_owners,
)
from tests.probes.drawn_objects import box, noise_picture, object_image, object_images, patch_features, random_scene

GRID = (4, 5)


def plain_owners(masks, void, grid, coverage):
    """Owners by supersampling: every pixel is divided until patches are made of whole parts."""
    height, width = void.shape

    def share(mask):
        fine = np.repeat(np.repeat(mask, grid[0], axis=0), grid[1], axis=1)
        return fine.reshape(grid[0], height, grid[1], width).mean(axis=(1, 3)).ravel()

    union = np.any([*masks.values(), np.zeros_like(void)], axis=0)
    shares = [*(share(mask) for mask in masks.values()), share(~union & ~void), share(void & ~union)]
    names = [*range(len(masks)), BACKGROUND, NONE]
    owners = []
    for patch in zip(*shares, strict=True):
        largest = max(patch)
        first = next(i for i, value in enumerate(patch) if value > largest - 1e-7)
        owners.append(names[first] if largest > coverage + 1e-7 else NONE)
    return np.array(owners)


def plain_pairs(tokens, owners):
    """Cosines of all pairs by kind: within one object, of two objects, of object and background."""
    unit = tokens.reshape(len(tokens), -1).astype(np.float64)
    unit = unit / np.linalg.norm(unit, axis=0)
    pairs = ([], [], [])
    for i, j in itertools.combinations(range(unit.shape[1]), 2):
        owned = [owner for owner in (owners[i], owners[j]) if owner >= 0]
        if NONE in (owners[i], owners[j]) or not owned:
            continue
        kind = 2 if len(owned) == 1 else int(owned[0] != owned[1])
        pairs[kind].append(float(unit[:, i] @ unit[:, j]))
    return pairs


def plain_auroc(positive, negative):
    if not positive or not negative:
        return None
    a, b = np.array(positive)[:, None], np.array(negative)
    return 100 * float(np.mean((a > b) + 0.5 * (a == b)))


def plain_metrics(pairs, bin_width):
    within, between = pairs[0], [*pairs[1], *pairs[2]]
    mean = [float(np.mean(values)) if values else None for values in (within, between)]
    overlap = None
    if within and between:
        edges = np.linspace(-1, 1, round(2 / bin_width) + 1)
        shares = [np.histogram(values, edges)[0] / len(values) for values in (within, between)]
        overlap = 100 * float(np.minimum(*shares).sum())
    return {
        "AUROC": plain_auroc(within, between),
        "AUROC-objects": plain_auroc(within, pairs[1]),
        "AUROC-background": plain_auroc(within, pairs[2]),
        "overlap": overlap,
        "gap": mean[0] - mean[1] if None not in mean else None,
        "mean-within": mean[0],
        "mean-between": mean[1],
    }


def scores_of(scenes, options=None):
    counter = SimilarityCounter(options)
    for i, (tokens, masks, void) in enumerate(scenes):
        counter.add(patch_features(tokens, void.shape[::-1]), object_image(f"{i}.jpg", masks, void=void))
    return counter.scores()


def pairs_of(scenes, coverage=0.5):
    every = [
        plain_pairs(tokens, plain_owners(masks, void, tokens.shape[1:], coverage)) for tokens, masks, void in scenes
    ]
    return [list(itertools.chain(*kind)) for kind in zip(*every, strict=True)]


class TestAgainstAPlainReference:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.sampled_from([0.1, 0.5]))
    def test_all_pairs(self, seed, coverage, bin_width):
        scenes = [random_scene(seed + i) for i in range(3)]
        scores = scores_of(scenes, ObjectSimilarity(coverage=coverage, bin_width=bin_width))
        pairs = pairs_of(scenes, coverage)
        assert scores.counts.sum(axis=1).tolist() == [len(kind) for kind in pairs]
        np.testing.assert_allclose(scores.sums, [sum(kind) for kind in pairs], atol=1e-4)
        expected = plain_metrics(pairs, bin_width)
        found = scores.metrics()
        assert found.keys() == expected.keys() | {"AUROC-error", "overlap-error", "gap-error"}
        for name, value in expected.items():
            if value is None:
                assert found[name] is None
            else:  # a pair at the edge of a bin may be in either
                tolerance = {"gap": 1e-5, "mean-within": 1e-5, "mean-between": 1e-5}
                assert found[name] == pytest.approx(value, abs=tolerance.get(name, 2.5))
                assert found.get(f"{name}-error", 0) == 0

    def test_many_pairs_closely(self):
        scenes = [random_scene(i, grid=(12, 12), shape=(96, 96)) for i in range(3)]
        found, expected = scores_of(scenes).metrics(), plain_metrics(pairs_of(scenes), 0.01)
        # One of 442 pairs at the edge of a bin, which float32 puts into the next one, moves the overlap by 0.23.
        assert found.pop("overlap") == pytest.approx(expected.pop("overlap"), abs=0.5)
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=0.02)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.5, 0.99]), st.sampled_from([(4, 5), (1, 1), (9, 3)]))
    def test_owners(self, seed, coverage, grid):
        _, masks, void = random_scene(seed, shape=(14, 17))
        image = object_image("a.jpg", masks, void=void)
        np.testing.assert_array_equal(patch_owners(image, grid, coverage), plain_owners(masks, void, grid, coverage))

    def test_images_smaller_than_their_grid(self):
        masks, void = {1: box((3, 3), 0, 2, 0, 2)}, np.zeros((3, 3), bool)
        image = object_image("a.jpg", masks, void=void)
        np.testing.assert_array_equal(patch_owners(image, (7, 8), 0.5), plain_owners(masks, void, (7, 8), 0.5))


class TestSampling:
    scenes = tuple(random_scene(i, grid=(12, 12), shape=(96, 96), objects=4) for i in range(3))

    def test_is_near_the_exact_scores_by_its_own_error(self):
        exact = scores_of(self.scenes).metrics()
        drawn = scores_of(self.scenes, ObjectSimilarity(max_pairs=0, samples=20_000))
        assert (drawn.sampled_images, len(drawn.groups)) == (3, 10)
        metrics = drawn.metrics()
        for name in ("AUROC", "gap"):
            assert 0 < metrics[f"{name}-error"] < 0.5
            assert abs(metrics[name] - exact[name]) < 5 * metrics[f"{name}-error"]
        np.testing.assert_allclose(drawn.counts.sum(axis=1), scores_of(self.scenes).counts.sum(axis=1), rtol=1e-9)

    def test_errors_are_those_of_repetitions(self):
        runs = [
            scores_of(self.scenes[:1], ObjectSimilarity(max_pairs=0, samples=500, seed=s)).metrics() for s in range(60)
        ]
        for name in ("AUROC", "gap"):
            spread = np.std([run[name] for run in runs])
            claimed = np.sqrt(np.mean([run[f"{name}-error"] ** 2 for run in runs]))
            assert claimed == pytest.approx(spread, rel=0.35)

    def test_draws_are_all_pairs_of_a_kind_equally(self):
        tokens = np.eye(6)[:, :, None] + 0.0  # patches 0..5: two of object 1, three of object 2, one background
        masks = {1: box((6, 1), 0, 2, 0, 1), 2: box((6, 1), 2, 5, 0, 1)}
        tokens = np.cumsum(tokens, axis=0)  # every pair has its own cosine
        scene = tokens, masks, np.zeros((6, 1), bool)
        exact = scores_of([scene])
        drawn = scores_of([scene], ObjectSimilarity(max_pairs=0, samples=40_000))
        assert exact.counts.sum(axis=1).tolist() == [4, 6, 5]
        np.testing.assert_allclose(drawn.counts, exact.counts, atol=0.1)
        assert ((drawn.counts > 0) == (exact.counts > 0)).all()

    def test_repeats_with_its_seed_only(self):
        options = [ObjectSimilarity(max_pairs=0, samples=100, seed=seed) for seed in (1, 1, 2)]
        first, again, other = (scores_of(self.scenes, one).metrics()["gap"] for one in options)
        assert first == again != other

    def test_the_limit(self):
        (scene, *_) = self.scenes
        pairs = int(scores_of([scene]).counts.sum())
        assert scores_of([scene], ObjectSimilarity(max_pairs=pairs)).sampled_images == 0
        assert scores_of([scene], ObjectSimilarity(max_pairs=pairs - 1)).sampled_images == 1


class TestEdges:
    nothing = np.zeros((64, 64), bool)

    def none_but(self, scores, **expected):
        metrics = {name: value for name, value in scores.metrics().items() if value is not None}
        assert metrics == pytest.approx(expected)

    def test_no_objects(self):
        scores = scores_of([(np.ones((2, 4, 4)), {}, self.nothing)])
        self.none_but(scores)
        assert scores.breakdowns() == {kind: {} for kind in KINDS}
        assert (scores.images, scores.objects, scores.without_patch) == (1, 0, 0)

    def test_no_images(self):
        self.none_but(SimilarityCounter().scores())

    def test_masks_smaller_than_a_patch(self):
        scores = scores_of([(np.ones((2, 4, 4)), {1: box((64, 64), 0, 9, 0, 9), 2: self.nothing}, self.nothing)])
        self.none_but(scores)
        assert scores.without_patch == 2

    def test_all_patches_are_one_object(self):
        scores = scores_of([(np.ones((2, 4, 4)), {1: ~self.nothing}, self.nothing)])
        self.none_but(scores, **{"mean-within": 1})
        assert scores.counts.sum() == 16 * 15 / 2
        assert scores.breakdowns() == dict(zip(KINDS, ({"0.99": 100.0}, {}, {}), strict=True))

    def test_void_is_neither_object_nor_background(self):
        scores = scores_of([(np.ones((2, 4, 4)), {1: box((64, 64), 0, 16, 0, 64)}, box((64, 64), 16, 64, 0, 64))])
        self.none_but(scores, **{"mean-within": 1})

    def test_perfect_features(self):
        tokens = np.zeros((2, 4, 4))
        tokens[0, :, :2], tokens[1, :, 2:] = 1, 1
        metrics = scores_of([(tokens, {1: box((64, 64), 0, 64, 0, 32)}, self.nothing)]).metrics()
        assert (metrics["AUROC"], metrics["overlap"], metrics["gap"]) == (100, 0, 1)
        assert (metrics["AUROC-background"], metrics["AUROC-objects"]) == (100, None)

    def test_features_that_know_nothing(self):
        metrics = scores_of([(np.ones((2, 4, 4)), {1: box((64, 64), 0, 64, 0, 32)}, self.nothing)]).metrics()
        assert (metrics["AUROC"], metrics["overlap"]) == (50, 100)
        assert metrics["gap"] == pytest.approx(0)

    def test_another_size_than_the_annotation(self):
        with pytest.raises(DataError, match=r"a.jpg: \(9, 8\) pixels, its annotation \(64, 64\)"):
            SimilarityCounter().add(
                patch_features(np.ones((2, 2, 2)), (9, 8)), object_image("a.jpg", {1: self.nothing})
            )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (dict(coverage=1.0), "coverage=1.0: give a share from 0 to below 1"),
            (dict(bin_width=0.03), "bin_width=0.03: give a divisor of 2"),
            (dict(bin_width=0.0), "bin_width=0.0: give a divisor of 2"),
            (dict(samples=9), "samples=9, seed=0: give none below 0 and at least 10 samples"),
        ],
    )
    def test_options_that_mean_nothing(self, options, message):
        with pytest.raises(ConfigError, match=message):
            ObjectSimilarity(**options)


class TestWithTheViT:
    def test_one_pass_an_image(self, vit, tmp_path):
        scenes = [random_scene(i) for i in range(3)]
        images = [
            object_image(noise_picture(tmp_path / f"{i}.png", (53, 37), i), scene[1], void=scene[2])
            for i, scene in enumerate(scenes)
        ]
        features, calls = ImageFeatures(vit, "0", FeatureOptions(view=Resize(64))), []
        scores = object_similarity(features, object_images(images), progress=lambda *args: calls.append(args))
        assert features.forward_passes == scores.images == 3
        assert calls == [(f"{i}.png", i + 1, 3) for i in range(3)]

    def test_real_images(self, vit, shared):
        features = ImageFeatures(vit, "0", FeatureOptions(view=Resize(160)))
        coco = coco_objects(shared / "data/coco_tiny38", "val")
        ade20k = ade20k_objects(shared / "data/ADEChallengeData2016", components_above=100)
        for images, without in ((coco, set()), (ade20k, {"AUROC-background"})):
            pairs = []
            for image in images:
                tokens = features.one(image.path).tokens
                unit = torch.nn.functional.normalize(tokens.flatten(1), dim=0)
                owners = patch_owners(image, tokens.shape[1:], 0.5)
                same = (owners[:, None] == owners) & (owners >= 0)
                pairs += (unit.T @ unit).numpy()[np.triu(same, 1)].tolist()
            scores = object_similarity(features, images)
            assert scores.counts[0].sum() == len(pairs) > 100
            metrics = scores.metrics()
            assert metrics["mean-within"] == pytest.approx(np.mean(pairs), abs=1e-5)
            assert {name for name, value in metrics.items() if value is None} == without
            assert 50 < metrics["AUROC"] < 100
