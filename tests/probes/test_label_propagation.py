"""Label propagation against its definition, and against masks made with DINO's own script."""

import os
import subprocess
import sys
from dataclasses import asdict
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flsl_bench.backbones.vit import VisionTransformer
from flsl_bench.checkpoints import load_checkpoint
from flsl_bench.datasets import davis
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes import label_propagation, windowed_top_k
from flsl_bench.probes.label_propagation import Propagation, label_map, propagate, propagate_sequence, to_ids
from tests.conftest import ROOT
from tests.probes import plain_propagation

MEMORIES = [windowed_top_k.TiledMemory, windowed_top_k.BandedMemory]


def soft_maps(features, labels, options, memory):
    """`propagate` on the CPU by the class of either device; features are [frames, h, w, C]."""
    maps = (torch.from_numpy(f).float().permute(2, 0, 1) for f in features)
    with mock.patch.object(label_propagation, "TiledMemory", memory):
        return [soft.numpy() for soft in propagate(maps, torch.from_numpy(labels).float(), options)]


def assert_as_defined(features, labels, options, memory, atol=2e-6):
    names = ("last_frames", "window", "window_shape", "top_k", "temperature")
    expected = plain_propagation.propagate(features, labels, **{name: getattr(options, name) for name in names})
    found = soft_maps(features, labels, options, memory)
    assert len(found) == len(expected) == len(features) - 1
    for ours, plain in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, plain, atol=atol)


def one_hot(rng, rows, columns, objects):
    return np.eye(objects + 1)[rng.integers(0, objects + 1, (rows, columns))]


@pytest.mark.parametrize("clip", ["libby", "blackswan_two"])
@pytest.mark.parametrize("weights", ["flsl", "dino"])
def test_masks_of_the_published_script(shared, weights, clip):
    checkpoint = load_checkpoint(shared / f"golden/vit/{weights}_tiny_checkpoint.pth", num_heads=2)
    vit = VisionTransformer(**asdict(checkpoint.facts.architecture))
    vit.load_state_dict(checkpoint.state_dict)
    expected = sorted((shared / f"golden/davis/expected_masks/{weights}/{clip}").glob("*.png"))
    sequence = davis.sequence(shared / "data/davis2017", clip.removesuffix("_two"))
    two = shared / "golden/davis/blackswan_two/00000.png"
    mask = davis.read_mask(two) if clip == "blackswan_two" else sequence.first_mask()
    masks = propagate_sequence(vit, sequence.images()[: len(expected)], mask)
    for (t, ids), path in zip(masks, expected, strict=True):
        assert path.stem == f"{t:05d}"
        assert ids.dtype == np.uint8
        # All are equal but for seven pixels in two frames; elsewhere another BLAS may round otherwise.
        assert np.mean(ids == davis.read_mask(path)) >= 0.999


@pytest.mark.parametrize("memory", MEMORIES)
@given(
    grid=st.tuples(st.integers(1, 14), st.integers(1, 19)),
    frames=st.integers(1, 5),
    objects=st.integers(1, 10),
    channels=st.sampled_from([1, 4, 16]),
    window=st.integers(0, 16),
    shape=st.sampled_from(["square", "circle"]),
    top_k=st.sampled_from([1, 2, 5, 30, 4000]),
    last_frames=st.integers(0, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_any_grid_window_and_ties(memory, grid, frames, objects, channels, window, shape, top_k, last_frames, seed):
    rng = np.random.default_rng(seed)
    features = rng.choice([-1.0, 1.0], (frames, *grid, channels))  # their cosines are exact, and many tie
    options = Propagation(last_frames=last_frames, window=window, window_shape=shape, top_k=top_k)
    assert_as_defined(features, one_hot(rng, *grid, objects), options, memory)


@pytest.mark.parametrize("shape", ["square", "circle"])
@pytest.mark.parametrize("memory", MEMORIES)
def test_features_of_any_value(memory, shape):
    rng = np.random.default_rng(1)
    ground = rng.normal(size=(1, 17, 21, 48))
    features = (ground + 0.3 * rng.normal(size=(6, 17, 21, 48))).astype(np.float32)
    options = Propagation(last_frames=3, window=7, window_shape=shape)
    assert_as_defined(features, one_hot(rng, 17, 21, 3), options, memory, atol=1e-5)


def test_equal_features_tie_wherever_they_are():
    rng = np.random.default_rng(2)
    three = rng.normal(size=(3, 37)).astype(np.float32)
    features = three[rng.integers(0, 3, (4, 13, 20))]
    options = Propagation(last_frames=2, window=6, top_k=5)
    assert_as_defined(features, one_hot(rng, 13, 20, 2), options, windowed_top_k.TiledMemory)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("temperature", [1e-3, 10.0])
def test_no_temperature_overflows(memory, temperature):
    rng = np.random.default_rng(3)
    features = rng.normal(size=(3, 7, 9, 8)).astype(np.float32)
    maps = soft_maps(features, one_hot(rng, 7, 9, 2), Propagation(temperature=temperature), memory)
    np.testing.assert_allclose([soft.sum(axis=-1) for soft in maps], 1, atol=1e-5)


def test_patches_without_features_take_part():
    features = np.zeros((2, 3, 3, 4))
    maps = soft_maps(features, one_hot(np.random.default_rng(0), 3, 3, 1), Propagation(window=0), MEMORIES[0])
    assert np.isfinite(maps[0]).all()


def test_the_number_of_threads_changes_no_bit():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(10, 31, 53, 40)).astype(np.float32)
    labels = one_hot(rng, 31, 53, 2)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(np.stack(soft_maps(features, labels, Propagation(), windowed_top_k.TiledMemory)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_bands_of_one_row_give_the_same_maps(monkeypatch):
    rng = np.random.default_rng(5)
    features = rng.choice([-1.0, 1.0], (4, 9, 11, 16))
    monkeypatch.setattr(windowed_top_k, "_BAND_SCORES", 1)
    assert_as_defined(features, one_hot(rng, 9, 11, 2), Propagation(window=3), windowed_top_k.BandedMemory)


def test_memory_holds_neither_the_dense_product_nor_the_video():
    """At patch size 8 the dense product of one frame alone is 1.2 GB."""
    script = """
import resource, torch
from flsl_bench.probes.label_propagation import propagate
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
video = (torch.randn(16, 60, 104) for _ in range(24))
peaks = [peak()]
for t, soft in enumerate(propagate(video, torch.rand(60, 104, 3))):
    peaks.append(peak())
print(peaks[0], peaks[9], peaks[-1])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    before, warm, after = map(float, done.stdout.split())
    assert warm - before < 250  # MB, most of it numba
    assert after - warm < 20


def test_one_frame_gives_no_map():
    assert list(propagate([torch.rand(4, 2, 3)], torch.rand(2, 3, 2))) == []


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (torch.full((4, 2, 3), torch.inf), "frame 1: features are not finite; the weights are damaged, or half"),
        (torch.rand(4, 3, 2), r"frame 1: features of shape \(4, 3, 2\), the labels' map is \(2, 3\)"),
    ],
)
def test_unusable_features(second, message):
    with pytest.raises(DataError, match=message):
        list(propagate([torch.rand(4, 2, 3), second], torch.rand(2, 3, 2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": -1}, "window=-1: give 0 or more"),
        ({"top_k": 0}, "top_k=0: give 1 or more"),
        ({"temperature": 0.0}, "temperature=0.0: give a number above 0"),
        ({"window_shape": "cross"}, "window_shape='cross' is none of square, circle"),
    ],
)
def test_senseless_options(options, message):
    with pytest.raises(ConfigError, match=message):
        Propagation(**options)


def test_first_labels_are_nearest_and_void_is_background():
    mask = np.zeros((6, 8), np.uint8)
    mask[:, 4:], mask[0, 0], mask[5, 7] = 1, 255, 3  # the 3 falls between the samples
    labels = label_map(mask, (3, 4))
    assert labels.shape == (3, 4, 4)
    assert labels.sum(dim=-1).eq(1).all()
    assert labels.argmax(dim=-1).tolist() == [[0, 0, 1, 1]] * 2 + [[0, 0, 1, 3]]


def test_ids_are_background_where_there_is_no_object():
    soft = torch.zeros(3, 4, 3)
    soft[..., 0] = 1
    assert not to_ids(soft, 4, (13, 18)).any()


def test_ids_of_an_object_that_fills_the_frame():
    soft = torch.zeros(3, 4, 3)
    soft[..., 2] = 1
    assert (to_ids(soft, 4, (13, 18)) == 2).all()


def test_ids_stretch_each_class():
    soft = torch.zeros(1, 2, 2)
    soft[0, 0], soft[0, 1] = torch.tensor([1.0, 0.0]), torch.tensor([0.9, 0.1])  # background is ahead everywhere
    assert to_ids(soft, 2, (2, 4)).tolist() == [[0, 0, 1, 1]] * 2


def masks_of(vit, video, **options):
    paths, mask = video
    protocol = Propagation(short_side=64, size_multiple=16, window=3)
    return [ids for _, ids in propagate_sequence(vit, paths, mask, protocol, **options)]


def test_batch_and_threads_do_not_alter_the_masks(vit, video):
    whole = masks_of(vit, video)
    assert np.array_equal(whole[0], video[1])
    assert {tuple(np.unique(ids)) for ids in whole} == {(0, 1, 2)}
    threads = torch.get_num_threads()
    try:
        for batch, count in [(2, 1), (3, 2), (99, 3)]:
            torch.set_num_threads(count)
            assert np.array_equal(masks_of(vit, video, batch=batch), whole)
    finally:
        torch.set_num_threads(threads)


def test_progress_counts_frames(vit, video):
    calls = []
    masks_of(vit, video, progress=lambda *call: calls.append(call))
    assert calls == [(t, 5) for t in range(1, 6)]


def test_half_precision_of_the_backbone(vit, video):
    half = masks_of(vit, video, dtype=torch.bfloat16)
    assert np.mean(np.equal(half, masks_of(vit, video))) > 0.9


def test_a_mask_of_another_size_is_refused(vit, video):
    with pytest.raises(DataError, match=r"the frame is \(70, 100\), its mask \(5, 5\)"):
        masks_of(vit, (video[0], np.zeros((5, 5), np.uint8)))


def test_the_benchmark_agrees_with_the_port():
    arguments = ["benchmarks/davis_propagation.py", "--arch", "vit_tiny", "--frames", "3", "--rounds", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    worst = float(done.stdout.split("equal pixels: ")[1].split(" %")[0])
    assert worst > 99.9
