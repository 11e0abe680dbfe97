"""Boxes, instance masks and label maps over their image, as pictures uint8 RGB [H, W, 3]."""

from collections.abc import Sequence

import cv2
import numpy as np

from flsl_bench.pictures import canvas

_MOST_TEXTS = 30  # more hide the picture
_LONGEST_LEGEND = 24


def draw_instances(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[int],
    *,
    scores: Sequence[float] | None = None,
    masks: np.ndarray | None = None,
    names: Sequence[str] = (),
    image_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Boxes [N, 4] (x0, y0, x1, y1) with their class and score, coloured by class, and their masks [N, H', W'] tinted.

    Boxes are in pixels of an image of `image_size` (width, height), by default that of the picture `image`; masks are
    of any size and cover the whole image. A class without a name is shown by its number. Beyond 30 boxes, no texts.
    """
    height, width = image.shape[:2]
    colours = canvas.class_colours(max([len(names), *(label + 1 for label in labels)]))
    picture = image.copy()
    if masks is not None:
        for k in np.argsort([-np.count_nonzero(mask) for mask in masks], kind="stable"):  # small ones on top
            where = cv2.resize(np.asarray(masks[k], np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
            picture = canvas.tinted(picture, colours[labels[k]], where, opacity=0.5)
    factors = np.divide((width, height), image_size or (width, height))
    corners = (np.reshape(boxes, (-1, 4)) * np.tile(factors, 2)).round().astype(int)
    for (x0, y0, x1, y1), label in zip(corners.tolist(), labels, strict=True):
        cv2.rectangle(picture, (x0, y0), (x1, y1), colours[label].tolist(), 1 if len(labels) > _MOST_TEXTS else 2)
    if len(labels) <= _MOST_TEXTS:
        for (x0, y0, _, _), label, score in zip(corners, labels, scores or [None] * len(labels), strict=True):
            name = names[label] if label < len(names) else str(label)
            text = name if score is None else f"{name} {score:.2f}"
            canvas.write_text(picture, text, (x0, y0), colours[label], scale=0.4)
    return picture


def draw_label_map(image: np.ndarray, labels: np.ndarray, classes: int, opacity: float = 0.6) -> np.ndarray:
    """Each of the `classes` in `labels` [H', W'], 0-based, tinted in its colour over `image`; void (255) is left.

    `labels` may be of another size than the picture and covers the whole image.
    """
    labels = cv2.resize(labels.astype(np.int32), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    known = (labels >= 0) & (labels < classes)
    return canvas.tinted(image, canvas.class_colours(classes)[np.where(known, labels, 0)], known, opacity)


def with_label_legend(picture: np.ndarray, maps: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """`picture` with a legend of the classes in label maps, those of most pixels first, at most 24."""
    counts = sum(np.bincount(one[one < len(names)].ravel(), minlength=len(names)) for one in maps)
    present = [k for k in np.argsort(-counts, kind="stable")[:_LONGEST_LEGEND] if counts[k]]
    return canvas.with_legend(picture, [names[k] for k in present], canvas.class_colours(len(names))[present])
