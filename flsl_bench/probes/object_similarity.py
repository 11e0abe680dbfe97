"""How much more alike patches of one object are than patches of different objects, or of object and background.

Pairs of patches of one image are of three kinds: within one object, of two objects, of an object and the background.
Their cosine similarities are pooled over the data set.
"""

import functools
import importlib
import math
import zlib
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flsl_bench.datasets.objects import ObjectImage, ObjectImages
from flsl_bench.errors import ConfigError
from flsl_bench.probes.image_features import ImageFeatures, PatchFeatures, Progress
from flsl_bench.probes.prompt_segmentation import check_pair
from flsl_bench.probes.resampling import area_weights

KINDS = ("pairs within one object", "pairs of two objects", "pairs of object and background")

BACKGROUND, NONE = -1, -2
"""Owners of patches that are no object's: background, and neither (void, or nothing covers enough)."""

_BINS = 20_000
"""Of width 0.0001: of pairs in one bin, AUROC takes half."""
_GROUPS = 10
_DRAWS_AT_A_TIME = 1 << 16


@dataclass(frozen=True)
class ObjectSimilarity:
    """The protocol. Raises `ConfigError` for values that mean nothing."""

    coverage: float = 0.5
    """A patch belongs to the object, or the background, that covers the largest share of it, if more than this."""
    bin_width: float = 0.01
    """Of the histograms that overlap is measured on, a divisor of 2 and a multiple of 0.0001."""
    max_pairs: int = 20_000_000
    """Up to this number of pairs an image, all are counted; of more, `samples` of each kind are drawn."""
    samples: int = 50_000
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.coverage < 1:
            raise ConfigError(f"coverage={self.coverage}: give a share from 0 to below 1")
        fine = self.bin_width * _BINS / 2
        if not math.isfinite(fine) or fine < 0.5 or abs(fine - round(fine)) > 1e-6 or _BINS % round(fine):
            raise ConfigError(f"bin_width={self.bin_width}: give a divisor of 2 and multiple of {2 / _BINS}, as 0.01")
        if self.max_pairs < 0 or self.samples < _GROUPS or self.seed < 0:
            raise ConfigError(
                f"max_pairs={self.max_pairs}, samples={self.samples}, seed={self.seed}: give none below 0 and at least "
                f"{_GROUPS} samples"
            )


@dataclass(frozen=True)
class SimilarityScores:
    """Histograms float64 [bins] over [-1, 1] and sums of the similarities, each by kind of pair."""

    options: ObjectSimilarity
    counts: np.ndarray
    """[3, bins] pairs within one object, of two objects, of an object and the background."""
    sums: np.ndarray
    """[3] of their similarities."""
    groups: tuple["SimilarityScores", ...]
    """The same from each tenth of the draws, from which standard errors follow; empty if nothing was drawn."""
    images: int
    sampled_images: int
    """Of which pairs were drawn."""
    objects: int
    without_patch: int
    """Objects that no patch belongs to."""

    def metrics(self) -> dict[str, float | None]:
        """AUROC and overlap in percent, means and their gap as cosines; None for what has no pairs.

        "AUROC": chance that a pair within an object is more alike than one that is not, half of equals counted, with
        those of two objects and with background pairs alone beside it. "overlap": area that the two normalised
        histograms share. "gap": difference of their means. "<metric>-error": standard error of what was drawn
        (jackknife over ten groups; Wolter, Introduction to Variance Estimation, chapter 4); 0 if all were counted.
        """
        values = self._values()
        return values | {f"{name}-error": self._error(name) for name in ("AUROC", "overlap", "gap")}

    def breakdowns(self) -> dict[str, dict[str, float | None]]:
        """The share of each kind's pairs in each bin, in percent, by the bin's lower end; empty bins are left out."""
        shares = self._shares(self.counts)
        width = self.options.bin_width
        return {
            kind: {f"{-1 + width * k:.4g}": 100 * float(row[k]) for k in np.flatnonzero(row)}
            for kind, row in zip(KINDS, shares, strict=True)
        }

    def _values(self) -> dict[str, float | None]:
        counts = {"within": self.counts[0], "between": self.counts[1:].sum(axis=0)}
        sums = {"within": self.sums[0], "between": self.sums[1:].sum()}
        means = {kind: float(sums[kind] / n.sum()) if n.any() else None for kind, n in counts.items()}
        within, between = self._shares(np.stack(list(counts.values())))
        known = None not in means.values()
        return {
            "AUROC": _auroc(self.counts[0], counts["between"]),
            "AUROC-objects": _auroc(self.counts[0], self.counts[1]),
            "AUROC-background": _auroc(self.counts[0], self.counts[2]),
            "overlap": 100 * float(np.minimum(within, between).sum()) if known else None,
            "gap": means["within"] - means["between"] if known else None,
            "mean-within": means["within"],
            "mean-between": means["between"],
        }

    def _shares(self, counts: np.ndarray) -> np.ndarray:
        """Shares [..., coarse bins] of histograms [..., bins]; zeros of an empty one."""
        coarse = counts.reshape(*counts.shape[:-1], -1, round(self.options.bin_width * _BINS / 2)).sum(axis=-1)
        return coarse / np.maximum(coarse.sum(axis=-1, keepdims=True), 1)

    def _error(self, name: str) -> float | None:
        whole = self._values()[name]
        if whole is None or not self.groups:
            return whole if whole is None else 0.0
        n = len(self.groups)
        values = np.array([self._without_group(group)._values()[name] for group in self.groups])
        return float(math.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum()))

    def _without_group(self, group: "SimilarityScores") -> "SimilarityScores":
        """The scores of all draws but a tenth of them, weighted to stand for all."""
        n = len(self.groups)
        counts, sums = (n * self.counts - group.counts) / (n - 1), (n * self.sums - group.sums) / (n - 1)
        return replace(self, counts=np.maximum(counts, 0), sums=sums, groups=())


def object_similarity(
    features: ImageFeatures,
    images: ObjectImages,
    options: ObjectSimilarity | None = None,
    progress: Progress | None = None,
) -> SimilarityScores:
    """Compare the patches of the objects in `images`, with one forward pass an image.

    `progress` is called with an image's name, the images done and those in all. Memory does not grow with their number.
    Raises what `SimilarityCounter.add` raises.
    """
    counter = SimilarityCounter(options)
    for done, (patches, image) in enumerate(zip(features.many(images.paths), images, strict=True), 1):
        counter.add(patches, image)
        if progress:
            progress(image.path.name, done, len(images))
    return counter.scores()


class SimilarityCounter:
    """Counts image after image, so that several probes can share one pass over them."""

    def __init__(self, options: ObjectSimilarity | None = None):
        self.options = options or ObjectSimilarity()
        self._counts, self._sums = np.zeros((3, _BINS), np.int64), np.zeros(3)
        self._drawn, self._drawn_sums = np.zeros((_GROUPS, 3, _BINS)), np.zeros((_GROUPS, 3))
        self._images = self._sampled = self._objects = self._without = 0

    def add(self, features: PatchFeatures, image: ObjectImage) -> None:
        """Count the pairs of one image.

        Raises `DataError` for an annotation that cannot be decoded or is of another size than the image, `ConfigError`
        for features of a part of the image.
        """
        check_pair(features, image)
        owners = patch_owners(image, features.tokens.shape[1:], self.options.coverage)
        sizes = np.bincount(owners[owners >= 0], minlength=len(image.objects))
        self._images += 1
        self._objects += len(image.objects)
        self._without += int((sizes == 0).sum())
        sizes, background = sizes[sizes > 0], int((owners == BACKGROUND).sum())
        pairs = _pairs(sizes, background)
        if not pairs.any():
            return
        # Objects one after another, the background behind them.
        order = np.argsort(np.where(owners == BACKGROUND, len(image.objects), owners), kind="stable")
        order = torch.from_numpy(order[(owners == NONE).sum() :])
        tokens = features.tokens.flatten(1)
        unit = F.normalize(tokens[:, order.to(tokens.device)], dim=0)  # [C, N]
        if pairs.sum() <= self.options.max_pairs:
            self._count_all(unit, sizes)
        else:
            self._sampled += 1
            self._draw(unit, sizes, pairs, image)

    def scores(self) -> SimilarityScores:
        """The scores of all images so far."""
        groups = ()
        if self._sampled:
            groups = tuple(
                self._with(_GROUPS * counts, _GROUPS * sums)
                for counts, sums in zip(self._drawn, self._drawn_sums, strict=True)
            )
        return self._with(self._drawn.sum(axis=0), self._drawn_sums.sum(axis=0), groups)

    def _with(
        self, drawn: np.ndarray, drawn_sums: np.ndarray, groups: tuple[SimilarityScores, ...] = ()
    ) -> SimilarityScores:
        return SimilarityScores(
            options=self.options,
            counts=self._counts + drawn,
            sums=self._sums + drawn_sums,
            groups=groups,
            images=self._images,
            sampled_images=self._sampled,
            objects=self._objects,
            without_patch=self._without,
        )

    def _count_all(self, unit: Tensor, sizes: np.ndarray) -> None:
        owned = int(sizes.sum())
        similarity = (unit[:, :owned].t() @ unit).cpu().numpy()
        ends = np.repeat(np.cumsum(sizes), sizes)
        _loops().count_pairs(similarity, ends, owned, self._counts, self._sums)

    def _draw(self, unit: Tensor, sizes: np.ndarray, pairs: np.ndarray, image: ObjectImage) -> None:
        """Add `samples` pairs of each kind, drawn with replacement and weighted to stand for all of the kind."""
        rng = np.random.default_rng([self.options.seed, zlib.crc32(image.path.name.encode())])
        rows = unit.t().contiguous()
        for kind in np.flatnonzero(pairs):
            weight = pairs[kind] / self.options.samples
            for begin in range(0, self.options.samples, _DRAWS_AT_A_TIME):
                number = min(_DRAWS_AT_A_TIME, self.options.samples - begin)
                first, second = _draw_pairs(int(kind), number, sizes, unit.shape[1], rng)
                ends = (torch.from_numpy(index).to(rows.device) for index in (first, second))
                values = torch.linalg.vecdot(*(rows[index] for index in ends)).double().cpu().numpy()
                group = (begin + np.arange(number)) % _GROUPS
                places = np.clip(((values + 1) * (_BINS / 2)).astype(np.int64), 0, _BINS - 1)
                np.add.at(self._drawn[:, kind], (group, places), weight)
                np.add.at(self._drawn_sums[:, kind], group, weight * values)


def patch_owners(image: ObjectImage, grid: tuple[int, int], coverage: float) -> np.ndarray:
    """The place in `image.objects` of what each patch belongs to, int64 [h * w], or `BACKGROUND` or `NONE`.

    A patch belongs to what covers the largest share of its area, if that is more than `coverage`; of equals to the
    object that comes first, and to the background last.
    """
    width, height = image.size
    rows, columns = area_weights(height, grid[0]), area_weights(width, grid[1])
    taken = image.void()
    taken = np.zeros((height, width), bool) if taken is None else taken.copy()
    void = taken.copy()
    shares = []
    for one in image.objects:
        mask = one.mask()
        shares.append(_share(mask, rows, columns))
        void &= ~mask
        taken |= mask
    candidates = np.stack([*shares, _share(~taken, rows, columns), _share(void, rows, columns)])
    owners, largest = candidates.argmax(axis=0), candidates.max(axis=0)
    names = np.array([*range(len(shares)), BACKGROUND, NONE])
    return np.where(largest > coverage, names[owners], NONE)


def _share(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The share of each patch that a mask covers, float64 [h * w], rounded so that equal shares are equal."""
    inside_rows, inside_columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(inside_rows):
        return np.zeros(len(rows) * len(columns))
    y = slice(inside_rows[0], inside_rows[-1] + 1)
    x = slice(inside_columns[0], inside_columns[-1] + 1)
    share = (rows[:, y] @ mask[y, x].astype(np.float32)) @ columns[:, x].T
    return np.round(share.astype(np.float64).ravel(), 5)


def _pairs(sizes: np.ndarray, background: int) -> np.ndarray:
    """The number of pairs of each kind, int64 [3]."""
    owned = int(sizes.sum())
    within = int((sizes * (sizes - 1) // 2).sum())
    return np.array([within, owned * (owned - 1) // 2 - within, owned * background])


def _draw_pairs(
    kind: int, number: int, sizes: np.ndarray, patches: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`number` pairs of a kind, each equally likely, with replacement: two arrays of places in the patches' order."""
    starts, owned = np.cumsum(sizes) - sizes, int(sizes.sum())
    if kind == 2:
        return rng.integers(owned, size=number), rng.integers(owned, patches, size=number)
    # An ordered pair of an object: the second one skips those that the kind rules out.
    partners = sizes - 1 if kind == 0 else owned - sizes
    weights = sizes * partners
    chosen = rng.choice(len(sizes), number, p=weights / weights.sum())
    first = starts[chosen] + rng.integers(sizes[chosen])
    second = rng.integers(partners[chosen])
    if kind == 0:
        second = starts[chosen] + second
        return first, second + (second >= first)
    return first, np.where(second >= starts[chosen], second + sizes[chosen], second)


def _auroc(positive: np.ndarray, negative: np.ndarray) -> float | None:
    """Chance in percent that a draw of `positive` is larger than one of `negative`, half of a common bin counted."""
    if not (positive.any() and negative.any()):
        return None
    positive, negative = positive / positive.sum(), negative / negative.sum()
    below = np.cumsum(negative) - negative
    return 100 * float(positive @ (below + negative / 2))


@functools.cache
def _loops() -> ModuleType:
    return importlib.import_module("flsl_bench.probes.object_similarity_loops")
