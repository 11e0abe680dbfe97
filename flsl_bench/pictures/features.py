"""What patch tokens hold, as pictures uint8 RGB [H, W, 3] of the whole image at its `canvas.picture_size`.

The features must be of the whole image (view `Resize`); points are (x, y) in pixels of the image as stored.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flsl_bench.errors import ConfigError
from flsl_bench.pictures import canvas
from flsl_bench.probes.image_features import PatchFeatures

TEMPERATURE = 0.1
"""Of the mean-shift pictures. The suite's choice: FLSL's paper gives none for its figures."""

_PERCENTILES = (1.0, 99.0)
_FLAT = 1e-3  # a principal component that spans less than this part of a token's length is noise
_LARGEST_STEPS, _STILL = 50, 1e-5


def pca(features: Sequence[PatchFeatures]) -> list[np.ndarray]:
    """The first three principal components of the tokens as red, green and blue, one picture an image.

    One basis, fitted on the centred tokens of all images given. The largest entry of each axis is made positive; each
    component runs from its 1st to its 99th percentile over all images, beyond which it is cut; one that hardly varies
    is mid-grey. Bilinear between the patches.
    """
    colours = _principal_colours([_tokens(one) for one in features])
    return [_enlarged(one, colour, smooth=True) for one, colour in zip(features, colours, strict=True)]


def segments(features: PatchFeatures, image: np.ndarray, clusters: int = 6, seed: int = 0) -> np.ndarray:
    """The k-means clusters of the L2-normalised tokens, tinted over `image`, the picture of the same image.

    Colours go by size, largest cluster first. Raises `ConfigError` for more clusters than colours.
    """
    if not 2 <= clusters <= len(canvas.CATEGORIES):
        raise ConfigError(f"clusters={clusters}: give 2..{len(canvas.CATEGORIES)}, as many as there are clear colours")
    labels = kmeans(F.normalize(_tokens(features), dim=1).cpu().numpy(), clusters, seed)
    colours = _enlarged(features, canvas.CATEGORIES[labels], smooth=False)
    return canvas.tinted(image, colours, np.ones(image.shape[:2], bool), opacity=0.6)


def modes(features: PatchFeatures, temperature: float = TEMPERATURE) -> np.ndarray:
    """For every patch, the mode that mean shift takes its token to: patches of one colour shift to one mode.

    Drawn are the shifted tokens (`mean_shift`), coloured as in `pca`, so that near modes have near colours. Where all
    tokens run together into one mode the picture is mid-grey.
    """
    shifted = mean_shift(_tokens(features), temperature)
    (colours,) = _principal_colours([shifted])
    return _enlarged(features, colours, smooth=False)


def assignment(
    features: PatchFeatures,
    point: tuple[float, float],
    temperature: float = TEMPERATURE,
    long_side: int = canvas.LONG_SIDE,
) -> np.ndarray:
    """The mean-shift assignment of the patch under `point` to all patches, in viridis, the point marked.

    Drawn is one row of softmax(z z^T / temperature), with z the L2-normalised tokens: the weights of all patches in
    the mean that this patch's token moves to in the first step. Dark is 0, yellow the row's 99th percentile and more:
    the patch's weight for itself often stands far above all others.
    """
    z = F.normalize(_tokens(features), dim=1)
    row = _weights(z[_patch(features, point)] @ z.T, temperature)
    return _map_of_point(features, row, point, 0.0, float(row.quantile(0.99)), long_side)


def assignments(
    features: PatchFeatures, rows: int = 3, columns: int = 4, temperature: float = TEMPERATURE
) -> np.ndarray:
    """`assignment` for a regular grid of points: the tile's place in the picture is the point's in the image."""
    width, height = features.image_size
    side = canvas.LONG_SIDE // max(rows, columns)
    grid = [[((j + 0.5) * width / columns, (i + 0.5) * height / rows) for j in range(columns)] for i in range(rows)]
    tiles = [[assignment(features, point, temperature, side) for point in row] for row in grid]
    return canvas.below(*(canvas.beside(*row) for row in tiles))


def similarity(features: PatchFeatures, point: tuple[float, float]) -> np.ndarray:
    """Cosine similarity of the patch under `point` to every patch, in viridis, the point marked.

    Dark is the smallest similarity in the image, yellow is 1. Bilinear between the patches.
    """
    z = F.normalize(_tokens(features), dim=1)
    row = z @ z[_patch(features, point)]
    return _map_of_point(features, row, point, float(row.min()), 1.0)


def mean_shift(tokens: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Modes [N, C] of tokens [N, C] on the unit sphere: z <- normalise(softmax(z z^T / temperature) z) until it rests.

    Blurring mean shift under a von Mises-Fisher kernel; without the normalisation, one step is FLSL's view of
    self-attention with 1 / temperature for its tau (arXiv 2306.06203, section 3). At most 50 steps.
    """
    _check_temperature(temperature)
    z = F.normalize(tokens, dim=1)
    for _ in range(_LARGEST_STEPS):
        shifted = F.normalize(_weights(z @ z.T, temperature) @ z, dim=1)
        moved = float((shifted - z).norm(dim=1).max())
        z = shifted
        if moved < _STILL:
            break
    return z


def kmeans(points: np.ndarray, clusters: int, seed: int = 0, steps: int = 100) -> np.ndarray:
    """Cluster numbers [N] of points [N, C] by Lloyd's algorithm from k-means++ centres; largest cluster first.

    Fewer distinct points than clusters leave numbers unused.
    """
    points = np.asarray(points, np.float64)
    centres = _spread_centres(points, clusters, np.random.default_rng(seed))
    labels = np.full(len(points), -1)
    for _ in range(steps):
        nearest = _squared_distances(points, centres).argmin(1)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        for k in np.unique(labels):
            centres[k] = points[labels == k].mean(0)
    order = np.argsort(-np.bincount(labels, minlength=len(centres)), kind="stable")
    return np.argsort(order)[labels]


def _spread_centres(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ (Arthur and Vassilvitskii, 2007): each next centre by chance, in proportion to squared distance."""
    centres = [points[rng.integers(len(points))]]
    while len(centres) < clusters:
        distances = _squared_distances(points, np.array(centres)).min(1)
        if not distances.sum() > 1e-12 * len(points):  # no further distinct point
            break
        centres.append(points[rng.choice(len(points), p=distances / distances.sum())])
    return np.array(centres)


def _squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    squares = (points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)
    return squares.clip(min=0)


def _principal_colours(tokens: list[Tensor]) -> list[np.ndarray]:
    """Colours uint8 [N_i, 3] of each of several sets of tokens [N_i, C], in the basis of all."""
    points = torch.cat(tokens).double().cpu().numpy()
    centred = points - points.mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :3]
    axes = axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1, 1)
    components = centred @ axes
    low, high = np.percentile(components, _PERCENTILES, axis=0)
    flat = high - low <= _FLAT * np.sqrt((points**2).sum(1).mean())
    scaled = np.where(flat, 0.5, (components - low) / np.where(flat, 1, high - low))
    colours = np.full((len(points), 3), 128, np.uint8)
    colours[:, : scaled.shape[1]] = (scaled.clip(0, 1) * 255).round()
    return np.split(colours, np.cumsum([len(one) for one in tokens])[:-1])


def _tokens(features: PatchFeatures) -> Tensor:
    """[h * w, C]; raises `ConfigError` for features of a part of the image, which would be drawn out of place."""
    if features.input_size != features.geometry.resized:
        raise ConfigError("pictures need features of the whole image; use the view Resize")
    return features.tokens.flatten(1).T


def _patch(features: PatchFeatures, point: tuple[float, float]) -> int:
    """Number of the patch under `point`. Raises `ConfigError` for a point outside the image."""
    (width, height), (_, rows, columns) = features.image_size, features.tokens.shape
    x, y = point
    if not (0 <= x < width and 0 <= y < height):
        raise ConfigError(f"point {x:g},{y:g}: not in the image of {width} x {height} pixels; give X,Y within it")
    return int(y * rows / height) * columns + int(x * columns / width)


def _weights(similarities: Tensor, temperature: float) -> Tensor:
    _check_temperature(temperature)
    return torch.softmax(similarities / temperature, dim=-1)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ConfigError(f"temperature={temperature}: give a number above 0")


def _map_of_point(
    features: PatchFeatures,
    row: Tensor,
    point: tuple[float, float],
    low: float,
    high: float,
    long_side: int = canvas.LONG_SIDE,
) -> np.ndarray:
    size = canvas.picture_size(features.image_size, long_side)
    values = row.reshape(features.tokens.shape[1:]).float().cpu().numpy()
    picture = canvas.heat(canvas.enlarged(values, size, smooth=True), low, high)
    return canvas.marked(picture, canvas.scaled_point(point, features.image_size, size))


def _enlarged(features: PatchFeatures, colours: np.ndarray, smooth: bool) -> np.ndarray:
    patches = colours.reshape(*features.tokens.shape[1:], 3)
    return canvas.enlarged(patches, canvas.picture_size(features.image_size), smooth)
