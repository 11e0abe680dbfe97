"""From the classes of pixels to those of patches, and back."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flsl_bench.datasets.semantic import VOID

# Classes that are up-sampled at a time: 150 of them at full size would take 200 MB for a picture of ADE20K.
_CLASSES_AT_A_TIME = 16


def patch_counts(label_map: np.ndarray, input_size: tuple[int, int], patch_size: int, classes: int) -> Tensor:
    """How many pixels of the ViT's input each patch has of each class: int16 [N, K], patches in row-major order.

    Args:
        label_map: uint8 [H, W], `VOID` counts nowhere; brought to the input's size by nearest (pixel centres).
        input_size: (width, height) of the input, multiples of the patch size.
        patch_size, classes: p and K.
    """
    width, height = input_size
    rows, columns = (_nearest(old, new) for old, new in zip(label_map.shape, (height, width), strict=True))
    labels = label_map[rows[:, None], columns]
    patch = (np.arange(height) // patch_size)[:, None] * (width // patch_size) + np.arange(width) // patch_size
    labelled = labels != VOID
    patches = (height // patch_size) * (width // patch_size)
    counts = np.bincount(patch[labelled] * classes + labels[labelled], minlength=patches * classes)
    return torch.from_numpy(counts.astype(np.int16)).view(patches, classes)


def class_map(scores: Tensor, size: tuple[int, int]) -> np.ndarray:
    """The class uint8 [H, W] of the largest of scores [K, h, w] up-sampled bilinearly to `size` (height, width).

    Of equal classes the lower one. Memory holds a few up-sampled classes, not all K.
    """
    best = torch.full(size, -torch.inf, device=scores.device)
    winner = torch.zeros(size, dtype=torch.uint8, device=scores.device)
    for first in range(0, len(scores), _CLASSES_AT_A_TIME):
        part = scores[None, first : first + _CLASSES_AT_A_TIME]
        # `max` and not `argmax`, which takes thirty times as long over the first dimension on the CPU.
        values, classes = F.interpolate(part, size=size, mode="bilinear", align_corners=False)[0].max(dim=0)
        winner = torch.where(values > best, (classes + first).to(torch.uint8), winner)
        best = torch.maximum(values, best)
    return winner.cpu().numpy()


def _nearest(old: int, new: int) -> np.ndarray:
    """The index of the old pixel under the centre of each new one."""
    return (2 * np.arange(new) + 1) * old // (2 * new)
