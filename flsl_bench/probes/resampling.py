"""Linear resampling along one axis as weights: of patches to pixels, and of pixels to patches."""

import functools

import numpy as np

UPSAMPLING = ("nearest", "bilinear", "bicubic")

# Keys' parameter as PyTorch and OpenCV set it (Keys 1981 gives -0.5).
_KEYS = -0.75


@functools.lru_cache(maxsize=256)
def upsampling_weights(source: int, target: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each of `target` samples the `source` samples it is made of: index int64 and weight float64 [target, t].

    `mode` is one of `UPSAMPLING`. Pixel centres are aligned (PyTorch's `align_corners=False`, and its "nearest-exact");
    beyond the border the outermost sample goes on.
    """
    place = (np.arange(target) + 0.5) * (source / target) - 0.5
    if mode == "nearest":
        # In whole numbers: rounding must not decide where a centre lies on a border.
        index, weight = ((2 * np.arange(target) + 1) * source // (2 * target))[:, None], np.ones((target, 1))
    else:
        first = np.floor(place)
        offsets = np.arange(2) if mode == "bilinear" else np.arange(-1, 3)
        index = first[:, None] + offsets
        distance = np.abs(place[:, None] - index)
        weight = 1 - distance if mode == "bilinear" else _cubic(distance)
    arrays = np.clip(index, 0, source - 1).astype(np.int64), weight
    for array in arrays:  # they are shared by all callers
        array.flags.writeable = False
    return arrays


@functools.lru_cache(maxsize=256)
def area_weights(source: int, target: int) -> np.ndarray:
    """Share of each of `target` cells that lies in each of `source` pixels, float32 [target, source]; rows sum to 1."""
    edges = np.arange(target + 1) * (source / target)
    low = np.maximum(edges[:-1, None], np.arange(source))
    high = np.minimum(edges[1:, None], np.arange(1, source + 1))
    weights = (np.maximum(high - low, 0) * (target / source)).astype(np.float32)
    weights.flags.writeable = False
    return weights


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel at distances up to 2."""
    near = ((_KEYS + 2) * distance - (_KEYS + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * _KEYS - 4 * _KEYS
    return np.where(distance <= 1, near, far)
