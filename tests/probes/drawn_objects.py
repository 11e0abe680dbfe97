"""Images with drawn objects for the probes that need masks, without files but the pictures."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from flsl_bench.datasets.objects import ImageObject, ObjectImage, ObjectImages
from flsl_bench.probes.image_features import Geometry, PatchFeatures


def object_image(path, masks, *, void=None, categories=None, video=None):
    """An image whose objects are `masks` {id: bool [H, W]}; a category is "even" or "odd", as the id, by default."""
    categories = categories or {number: ("even", "odd")[number % 2] for number in masks}
    objects = tuple(ImageObject(categories[number], number, partial(np.copy, mask)) for number, mask in masks.items())
    shape = next(iter(masks.values())).shape if void is None else void.shape
    return ObjectImage(Path(path), shape[::-1], objects, lambda: void, video)


def object_images(images):
    return ObjectImages(tuple(image.path for image in images), images.__getitem__)


def patch_features(tokens, size, patch_size=16):
    """`tokens` [C, h, w] as the features of a whole image of (width, height)."""
    tokens = torch.as_tensor(tokens, dtype=torch.float32)
    return PatchFeatures(tokens, Geometry(size, (tokens.shape[2] * patch_size, tokens.shape[1] * patch_size)))


def noise_picture(path, size, seed):
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def box(shape, top, bottom, left, right):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def random_scene(seed, shape=(37, 53), grid=(4, 5), objects=3, channels=6):
    """Tokens [C, h, w] and {id: mask} of overlapping boxes and a void mask, all random."""
    rng = np.random.default_rng(seed)
    masks = {}
    for number in range(1, objects + 1):
        (top, bottom), (left, right) = (np.sort(rng.integers(0, side + 1, 2)) for side in shape)
        masks[number] = box(shape, top, bottom, left, right)
    return rng.normal(size=(channels, *grid)) + 1, masks, rng.random(shape) < 0.1
