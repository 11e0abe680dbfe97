"""The official davis2017-evaluation package as a cross-check of our own scores, where it is installed."""

import os
from pathlib import Path

from flsl_bench.errors import ConfigError
from flsl_bench.tasks.davis_scoring import Scores

_STATISTICS = {"M": "mean", "R": "recall", "D": "decay"}


def differences(scores: Scores, results_dir: str | os.PathLike, davis_root: str | os.PathLike) -> dict[str, float]:
    """Absolute difference of every mean over objects ("J-mean", ...) and of every object's mean ("J libby_1").

    The package scores the whole split, so all its sequences must have results. Its known faults (more than 255
    frames, 255 in a result) show up here as differences.

    Raises:
        ConfigError: the package is not importable, or not every sequence of the split was scored.
    """
    try:
        from davis2017.evaluation import DAVISEvaluation
    except ImportError as error:
        raise ConfigError(
            "--cross-check needs the official package, which is not on PyPI: clone davischallenge/davis2017-evaluation "
            "and run python setup.py develop in it"
        ) from error
    evaluation = DAVISEvaluation(str(davis_root), task="semi-supervised", gt_set=scores.split)
    official = evaluation.evaluate(str(Path(results_dir)))
    found = {}
    for measure in ("J", "F"):
        per_object = official[measure]["M_per_object"]
        ours = {f"{one.sequence}_{one.object}": getattr(one, measure).mean for one in scores.objects}
        if ours.keys() != per_object.keys():
            raise ConfigError("--cross-check compares whole splits: leave --sequences out")
        found |= {f"{measure} {name}": abs(value - float(per_object[name])) for name, value in ours.items()}
        for letter, statistic in _STATISTICS.items():
            values = [getattr(getattr(one, measure), statistic) for one in scores.objects]
            mean = sum(official[measure][letter]) / len(official[measure][letter])
            found[f"{measure}-{statistic}"] = abs(sum(values) / len(values) - float(mean))
    return found
