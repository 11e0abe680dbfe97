"""DAVIS scoring side by side with a plain port of the official algorithm: times, ratio, and whether the numbers agree.

    python benchmarks/davis_scoring.py                                # clips drawn by the script
    python benchmarks/davis_scoring.py DAVIS_ROOT RESULTS --split val
    python benchmarks/davis_scoring.py DAVIS_ROOT RESULTS --sequences blackswan libby

The port follows `davis2017-evaluation`: one process, whole sequences in memory, masks expanded to one float plane an
object, full-frame boundaries and dilations. Both sides read the PNGs. It needs OpenCV and scikit-image.
It counts objects in the first mask and stores quarters as uint8, so the numbers can differ where that is wrong:
sequences of more than 255 frames, and objects that enter later.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from skimage.morphology import disk

from flsl_bench.datasets import davis
from flsl_bench.errors import FlslBenchError
from flsl_bench.tasks.davis_scoring import Scores, score

AGREE = 1e-9
STATISTICS = ("mean", "recall", "decay")


def ported_scores(root: Path, results: Path, names: list[str]) -> dict[str, list[float]]:
    """`<sequence>_<object>` -> mean, recall and decay of J, then of F."""
    table = {}
    for name in names:
        paths = sorted((root / "Annotations" / "480p" / name).glob("*.png"))
        truth = np.stack([np.array(Image.open(p)) for p in paths]).astype(np.float64)
        found = np.stack([np.array(Image.open(results / name / p.name)) for p in paths[1:-1]]).astype(np.float64)
        void = truth == 255
        truth[void] = 0
        count = int(truth[0].max())
        truth, found = _one_hot(truth, count)[:, 1:-1], _one_hot(found, count)
        for k in range(count):
            j = _ported_j(found[k], truth[k], void[1:-1])
            f = np.array([_ported_f(*frame) for frame in zip(found[k], truth[k], void[1:-1], strict=True)])
            table[f"{name}_{k + 1}"] = [*_ported_statistics(j), *_ported_statistics(f)]
    return table


def _one_hot(masks: np.ndarray, count: int) -> np.ndarray:
    planes = np.ones((count, *masks.shape)) * np.arange(1, count + 1)[:, None, None, None]
    return planes == masks[None]


def _ported_j(found: np.ndarray, truth: np.ndarray, void: np.ndarray) -> np.ndarray:
    both = np.sum(found & truth & ~void, axis=(1, 2))
    either = np.sum((found | truth) & ~void, axis=(1, 2))
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def _ported_f(found: np.ndarray, truth: np.ndarray, void: np.ndarray) -> float:
    kernel = disk(math.ceil(0.008 * np.linalg.norm(truth.shape))).astype(np.uint8)
    found, truth = _ported_boundary(found & ~void), _ported_boundary(truth & ~void)
    near_found = cv2.dilate(found.astype(np.uint8), kernel)
    near_truth = cv2.dilate(truth.astype(np.uint8), kernel)
    in_found, in_truth = np.sum(found), np.sum(truth)
    if in_found == 0 or in_truth == 0:
        return float(in_found == in_truth)
    precision = np.sum(found * near_truth) / in_found
    recall = np.sum(truth * near_found) / in_truth
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _ported_boundary(mask: np.ndarray) -> np.ndarray:
    right, below, across = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    right[:, :-1] = mask[:, 1:]
    below[:-1] = mask[1:]
    across[:-1, :-1] = mask[1:, 1:]
    boundary = mask ^ right | mask ^ below | mask ^ across
    boundary[-1] = mask[-1] ^ right[-1]
    boundary[:, -1] = mask[:, -1] ^ below[:, -1]
    boundary[-1, -1] = 0
    return boundary


def _ported_statistics(values: np.ndarray) -> tuple[float, float, float]:
    limits = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.uint8)
    first, last = values[limits[0] : limits[1] + 1], values[limits[3] : limits[4] + 1]
    return np.nanmean(values), np.nanmean(values > 0.5), np.nanmean(first) - np.nanmean(last)


def draw_clips(root: Path, clips: int = 3, frames: int = 40, objects: int = 2) -> None:
    """Write clips of moving ellipses at 854x480 with their annotations, void rims, and results that drift from them."""
    rng = np.random.default_rng(0)
    names = [f"clip{c}" for c in range(clips)]
    for name in names:
        start, speed = rng.uniform((100, 100), (700, 400), (objects, 2)), rng.uniform(-4, 4, (objects, 2))
        for t in range(frames):
            truth = np.zeros((480, 854), np.uint8)
            result = np.zeros_like(truth)
            for k in range(objects):
                centre = start[k] + t * speed[k]
                _ellipse(truth, centre, 60 + 20 * k, 255)
                _ellipse(truth, centre, 57 + 20 * k, k + 1)
                _ellipse(result, centre + 0.4 * t + rng.normal(0, 3, 2), 57 + 20 * k + rng.normal(0, 3), k + 1)
            davis.write_mask(root / "Annotations" / "480p" / name / f"{t:05d}.png", truth)
            davis.write_mask(root / "results" / name / f"{t:05d}.png", result)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _ellipse(image: np.ndarray, centre: np.ndarray, radius: float, value: int) -> None:
    x, y = np.round(centre).astype(int).tolist()
    cv2.ellipse(image, (x, y), (int(radius * 1.4), int(radius)), 20, 0, 360, value, -1)


def largest_difference(ours: Scores, ported: dict[str, list[float]]) -> float:
    """Over all objects and statistics; infinite if the objects themselves differ."""
    mine = {
        f"{o.sequence}_{o.object}": [getattr(measure, s) for measure in (o.J, o.F) for s in STATISTICS]
        for o in ours.objects
    }
    if mine.keys() != ported.keys():
        return math.inf
    return max(float(np.max(np.abs(np.subtract(mine[name], ported[name])))) for name in mine)


def best_time(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Seconds of the fastest of `repeats` runs, and what the last gave."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        outcome = work()
        times.append(time.perf_counter() - begun)
    return min(times), outcome


def compare(root: Path, results: Path, split: str, names: list[str] | None, workers: int | None, repeats: int) -> bool:
    """Print both times and their ratio; whether all numbers agree to 1e-9."""
    our_time, ours = best_time(lambda: score(results, root, split=split, sequences=names, workers=workers), repeats)
    for name, reason in ours.failures.items():
        print(f"not scored: {name}: {reason}", file=sys.stderr)
    scored = list(ours.per_sequence())
    port_time, ported = best_time(lambda: ported_scores(root, results, scored), repeats)
    frames = sum(len(davis.sequence(root, name).masks()) for name in scored)
    difference = largest_difference(ours, ported)
    print(
        f"{len(scored)} sequences, {len(ours.objects)} objects, {frames} frames; J&F {ours.summary()['J&F-Mean']:.4f}"
    )
    print(f"flsl_bench     {our_time:8.2f} s  {1e3 * our_time / frames:7.2f} ms a frame")
    print(f"official port  {port_time:8.2f} s  {1e3 * port_time / frames:7.2f} ms a frame")
    print(f"ratio          {port_time / our_time:8.1f}")
    print(f"largest difference {difference:.1e}: {'equal' if difference <= AGREE else 'NOT EQUAL'} to {AGREE:g}")
    return difference <= AGREE and not ours.failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("davis_root", nargs="?", type=Path)
    parser.add_argument("results", nargs="?", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--sequences", nargs="+")
    parser.add_argument("--workers", type=int, help="threads of ours; the port always has one")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each side, of which the fastest counts")
    options = parser.parse_args()
    if (options.davis_root is None) != (options.results is None):
        parser.error("give both DAVIS_ROOT and RESULTS, or neither")
    cv2.setNumThreads(1)  # the official code runs in one thread of one process
    rest = options.split, options.sequences, options.workers, max(options.repeats, 1)
    try:
        if options.davis_root:
            return not compare(options.davis_root, options.results, *rest)
        with tempfile.TemporaryDirectory() as folder:
            draw_clips(Path(folder))
            return not compare(Path(folder), Path(folder) / "results", *rest)
    except FlslBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
