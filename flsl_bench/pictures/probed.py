"""What a probe leaves to look at: panels of how tokens lie, and of what prompts are similar to, in a few of its images.

Images are taken evenly over the data, so that they are of several videos where the data are videos.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flsl_bench.datasets.objects import ObjectImage, ObjectImages
from flsl_bench.pictures import canvas
from flsl_bench.pictures import features as draw
from flsl_bench.pictures.panels import add_panel
from flsl_bench.probes.image_features import ImageFeatures
from flsl_bench.probes.prompt_segmentation import deepest_pixel

IMAGES = 4


def tokens(features: ImageFeatures, images: ObjectImages, folder: str | os.PathLike, count: int = IMAGES) -> None:
    """Principal components in one basis, k-means clusters and mean-shift modes of `count` images."""
    paths = [images.paths[i] for i in _spread(len(images), count)]
    taken = list(features.many(paths))
    for path, one, colours in zip(paths, taken, draw.pca(taken), strict=True):
        image, caption = canvas.read_picture(path), _caption(path, images)
        add_panel(folder, "PCA of the patch tokens, one basis", caption, canvas.beside(image, colours))
        add_panel(folder, "k-means of the patch tokens", caption, draw.segments(one, image))
        add_panel(folder, "Mean shift: the mode of each patch", caption, canvas.beside(image, draw.modes(one)))


def prompts(features: ImageFeatures, images: ObjectImages, folder: str | os.PathLike, count: int = IMAGES) -> None:
    """Similarity to the patch deepest inside the largest object, of `count` images less those without objects."""
    for image, point in _prompted(images, count):
        picture = draw.similarity(features.one(image.path), point)
        shown = canvas.beside(canvas.read_picture(image.path), picture)
        add_panel(folder, "Similarity to a prompted patch", _caption(image.path, images), shown)


def _prompted(images: ObjectImages, count: int) -> Iterator[tuple[ObjectImage, tuple[float, float]]]:
    for i in _spread(len(images), count):
        masks = [one.mask() for one in images[i].objects]
        if any(mask.any() for mask in masks):
            x, y = deepest_pixel(max(masks, key=np.count_nonzero))[0]
            yield images[i], (x + 0.5, y + 0.5)


def _spread(images: int, count: int) -> list[int]:
    return [images * k // count for k in range(count)] if images > count else list(range(images))


def _caption(path: Path, images: ObjectImages) -> str:
    """With the folder where the images are of several, as frames of videos are."""
    return canvas.caption_of(path, images.paths[0].parent if path.parent == images.paths[-1].parent else "")
