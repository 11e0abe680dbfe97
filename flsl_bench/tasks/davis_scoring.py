"""Score a folder of DAVIS 2017 semi-supervised results against the truth: J, F, their statistics and the CSV tables.

As in `davis2017-evaluation` (`davis2017/evaluation.py`, `evaluation_method.py`), the first and the last frame of a
sequence are not scored, and the global numbers are means over the objects of all sequences, not over sequences.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flsl_bench.datasets import davis
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.files import atomic_write_text
from flsl_bench.metrics.davis import Statistics, frame_scores, statistics

Progress = Callable[[int, int], None]

_CHUNK = 8
"""Frames in one piece of work: few enough that a long sequence is shared by all workers to the end."""


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object of a sequence over its scored frames."""

    sequence: str
    object: int
    J: Statistics
    F: Statistics


@dataclass(frozen=True)
class Scores:
    """What `score` found: every object of every sequence that could be scored, and why the others could not."""

    split: str
    objects: list[ObjectScore]
    failures: dict[str, str] = field(default_factory=dict)
    """Sequence -> the message of what is wrong with it."""

    def summary(self) -> dict[str, float]:
        """The global table: means over all objects under the official column names, J&F-Mean first, from 0 to 1.

        Raises `DataError` if no sequence could be scored.
        """
        if not self.objects:
            reason = next(iter(self.failures.values()), "none was asked for")
            raise DataError(f"no sequence of split {self.split!r} could be scored; the first: {reason}")
        return _table(self.objects)

    def per_sequence(self) -> dict[str, dict[str, float]]:
        """The same table of each scored sequence: means over its objects."""
        by_name: dict[str, list[ObjectScore]] = {}
        for score in self.objects:
            by_name.setdefault(score.sequence, []).append(score)
        return {name: _table(objects) for name, objects in by_name.items()}

    def to_csv(self, folder: str | os.PathLike, *, partial: bool = False) -> tuple[Path, Path]:
        """Write `global_results-<split>.csv` and `per-sequence_results-<split>.csv` in the official layout.

        Returns the two paths. Raises `DataError` if sequences failed, whose absence the tables would not show,
        unless `partial` is set, and if none could be scored.
        """
        if self.failures and not partial:
            name, reason = next(iter(self.failures.items()))
            raise DataError(
                f"{len(self.failures)} sequences could not be scored, {name!r} for one: {reason}; "
                "mend them, or ask for a partial table"
            )
        summary = self.summary()
        whole = Path(folder) / f"global_results-{self.split}.csv"
        each = Path(folder) / f"per-sequence_results-{self.split}.csv"
        rows = ([f"{o.sequence}_{o.object}", _number(o.J.mean), _number(o.F.mean)] for o in self.objects)
        atomic_write_text(whole, _csv(summary, [map(_number, summary.values())]))
        atomic_write_text(each, _csv(["Sequence", "J-Mean", "F-Mean"], rows))
        return whole, each


def text_table(scores: Scores) -> str:
    """The global figures, then each sequence, then each object of a sequence with several, in percent."""
    rows = {"all": scores.summary()}
    for name, table in scores.per_sequence().items():
        rows[name] = table
        objects = [one for one in scores.objects if one.sequence == name]
        if len(objects) > 1:
            rows |= {f"  {name} {one.object}": _table([one]) for one in objects}
    width = max(map(len, rows))
    head = " " * width + "".join(f"{column:>10}" for column in rows["all"])
    lines = [f"{name:<{width}}" + "".join(f"{100 * v:10.1f}" for v in row.values()) for name, row in rows.items()]
    return "\n".join([head, *lines])


def score(
    results_dir: str | os.PathLike,
    davis_root: str | os.PathLike,
    *,
    split: str = "val",
    sequences: Sequence[str] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score `results_dir/<sequence>/*.png` against the DAVIS folder.

    `sequences`: names to score; by default those of the split. `workers`: threads, by default one a core; the numbers
    do not depend on it. `progress(frames done, frames in all)` is called in the calling thread.
    The objects of a sequence are 1 to the largest id in any of its annotations. An object that the result lacks is an
    empty mask; a scored frame that the result lacks, and an object id that the truth lacks, are failures.
    Raises `DataError` for a missing folder or split and for an unknown name among `sequences`, `ConfigError` for fewer
    than one worker; what is wrong with one sequence's files goes to `Scores.failures`.
    """
    workers = _cores() if workers is None else workers
    if workers < 1:
        raise ConfigError(f"workers={workers}: give 1 or more")
    results_dir = Path(results_dir)
    if not results_dir.is_dir():
        raise DataError(f"{results_dir}: no such folder of results; it must hold a folder of PNGs a sequence")
    names = davis.sequences(davis_root, split) if sequences is None else list(dict.fromkeys(sequences))
    if sequences is not None:
        for name in names:  # a name the caller mistyped is no broken sequence
            davis.sequence(davis_root, name)
    failures: dict[str, str] = {}
    plans = _plans(davis_root, names, results_dir, failures)
    objects = _run(plans, workers, progress, failures)
    return Scores(split, objects, {name: failures[name] for name in names if name in failures})


def _plans(
    davis_root: str | os.PathLike, names: list[str], results_dir: Path, failures: dict[str, str]
) -> dict[str, list["_Frame"]]:
    plans = {}
    for name in names:
        with _noting(failures, name):
            plans[name] = _frames(davis.sequence(davis_root, name), results_dir)
    return plans


def _run(
    plans: dict[str, list["_Frame"]], workers: int, progress: Progress | None, failures: dict[str, str]
) -> list[ObjectScore]:
    """Score in threads: decompression and array work release the interpreter's lock, while fresh processes gain little
    on a split of DAVIS once their start is paid, and would need a guarded main module in the caller's script.
    """
    objects: list[ObjectScore] = []
    done, total = 0, sum(map(len, plans.values()))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="davis-scoring")
    try:
        pending: dict[str, list[Future]] = {
            name: [pool.submit(_score_chunk, frames[i : i + _CHUNK]) for i in range(0, len(frames), _CHUNK)]
            for name, frames in plans.items()
        }
        for name, futures in pending.items():
            with _noting(failures, name):
                objects += _object_scores(name, [frame for future in futures for frame in future.result()])
            for future in futures:  # of no use once one of them has failed
                future.cancel()
            done += len(plans[name])
            if progress:
                progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)
    return objects


@contextmanager
def _noting(failures: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        failures[name] = str(error)


@dataclass(frozen=True)
class _Frame:
    """A frame to read: its annotation, and its result where it is scored."""

    truth: Path
    result: Path | None
    is_first: bool


@dataclass(frozen=True)
class _FrameScore:
    """J and F of objects 1, 2, ... of one frame; those beyond the arrays' ends are absent from both masks."""

    result: Path | None
    truth_count: int
    result_count: int
    J: np.ndarray
    F: np.ndarray


def _frames(sequence: davis.DavisSequence, results_dir: Path) -> list[_Frame]:
    masks = sequence.masks()
    if len(masks) < 3:
        raise DataError(f"{sequence.mask_folder}: {len(masks)} masks; the first and the last are not scored, give 3")
    folder = results_dir / sequence.name
    if not folder.is_dir():
        raise DataError(f"{folder}: no results of this sequence; write its masks there")
    scored = [_Frame(mask, folder / mask.name, False) for mask in masks[1:-1]]
    return [_Frame(masks[0], None, True), *scored, _Frame(masks[-1], None, False)]


def _score_chunk(frames: list[_Frame]) -> list[_FrameScore]:
    return [_score_frame(frame) for frame in frames]


def _score_frame(frame: _Frame) -> _FrameScore:
    truth = davis.read_mask(frame.truth)
    truth_count = davis.object_count(truth)
    if frame.is_first and not truth_count:
        raise DataError(f"{frame.truth}: no object in the first mask; nothing to score")
    if frame.result is None:
        return _FrameScore(None, truth_count, 0, np.ones(0), np.ones(0))
    result = davis.read_mask(frame.result)
    if result.shape != truth.shape:
        raise DataError(f"{frame.result}: {_size(result)}, its annotation is {_size(truth)}; write it in that size")
    result_count = davis.object_count(result)
    J, F = frame_scores(result, truth, range(1, max(truth_count, result_count) + 1))
    return _FrameScore(frame.result, truth_count, result_count, J, F)


def _object_scores(name: str, frames: list[_FrameScore]) -> list[ObjectScore]:
    count = max(frame.truth_count for frame in frames)
    for frame in frames:
        if frame.result_count > count:
            raise DataError(f"{frame.result}: object {frame.result_count}, the last in the annotations is {count}")
    scored = frames[1:-1]
    J, F = np.ones((count, len(scored))), np.ones((count, len(scored)))
    for t, frame in enumerate(scored):
        J[: len(frame.J), t], F[: len(frame.F), t] = frame.J, frame.F
    return [ObjectScore(name, k + 1, statistics(J[k]), statistics(F[k])) for k in range(count)]


def _table(objects: list[ObjectScore]) -> dict[str, float]:
    table = {}
    for measure in ("J", "F"):
        for statistic in ("mean", "recall", "decay"):
            values = [getattr(getattr(o, measure), statistic) for o in objects]
            table[f"{measure}-{statistic.capitalize()}"] = float(np.mean(values))
    return {"J&F-Mean": (table["J-Mean"] + table["F-Mean"]) / 2, **table}


def _csv(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return "".join(",".join(row) + "\n" for row in [header, *rows])


def _number(value: float) -> str:
    return f"{value:.3f}"


def _size(ids: np.ndarray) -> str:
    return f"{ids.shape[1]}x{ids.shape[0]}"


def _cores() -> int:
    """The cores this process may use, which on a shared machine are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
