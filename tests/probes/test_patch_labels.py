"""Labels of patches and label maps of patch scores, against loops over pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from flsl_bench.datasets.semantic import VOID
from flsl_bench.probes.patch_labels import class_map, patch_counts


def plain_counts(label_map, input_size, patch_size, classes):
    (height, width), (w, h) = label_map.shape, input_size
    counts = np.zeros((h // patch_size * (w // patch_size), classes), int)
    for y in range(h):
        for x in range(w):
            label = label_map[int((y + 0.5) / h * height), int((x + 0.5) / w * width)]
            if label != VOID:
                counts[y // patch_size * (w // patch_size) + x // patch_size, label] += 1
    return counts


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    patch_size=st.sampled_from([1, 4, 8]),
)
def test_counts_equal_a_loop_over_pixels(seed, height, width, grid, patch_size):
    labels = np.random.default_rng(seed).choice(np.array([0, 1, 2, VOID], np.uint8), (height, width))
    size = grid[1] * patch_size, grid[0] * patch_size
    counts = patch_counts(labels, size, patch_size, 3)
    assert counts.dtype == torch.int16
    assert np.array_equal(counts.numpy(), plain_counts(labels, size, patch_size, 3))


def test_a_whole_patch_of_the_last_of_many_classes():
    counts = patch_counts(np.full((5, 5), 149, np.uint8), (32, 16), 16, 150)
    assert counts[:, 149].tolist() == [256, 256]
    assert counts.sum() == 512


def test_void_counts_nowhere():
    assert not patch_counts(np.full((5, 5), VOID, np.uint8), (16, 16), 8, 2).any()


@pytest.mark.parametrize("classes", [1, 16, 40])
def test_class_map_equals_up_sampling_all_classes_at_once(classes):
    scores = torch.randn(classes, 3, 5, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(scores[None], size=(37, 41), mode="bilinear", align_corners=False)[0].numpy().argmax(0)
    result = class_map(scores, (37, 41))
    assert result.dtype == np.uint8
    assert np.array_equal(result, expected)


def test_the_lower_of_equal_classes_wins():
    assert not class_map(torch.zeros(40, 2, 2), (8, 8)).any()
    assert (class_map(torch.tensor([-1.0, 2.0] + [0.0] * 30 + [2.0])[:, None, None], (3, 3)) == 1).all()
