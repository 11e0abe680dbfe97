"""Drawn images with a class a pixel, and plain references of what probes do with them."""

import numpy as np
from PIL import Image

from flsl_bench.datasets.semantic import VOID, SemanticImage, SemanticImages

CLASSES = ("ground", "red", "green", "blue")
SIZES = [(64, 48), (50, 70), (48, 48)]


def draw(folder, images, seed=0, void=False):
    """Images of three sizes with coloured boxes of the last three classes and void borders; `void`: nothing else."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    result = []
    for i in range(images):
        width, height = SIZES[i % len(SIZES)]
        pixels = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
        labels = np.zeros((height, width), np.uint8)
        for label in rng.permutation(3)[:2]:
            x, y = int(rng.integers(0, width - 24)), int(rng.integers(0, height - 24))
            pixels[y : y + 22, x : x + 22, label] = 250
            labels[y : y + 22, x : x + 22] = VOID
            labels[y + 1 : y + 21, x + 1 : x + 21] = label + 1
        Image.fromarray(pixels).save(folder / f"{i}.png")
        Image.fromarray(labels if not void else np.full_like(labels, VOID)).save(folder / f"{i}_labels.png")
        result.append(SemanticImage(folder / f"{i}.png", folder / f"{i}_labels.png", read))
    return SemanticImages(tuple(result), CLASSES)


def read(path):
    return np.asarray(Image.open(path))


def plain_patches(features, image):
    """Each patch's vector, float64 [C], and pixels of each class [K], from the labels at the ViT's input's pixels."""
    taken, labels, patch = features.one(image.path), image.label_map(), features.patch_size
    (width, height), (rows, columns) = taken.input_size, taken.tokens.shape[1:]
    for row in range(rows):
        for column in range(columns):
            counts = np.zeros(len(CLASSES))
            for y in range(row * patch, (row + 1) * patch):
                for x in range(column * patch, (column + 1) * patch):
                    label = labels[int((y + 0.5) / height * len(labels)), int((x + 0.5) / width * len(labels[0]))]
                    if label != VOID:
                        counts[label] += 1
            yield taken.tokens[:, row, column].numpy().astype(np.float64), counts


def plain_areas(features, data, predict):
    """Intersection, prediction and truth [3, K] of the classes of up-sampled scores; `predict`: [N, C] to [N, K]."""
    areas = np.zeros((3, len(CLASSES)), int)
    for image in data.images:
        tokens, labels = features.one(image.path).tokens.numpy().astype(np.float64), image.label_map()
        scores = predict(tokens.reshape(len(tokens), -1).T).reshape(*tokens.shape[1:], -1)
        for y in range(len(labels)):
            for x in range(len(labels[0])):
                truth, guess = labels[y, x], int(np.argmax(interpolate(scores, y, x, labels.shape)))
                if truth != VOID:
                    areas[0, truth] += truth == guess
                    areas[1, guess] += 1
                    areas[2, truth] += 1
    return areas


def interpolate(scores, y, x, size):
    """Scores [h, w, K] at the centre of a pixel of a map of `size`, bilinear between the centres of patches."""
    where = []
    for pixel, old, new in ((y, scores.shape[0], size[0]), (x, scores.shape[1], size[1])):
        at = max((pixel + 0.5) * old / new - 0.5, 0)
        low = min(int(at), old - 1)
        where.append((low, min(low + 1, old - 1), at - low))
    (top, bottom, down), (left, right, along) = where
    rows = [(1 - along) * scores[row, left] + along * scores[row, right] for row in (top, bottom)]
    return (1 - down) * rows[0] + down * rows[1]
