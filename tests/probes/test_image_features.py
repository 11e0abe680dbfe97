"""Images on their way to the ViT, what is taken of it, and the cache."""

import os
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes import image_features
from flsl_bench.probes.image_features import (
    FeatureCache,
    FeatureOptions,
    Geometry,
    ImageFeatures,
    Resize,
    ResizeCenterCrop,
)

SHA = "0" * 64
SMALL = FeatureOptions(view=Resize(64))
SIZES = [(100, 70), (70, 100), (100, 70), (64, 64), (90, 63), (200, 140), (70, 100)]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Noise of several sizes; the first, third, fifth and sixth have inputs of one size."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    found = []
    for i, (width, height) in enumerate(SIZES):
        found.append(folder / f"{i}.png")
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(found[-1])
    return found


def plain_pixels(path, size):
    """[1, 3, H, W] of the whole image at `size` (width, height)."""
    image = np.asarray(Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float64)
    standard = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(standard).permute(2, 0, 1)[None].float()


@torch.no_grad()
def plain_facets(vit, pixels, layer):
    """Query, key and value [C, h, w] of a block, one head after another by the slices of its matrix."""
    rows, columns = pixels.shape[2] // vit.patch_size, pixels.shape[3] // vit.patch_size
    block = vit.blocks[layer]
    x = vit.tokens(pixels, [layer - 1])[0] if layer else vit._embed(pixels)
    x = F.layer_norm(x, x.shape[-1:], block.norm1.weight, block.norm1.bias, block.norm1.eps)
    width = vit.embed_dim
    for name, begin in (("query", 0), ("key", width), ("value", 2 * width)):
        part = slice(begin, begin + width)
        taken = x @ block.attn.qkv.weight[part].T + block.attn.qkv.bias[part]
        yield name, taken[0, vit.num_prefix_tokens :].T.reshape(width, rows, columns)


class TestViews:
    @pytest.mark.parametrize(
        ("image", "patch", "expected"),
        [
            ((640, 480), 16, (592, 448)),  # 597.3: 37.3 patches
            ((480, 640), 16, (448, 592)),
            ((500, 375), 14, (602, 448)),  # 597.3: 42.7 patches
            ((1000, 10), 16, (44800, 448)),
            ((448, 448), 16, (448, 448)),
        ],
    )
    def test_resize(self, image, patch, expected):
        assert Resize(448).geometry(image, patch).input_size == expected

    def test_short_side_that_is_no_multiple_goes_to_the_nearest(self):
        assert Resize(40).geometry((100, 100), 16).input_size == (48, 48)  # 2.5 patches: up
        assert Resize(39).geometry((100, 100), 16).input_size == (32, 32)
        assert Resize(1).geometry((100, 100), 16).input_size == (16, 16)

    @pytest.mark.parametrize(
        ("image", "resized", "corner"),
        [
            ((640, 480), (341, 256), (58, 16)),  # 341.33 is cut; 58.5 goes to the even 58
            ((480, 640), (256, 341), (16, 58)),
            ((500, 375), (341, 256), (58, 16)),
            ((500, 333), (384, 256), (80, 16)),
            ((400, 300), (341, 256), (58, 16)),
            ((300, 256), (300, 256), (38, 16)),
            ((301, 256), (301, 256), (38, 16)),  # 38.5 to the even 38
            ((303, 256), (303, 256), (40, 16)),  # 39.5 to the even 40
        ],
    )
    def test_resize_center_crop(self, image, resized, corner):
        expected = Geometry(image, resized, corner, (224, 224))
        assert ResizeCenterCrop().geometry(image, 16) == expected

    @given(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), st.sampled_from([8, 14, 16]))
    def test_corners_of_a_resized_image_are_those_of_the_input(self, size, patch):
        geometry = Resize(224).geometry(size, patch)
        assert all(side % patch == 0 and side > 0 for side in geometry.input_size)
        np.testing.assert_allclose(geometry.map_points([[0, 0], size]), [[0, 0], geometry.input_size], atol=1e-9)

    @given(
        st.tuples(st.integers(224, 3000), st.integers(224, 3000)),
        st.lists(st.tuples(st.floats(0, 3000), st.floats(0, 3000)), min_size=1, max_size=4),
    )
    def test_unmap_undoes_map(self, size, points):
        geometry = ResizeCenterCrop().geometry(size, 16)
        np.testing.assert_allclose(geometry.unmap_points(geometry.map_points(points)), points, atol=1e-8)

    def test_boxes_are_mapped_and_clipped(self):
        geometry = ResizeCenterCrop().geometry((512, 256), 16)  # resized as it is, cut 144 left and 16 above
        boxes = geometry.map_boxes([[150, 20, 400, 200], [154, 26, 254, 126], [0, 0, 100, 100]])
        assert boxes.tolist() == [[6, 4, 224, 184], [10, 10, 110, 110], [0, 0, 0, 84]]

    def test_views_that_mean_nothing(self):
        with pytest.raises(ConfigError, match="short_side=0: give 1 or more"):
            Resize(0)
        with pytest.raises(ConfigError, match="crop=300 is larger than resize=256"):
            ResizeCenterCrop(256, 300)
        with pytest.raises(ConfigError, match="crop=224 is not whole patches of 15; give a multiple of 15"):
            ResizeCenterCrop().geometry((300, 300), 15)


class TestFeatures:
    def test_the_default_is_the_normed_last_block(self, vit, paths):
        features = ImageFeatures(vit, SHA, SMALL).one(paths[0])
        assert (features.image_size, features.input_size) == ((100, 70), (96, 64))
        with torch.no_grad():
            expected = vit.tokens(plain_pixels(paths[0], (96, 64)), [1], norm=True)[0][0, 1:]
        torch.testing.assert_close(features.tokens, expected.T.reshape(32, 4, 6), atol=1e-5, rtol=1e-4)
        assert features.tokens.dtype == torch.float32 and not features.tokens.requires_grad

    @pytest.mark.parametrize(("layer", "block"), [(0, 0), (-2, 0), (1, 1)])
    def test_layer_and_norm(self, vit, paths, layer, block):
        options = FeatureOptions(layer=layer, norm=False, view=Resize(64))
        with torch.no_grad():
            expected = vit.tokens(plain_pixels(paths[1], (64, 96)), [block])[0][0, 1:].T.reshape(32, 6, 4)
        torch.testing.assert_close(
            ImageFeatures(vit, SHA, options).one(paths[1]).tokens, expected, atol=1e-5, rtol=1e-4
        )

    @pytest.mark.parametrize("layer", [0, 1])
    def test_facets(self, vit, paths, layer):
        for name, expected in plain_facets(vit, plain_pixels(paths[0], (96, 64)), layer):
            options = FeatureOptions(layer=layer, facet=name, view=Resize(64))
            torch.testing.assert_close(
                ImageFeatures(vit, SHA, options).one(paths[0]).tokens, expected, atol=1e-5, rtol=1e-4
            )

    def test_a_crop_shows_its_part(self, vit, paths):
        options = FeatureOptions(view=ResizeCenterCrop(80, 64))
        path = paths[0]  # 100x70 to 114x80, from (25, 8)
        image = Image.open(path).resize((114, 80), Image.Resampling.BICUBIC).crop((25, 8, 89, 72))
        pixels = torch.from_numpy((np.asarray(image) / 255 - image_features.MEAN) / image_features.STD)
        with torch.no_grad():
            (expected,) = vit(pixels.permute(2, 0, 1)[None].float())
        torch.testing.assert_close(ImageFeatures(vit, SHA, options).one(path).tokens, expected[0], atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("batch", [None, 1, 3, 50])
    def test_many_are_in_order_whatever_the_batch(self, vit, paths, batch):
        features = ImageFeatures(vit, SHA, SMALL, batch=batch)
        found = list(features.many(iter(paths)))
        assert features.forward_passes == len(paths)
        for path, one in zip(paths, found, strict=True):
            torch.testing.assert_close(one.tokens, ImageFeatures(vit, SHA, SMALL).one(path).tokens)
            assert one.image_size == Image.open(path).size

    def test_images_of_equal_input_size_share_a_pass(self, vit, paths, monkeypatch):
        batches = []
        features = ImageFeatures(vit, SHA, SMALL, batch=4)
        monkeypatch.setattr(
            features, "_maps", lambda images: batches.append(images.shape) or torch.zeros(len(images), 1)
        )
        list(features.many(paths))
        assert batches == [(4, 64, 96, 3), (2, 96, 64, 3), (1, 64, 64, 3)]

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
    def test_every_kind_of_picture_becomes_rgb(self, vit, tmp_path, mode):
        path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
        Image.new("I;16", (64, 64), 300).save(path) if mode == "I;16" else Image.new(mode, (64, 64)).save(path)
        assert ImageFeatures(vit, SHA, SMALL).one(path).tokens.shape == (32, 4, 4)

    def test_exif_orientation_is_not_applied(self, vit, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (100, 70)).save(tmp_path / "turned.jpg", exif=exif)
        assert ImageFeatures(vit, SHA, SMALL).one(tmp_path / "turned.jpg").image_size == (100, 70)

    def test_files_that_are_no_images(self, vit, paths, tmp_path):
        (tmp_path / "broken.jpg").write_bytes(b"no image")
        features = ImageFeatures(vit, SHA, SMALL, batch=4)
        several = features.many([*paths[:2], tmp_path / "broken.jpg", paths[2]])
        assert [next(several).image_size for _ in range(2)] == SIZES[:2]
        with pytest.raises(DataError, match=r"broken.jpg: no readable image .*; copy it again"):
            next(several)
        with pytest.raises(DataError, match=r"missing.jpg: cannot read this image \(No such file or directory\)"):
            features.one(tmp_path / "missing.jpg")

    def test_features_that_are_not_finite(self, vit, paths):
        torch.nn.init.constant_(vit.norm.weight, torch.nan)
        with pytest.raises(DataError, match=r"0.png: its features are not finite; the weights are damaged"):
            ImageFeatures(vit, SHA, SMALL).one(paths[0])

    def test_no_thread_stays_behind(self, vit, paths):
        before = set(threading.enumerate())
        several = ImageFeatures(vit, SHA, SMALL).many(paths)
        next(several)
        several.close()
        assert set(threading.enumerate()) <= before

    def test_options_that_mean_nothing(self, vit):
        with pytest.raises(ConfigError, match="facet='keys' is none of token, query, key, value"):
            FeatureOptions(facet="keys")
        with pytest.raises(ConfigError, match=r"layer=2: the ViT has 2 blocks; give -2\.\.1"):
            ImageFeatures(vit, SHA, FeatureOptions(layer=2))
        with pytest.raises(ConfigError, match="batch=0: give 1 or more"):
            ImageFeatures(vit, SHA, batch=0)


class TestCache:
    def test_a_second_look_costs_no_pass_and_gives_the_same(self, vit, paths, tmp_path):
        first = ImageFeatures(vit, SHA, SMALL, cache=FeatureCache(tmp_path / "cache"))
        fresh = list(first.many(paths))
        second = ImageFeatures(vit, SHA, SMALL, cache=FeatureCache(tmp_path / "cache"), batch=3)
        for a, b in zip(fresh, second.many(paths), strict=True):
            assert torch.equal(a.tokens, b.tokens) and a.geometry == b.geometry
        assert (first.forward_passes, second.forward_passes) == (len(paths), 0)

    def test_the_content_counts_and_not_the_name(self, vit, paths, tmp_path):
        features = ImageFeatures(vit, SHA, SMALL, cache=FeatureCache(tmp_path / "cache"))
        path = tmp_path / "image.png"
        for source, passes in ((0, 1), (1, 2), (0, 2)):
            path.write_bytes(paths[source].read_bytes())
            features.one(path)
            assert features.forward_passes == passes

    @pytest.mark.parametrize(
        "other",
        [
            dict(weights_sha256="1" * 64),
            dict(options=FeatureOptions(view=Resize(80))),
            dict(options=FeatureOptions(view=ResizeCenterCrop(64, 64))),
            dict(options=FeatureOptions(view=Resize(64), layer=0)),
            dict(options=FeatureOptions(view=Resize(64), norm=False)),
            dict(options=FeatureOptions(view=Resize(64), facet="key")),
        ],
    )
    def test_whatever_changes_the_features_changes_the_key(self, vit, paths, tmp_path, other):
        same = dict(weights_sha256=SHA, options=SMALL)
        ImageFeatures(vit, **same, cache=FeatureCache(tmp_path)).one(paths[0])
        features = ImageFeatures(vit, **{**same, **other}, cache=FeatureCache(tmp_path))
        features.one(paths[0])
        assert features.forward_passes == 1

    def test_the_last_layer_by_either_number_is_one(self, vit, paths, tmp_path):
        ImageFeatures(vit, SHA, SMALL, cache=FeatureCache(tmp_path)).one(paths[0])
        options = FeatureOptions(view=Resize(64), layer=1)
        features = ImageFeatures(vit, SHA, options, cache=FeatureCache(tmp_path))
        features.one(paths[0])
        assert features.forward_passes == 0

    def test_another_number_of_heads_is_another_key(self, vit, paths, tmp_path):
        ImageFeatures(vit, SHA, SMALL, cache=FeatureCache(tmp_path)).one(paths[0])
        vit.num_heads = 4
        features = ImageFeatures(vit, SHA, SMALL, cache=FeatureCache(tmp_path))
        features.one(paths[0])
        assert features.forward_passes == 1

    def test_a_damaged_file_is_a_miss_and_is_replaced(self, vit, paths, tmp_path):
        features = ImageFeatures(vit, SHA, SMALL, cache=FeatureCache(tmp_path))
        features.one(paths[0])
        (file,) = tmp_path.rglob("*.safetensors")
        whole = file.read_bytes()
        for damaged in (b"", whole[:100], whole[:-1]):
            file.write_bytes(damaged)
            features.one(paths[0])
            assert file.read_bytes() == whole
        assert features.forward_passes == 4

    def test_the_least_recently_used_go(self, tmp_path):
        one = {"tokens": torch.zeros(2000)}
        cache = FeatureCache(tmp_path, max_bytes=40_000)  # room for four of 8 kB, a sixteenth kept free
        for t, key in enumerate("abcd"):
            cache.put(key * 4, one)
            os.utime(cache._path(key * 4), (t, t))
        assert cache.get("aaaa") is not None
        cache.put("eeee", one)
        kept = [key for key in "abcde" if cache.get(key * 4) is not None]
        assert kept == ["a", "c", "d", "e"]
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 40_000

    def test_a_scan_of_more_than_fits_keeps_what_it_began_with(self, tmp_path):
        one = {"tokens": torch.zeros(2000)}
        FeatureCache(tmp_path, max_bytes=40_000).put("old0", one)
        os.utime(FeatureCache(tmp_path)._path("old0"), (1, 1))
        cache = FeatureCache(tmp_path, max_bytes=40_000)
        keys = [f"{i:04d}" for i in range(12)]
        for _ in range(3):
            found = [key for key in keys if cache.get(key) is not None]
            for key in keys:
                if cache.get(key) is None:
                    cache.put(key, one)
        assert found == keys[: len(found)] and len(found) >= 4 and cache.get("old0") is None
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 42_500

    def test_two_users_of_one_folder_keep_near_the_limit(self, tmp_path):
        caches = [FeatureCache(tmp_path, max_bytes=100_000) for _ in range(2)]
        for i in range(60):
            caches[i % 2].put(f"{i:04d}", {"tokens": torch.zeros(500)})
        total = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
        assert 80_000 < total <= 100_000 * (1 + 2 / 16)

    def test_an_image_larger_than_the_cache_still_works(self, vit, paths, tmp_path):
        features = ImageFeatures(vit, SHA, SMALL, cache=FeatureCache(tmp_path, max_bytes=1))
        assert features.one(paths[0]).tokens.shape == (32, 4, 6)
        assert not list(tmp_path.rglob("*.safetensors"))

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(DataError, match=r"cannot write to the feature cache .*; name another folder"):
            FeatureCache(tmp_path / "file").put("abcd", {"tokens": torch.zeros(1)})
