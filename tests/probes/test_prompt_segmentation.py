"""Masks from one prompted patch against a plain reference."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from flsl_bench.datasets.miniature import make_davis
from flsl_bench.datasets.objects import ade20k_objects, coco_objects, davis_objects
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes.image_features import FeatureOptions, ImageFeatures, Resize, ResizeCenterCrop
from flsl_bench.probes.prompt_segmentation import (
    PromptSegmentation,
    PromptSegmenter,
    deepest_pixel,
    patches_of,
    prompt_segmentation,
)
from flsl_bench.probes.resampling import UPSAMPLING, area_weights, upsampling_weights
from tests.probes.drawn_objects import box, noise_picture, object_image, object_images, patch_features, random_scene

SWEEP = np.round(np.arange(101) / 100, 10)


def plain_deepest(mask):
    """The pixel whose nearest one outside, the image's border included, is farthest; the first of equals."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded)
    depths = {tuple(p): np.min(((outside - p) ** 2).sum(axis=1)) for p in np.argwhere(padded)}
    deepest = max(depths.values())
    return next((x - 1, y - 1) for (y, x), depth in depths.items() if depth == deepest)


def plain_similarity(tokens, patch):
    """Cosines float64 [h, w] to a patch (row, column)."""
    tokens = tokens.astype(np.float64)
    prompt = tokens[:, patch[0], patch[1]]
    norms = np.linalg.norm(tokens, axis=0) * np.linalg.norm(prompt)
    return (tokens * prompt[:, None, None]).sum(axis=0) / norms


def upsample(similarity, shape, mode):
    mode = {"nearest": "nearest-exact"}.get(mode, mode)
    return F.interpolate(torch.from_numpy(similarity)[None, None], size=shape, mode=mode)[0, 0].numpy()


def plain_iou(values, mask, void, threshold):
    counted = ~void | mask
    predicted = (values >= threshold - 1e-6) & counted
    union = (predicted | mask).sum()
    return (predicted & mask).sum() / union if union else 1.0


def plain_curves(tokens, masks, void, mode="bilinear", thresholds=SWEEP):
    """{id: IoU [T]} of the objects that have a pixel."""
    curves = {}
    for number, mask in masks.items():
        if mask.any():
            x, y = plain_deepest(mask)
            patch = int((y + 0.5) * tokens.shape[1] / mask.shape[0]), int((x + 0.5) * tokens.shape[2] / mask.shape[1])
            values = upsample(plain_similarity(tokens, patch), mask.shape, mode)
            curves[number] = np.array([plain_iou(values, mask, void, t) for t in thresholds])
    return curves


def scores_of(scenes, options=None):
    segmenter = PromptSegmenter(options)
    for seed, (tokens, masks, void) in enumerate(scenes):
        segmenter.add(patch_features(tokens, void.shape[::-1]), object_image(f"{seed}.jpg", masks, void=void))
    return segmenter.scores()


class TestAgainstAPlainReference:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from(UPSAMPLING))
    def test_sweep(self, seed, mode):
        scenes = [random_scene(seed + i) for i in range(3)]
        found = [plain_curves(*scene, mode=mode) for scene in scenes]
        scores = scores_of(scenes, PromptSegmentation(upsampling=mode))
        every = [curve for curves in found for curve in curves.values()]
        assert (scores.objects, scores.skipped) == (len(every), 9 - len(every))
        if not every:
            return
        mean = np.mean(every, axis=0)
        # A value that float32 puts on the other side of a threshold moves one pixel.
        np.testing.assert_allclose(scores.curve, mean, atol=2e-3)
        assert scores.oracle == pytest.approx(np.mean([curve.max() for curve in every]), abs=2e-3)
        best = scores.best
        assert mean[best] == pytest.approx(mean.max(), abs=4e-3)
        metrics = scores.metrics()
        assert metrics["mIoU"] == pytest.approx(100 * mean[best], abs=0.2)
        assert metrics["threshold"] == SWEEP[best]
        assert metrics["AUC"] == pytest.approx(100 * (mean[1:] + mean[:-1]).sum() / 2 / 100, abs=0.2)
        by_class = {}
        for curves in found:
            for number, curve in curves.items():
                by_class.setdefault(("even", "odd")[number % 2], []).append(curve[best])
        means = {name: 100 * np.mean(values) for name, values in by_class.items()}
        assert scores.breakdowns()["mIoU by class"] == pytest.approx(means, abs=0.2)
        assert metrics["mIoU-class"] == pytest.approx(np.mean(list(means.values())), abs=0.2)
        assert list(scores.breakdowns()["mIoU by threshold"])[:3] == ["0.00", "0.01", "0.02"]

    def test_a_fixed_threshold(self):
        scenes = [random_scene(i) for i in range(4)]
        every = [c for scene in scenes for c in plain_curves(*scene, thresholds=[0.437]).values()]
        metrics = scores_of(scenes, PromptSegmentation(threshold=0.437)).metrics()
        assert metrics["mIoU"] == pytest.approx(100 * np.mean(every), abs=0.2)
        assert metrics["mIoU-oracle"] == metrics["mIoU"]
        assert (metrics["threshold"], metrics["AUC"]) == (0.437, None)

    def test_random_points(self):
        tokens, masks, void = random_scene(5)
        scores = scores_of([(tokens, masks, void)] * 1, PromptSegmentation(prompt="random", points=10_000))
        # More points than pixels: all pixels are prompts.
        for number, mask in masks.items():
            pixels = np.argwhere(mask)
            curves = []
            for y, x in pixels:
                patch = int((y + 0.5) * 4 / mask.shape[0]), int((x + 0.5) * 5 / mask.shape[1])
                values = upsample(plain_similarity(tokens, patch), mask.shape, "bilinear")
                curves.append([plain_iou(values, mask, void, t) for t in SWEEP[::10]])
            masks[number] = np.mean(curves, axis=0)
        np.testing.assert_allclose(scores.curve[::10], np.mean(list(masks.values()), axis=0), atol=2e-3)

    def test_random_points_depend_on_seed_and_names_only(self):
        first, second = random_scene(1), random_scene(2)
        options = PromptSegmentation(prompt="random", points=2, seed=3)
        segmenters = [PromptSegmenter(options) for _ in range(2)]
        for segmenter, order in zip(segmenters, ((0, 1), (1, 0)), strict=True):
            for i in order:
                tokens, masks, void = (first, second)[i]
                segmenter.add(patch_features(tokens, (53, 37)), object_image(f"{i}.jpg", masks, void=void))
        curves = [segmenter.scores().curve for segmenter in segmenters]
        np.testing.assert_allclose(*curves, atol=1e-12)
        other = scores_of([first, second], PromptSegmentation(prompt="random", points=2, seed=4)).curve
        assert np.abs(other - curves[0]).max() > 1e-6

    @pytest.mark.parametrize("side, name", [(31, "small"), (32, "medium"), (95, "medium"), (96, "large")])
    def test_sizes_are_cocos(self, side, name):
        mask = box((128, 128), 0, side, 0, side)
        scores = scores_of([(np.ones((2, 8, 8)), {1: mask}, np.zeros((128, 128), bool))])
        metrics = scores.metrics()
        expected = dict.fromkeys(("small", "medium", "large")) | {name: 100 * side**2 / 128**2}
        assert {size: metrics[f"mIoU-{size}"] for size in expected} == pytest.approx(expected)


class TestPrompt:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 10**6), st.integers(1, 14), st.integers(1, 14))
    def test_deepest_pixel(self, seed, height, width):
        mask = np.random.default_rng(seed).random((height, width)) < 0.8
        found = deepest_pixel(mask)
        assert found.tolist() == ([list(plain_deepest(mask))] if mask.any() else [])

    def test_the_border_of_the_image_is_outside(self):
        assert deepest_pixel(np.ones((9, 9), bool)).tolist() == [[4, 4]]
        assert deepest_pixel(box((9, 9), 0, 5, 0, 5)).tolist() == [[2, 2]]

    def test_equal_depths_are_equal_in_any_call(self):
        mask = box((400, 600), 13, 380, 7, 590)
        assert {tuple(deepest_pixel(mask)[0]) for _ in range(20)} == {plain_deepest_of_box(13, 380, 7)}

    def test_patch_of_a_pixel(self):
        features = patch_features(np.ones((1, 3, 4)), (100, 60))
        pixels = np.array([[0, 0], [24, 19], [25, 20], [99, 59]])
        assert patches_of(pixels, features.geometry, (3, 4)).tolist() == [0, 0, 5, 11]


def plain_deepest_of_box(top, bottom, left):
    """Of a box that is wider than high: the first of the pixels in the middle row that its short side limits."""
    depth = (bottom - top + 1) // 2
    return left + depth - 1, top + depth - 1


class TestEdges:
    def test_images_without_objects(self):
        scores = scores_of([(np.ones((2, 2, 2)), {}, np.zeros((8, 8), bool))])
        assert set(scores.metrics().values()) == {None}
        assert (scores.images, scores.objects) == (1, 0)
        assert scores.breakdowns() == {
            "mIoU by class": {},
            "mIoU by size": dict.fromkeys(("small", "medium", "large")),
            "mIoU by threshold": {},
        }

    def test_a_mask_smaller_than_a_patch_and_an_empty_one(self):
        shape = (64, 64)
        tokens = np.zeros((2, 4, 4))
        tokens[0], tokens[:, 0, 0] = 1, (0, 1)
        masks = {1: box(shape, 2, 3, 2, 3), 2: np.zeros(shape, bool)}
        scores = scores_of([(tokens, masks, np.zeros(shape, bool))], PromptSegmentation(upsampling="nearest"))
        assert scores.skipped == 1
        assert scores.metrics()["mIoU"] == pytest.approx(100 / 16**2)

    def test_one_object_everywhere_is_found_whole(self):
        scores = scores_of([(np.ones((2, 4, 4)), {1: np.ones((64, 64), bool)}, np.zeros((64, 64), bool))])
        assert scores.metrics()["mIoU"] == scores.metrics()["AUC"] == 100

    def test_void_is_no_background_but_an_objects_own_pixels_count(self):
        mask, void = box((32, 32), 0, 16, 0, 32), box((32, 32), 8, 32, 0, 32)
        scores = scores_of([(np.ones((2, 2, 2)), {1: mask}, void)])
        assert scores.metrics()["mIoU"] == 100

    def test_tokens_of_zeros_are_like_nothing(self):
        scores = scores_of([(np.zeros((2, 1, 1)), {1: box((4, 4), 0, 2, 0, 4)}, np.zeros((4, 4), bool))])
        assert scores.metrics()["mIoU"] == 50

    def test_another_size_than_the_annotation(self):
        image = object_image("a.jpg", {1: np.ones((8, 8), bool)})
        with pytest.raises(DataError, match=r"a.jpg: \(9, 8\) pixels, its annotation \(8, 8\) \(width, height\)"):
            PromptSegmenter().add(patch_features(np.ones((2, 2, 2)), (9, 8)), image)

    def test_a_view_that_cuts(self, vit, tmp_path):
        path = noise_picture(tmp_path / "a.png", (90, 70), 0)
        features = ImageFeatures(vit, "0", FeatureOptions(view=ResizeCenterCrop(70, 64)))
        with pytest.raises(ConfigError, match="the view cuts the image; masks need one of the whole image"):
            prompt_segmentation(features, object_images([object_image(path, {1: np.ones((70, 90), bool)})]))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (dict(prompt="center"), "prompt='center' is none of deepest, random"),
            (dict(upsampling="area"), "upsampling='area' is none of nearest, bilinear, bicubic"),
            (dict(prompt_frame="last"), "prompt_frame='last' is none of same, first"),
            (dict(points=0), "points=0, seed=0: give 1 point or more"),
            (dict(threshold="best"), "threshold='best': give a number or 'sweep'"),
            (dict(sweep=(1.0, 0.0, 0.1)), "give the lowest threshold, a higher one and a step above 0"),
        ],
    )
    def test_options_that_mean_nothing(self, options, message):
        with pytest.raises(ConfigError, match=message):
            PromptSegmentation(**options)

    def test_thresholds_include_both_ends(self):
        assert PromptSegmentation(sweep=(-0.2, 0.4, 0.2)).thresholds.tolist() == [-0.2, 0.0, 0.2, 0.4]
        assert len(PromptSegmentation().thresholds) == 101


class TestVideos:
    """Prompts in the first frame."""

    def frames(self):
        """Video a: objects 1 and 2 at first, then 1 gone and 3 new; video b: object 1 only."""
        shape = (20, 30)
        left, middle, right = (box(shape, 0, 20, x, x + 10) for x in (0, 10, 20))
        return [
            object_image("a0", {1: left, 2: right}, video="a"),
            object_image("a1", {1: middle, 2: right}, video="a"),
            object_image("a2", {2: left, 3: middle}, video="a"),
            object_image("b0", {1: left}, video="b"),
            object_image("b1", {1: left}, video="b"),
        ]

    def test_later_frames_are_compared_with_the_first_ones_patch(self):
        images, rng = self.frames(), np.random.default_rng(0)
        tokens = rng.normal(size=(5, 4, 2, 3)) + 1
        segmenter = PromptSegmenter(PromptSegmentation(prompt_frame="first"))
        for feature, image in zip(tokens, images, strict=True):
            segmenter.add(patch_features(feature, (30, 20)), image)
        scores = segmenter.scores()
        prompts = {"a": {1: (0, 0, 0), 2: (0, 0, 2)}, "b": {1: (3, 0, 0)}}
        expected = []
        for t in (1, 2, 4):
            for number, (frame, row, column) in prompts[images[t].video].items():
                prompt = tokens[frame, :, row, column]
                norms = np.linalg.norm(prompt) * np.linalg.norm(tokens[t], axis=0)
                values = upsample((tokens[t] * prompt[:, None, None]).sum(axis=0) / norms, (20, 30), "bilinear")
                masks = {one.id: one.mask() for one in images[t].objects}
                mask = masks.get(number, np.zeros((20, 30), bool))
                expected.append([plain_iou(values, mask, np.zeros_like(mask), x) for x in SWEEP])
        assert (scores.images, scores.objects, scores.skipped) == (3, 5, 1)
        np.testing.assert_allclose(scores.curve, np.mean(expected, axis=0), atol=2e-3)

    def test_an_object_out_of_sight_of_which_nothing_is_found_counts_one(self):
        shape = (16, 32)
        images = [
            object_image("0", {1: box(shape, 0, 16, 0, 16)}, video="v"),
            object_image("1", {}, void=np.zeros(shape, bool), video="v"),
        ]
        segmenter = PromptSegmenter(PromptSegmentation(prompt_frame="first", threshold=0.5))
        for tokens, image in zip(([[[1, 0]], [[0, 1]]], [[[0, 0]], [[1, 1]]]), images, strict=True):
            segmenter.add(patch_features(tokens, (32, 16)), image)
        metrics = segmenter.scores().metrics()
        assert metrics["mIoU"] == 100
        assert metrics["mIoU-small"] is None

    def test_no_video(self):
        segmenter = PromptSegmenter(PromptSegmentation(prompt_frame="first"))
        with pytest.raises(ConfigError, match=r"a.jpg: no frame of a video; prompt_frame='first' needs videos"):
            segmenter.add(patch_features(np.ones((1, 1, 1)), (8, 8)), object_image("a.jpg", {1: np.ones((8, 8), bool)}))


class TestResampling:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 50), st.integers(1, 200), st.sampled_from(UPSAMPLING))
    def test_upsampling_is_pytorchs(self, source, target, mode):
        values = np.random.default_rng(source).normal(size=source)
        index, weight = upsampling_weights(source, target, mode)
        expected = upsample(np.tile(values, (2, 1)), (2, target), mode)[0]
        # Where a centre lies on a border, PyTorch's nearest goes by the rounding of a float.
        clear = (2 * np.arange(target) + 1) * source % (2 * target) > 0 if mode == "nearest" else slice(None)
        np.testing.assert_allclose((values[index] * weight).sum(axis=1)[clear], expected[clear], atol=1e-9)

    @given(st.integers(1, 60), st.integers(1, 60))
    def test_area_weights_are_shares(self, source, target):
        fine = np.repeat(np.eye(source), target, axis=1).reshape(source, target, source).mean(axis=2).T
        np.testing.assert_allclose(area_weights(source, target), fine, atol=1e-6)


class TestWithTheViT:
    def test_one_pass_an_image(self, vit, tmp_path):
        images = [
            object_image(noise_picture(tmp_path / f"{i}.png", (53, 37), i), random_scene(i)[1], void=random_scene(i)[2])
            for i in range(4)
        ]
        features = ImageFeatures(vit, "0", FeatureOptions(view=Resize(64)))
        calls = []
        options = PromptSegmentation(prompt="random", points=3)
        scores = prompt_segmentation(features, object_images(images), options, lambda *args: calls.append(args))
        assert features.forward_passes == scores.images == 4
        assert calls == [(f"{i}.png", i + 1, 4) for i in range(4)]

    def test_real_images(self, vit, shared):
        features = ImageFeatures(vit, "0", FeatureOptions(view=Resize(64)))
        for images in (
            coco_objects(shared / "data/coco_tiny38", "val"),
            ade20k_objects(shared / "data/ADEChallengeData2016"),
        ):
            scores = prompt_segmentation(features, images)
            assert scores.objects + scores.skipped == sum(len(image.objects) for image in images) > 20
            metrics = scores.metrics()
            assert 0 < metrics["AUC"] < metrics["mIoU"] < metrics["mIoU-oracle"] < 100
            assert None not in metrics.values()
            assert scores.breakdowns()["mIoU by class"].keys() == {
                one.category for image in images for one in image.objects
            }

    def test_a_davis_folder(self, vit, tmp_path):
        images = davis_objects(make_davis(tmp_path / "davis", frames=4, size=(86, 64)))
        features = ImageFeatures(vit, "0", FeatureOptions(view=Resize(64)))
        scores = prompt_segmentation(features, images, PromptSegmentation(prompt_frame="first"))
        assert (scores.images, scores.skipped) == (9, 0)
        assert scores.objects == 3 * (2 + 2 + 3)
        assert scores.breakdowns()["mIoU by class"].keys() == {
            one.category for image in images for one in image.objects
        }
