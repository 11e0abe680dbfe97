"""Drawn videos and a small backbone."""

import cv2
import numpy as np
import pytest
import torch

from flsl_bench.backbones.vit import VisionTransformer


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    """Five frames of 100x70 with two moving boxes, and the first mask."""
    folder = tmp_path_factory.mktemp("video")
    rng = np.random.default_rng(0)
    ground, texture = rng.integers(0, 255, (2, 70, 100, 3), dtype=np.uint8)
    mask = np.zeros((70, 100), np.uint8)
    paths = []
    for t in range(5):
        image = cv2.GaussianBlur(ground, (9, 9), 0)
        for k, (y, x) in enumerate([(10 + 2 * t, 10), (30, 60 - 3 * t)]):
            image[y : y + 25, x : x + 25] = texture[y : y + 25, x : x + 25] // 2 + 100 * k
            if t == 0:
                mask[y : y + 25, x : x + 25] = k + 1
        paths.append(folder / f"{t:05d}.png")
        cv2.imwrite(str(paths[-1]), image)
    return paths, mask


@pytest.fixture
def vit():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VisionTransformer(embed_dim=32, depth=2, num_heads=2, patch_size=16, position_grid=(4, 4))
