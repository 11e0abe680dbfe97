"""Hooks of a run: provenance in every checkpoint, the last scores kept, a progress bar."""

import time
from dataclasses import dataclass

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from flsl_bench.progress import Bars


class ResultHook(Hook):
    """Keeps the scores of the last evaluation and writes the run's provenance into every checkpoint it saves.

    A metric that has scores of parts, by class or by sequence, leaves them in its attribute `breakdowns`.
    """

    def __init__(self, provenance: dict):
        self.provenance = provenance
        self.scores: dict[str, float] | None = None
        self.breakdowns: dict[str, dict[str, float | None]] = {}
        self.seconds = {"train": 0.0, "evaluate": 0.0}
        self._iteration_scored = -1
        self._started = 0.0
        self._evaluated_in_training = 0.0

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint["flsl_bench"] = self.provenance

    def before_train(self, runner) -> None:
        self._train_started = time.monotonic()

    def after_train(self, runner) -> None:
        self.seconds["train"] = time.monotonic() - self._train_started - self._evaluated_in_training

    def before_val(self, runner) -> None:
        self._started = time.monotonic()

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        self._keep(metrics, runner.val_evaluator)
        self._evaluated_in_training += self.seconds["evaluate"]
        self._iteration_scored = runner.iter

    before_test = before_val

    def after_test_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        self._keep(metrics, runner.test_evaluator)

    def scored(self, iteration: int) -> bool:
        """Whether the scores kept are those of the weights after `iteration`."""
        return self.scores is not None and self._iteration_scored == iteration

    def _keep(self, metrics: dict[str, float] | None, evaluator) -> None:
        self.scores = dict(metrics or {})
        self.breakdowns = {}
        for metric in evaluator.metrics:
            self.breakdowns |= getattr(metric, "breakdowns", {})
        self.seconds["evaluate"] = time.monotonic() - self._started


class ProgressBarHook(Hook):
    """A bar over training and one over each evaluation, on standard error of the main process."""

    priority = "VERY_LOW"

    def __init__(self):
        self._bars: Bars | None = None
        self._training = self._evaluation = None

    def before_train(self, runner) -> None:
        self._training = self._add("train", runner.max_iters, runner.iter)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        loss = f"loss {outputs['loss'].item():.3f}" if outputs and "loss" in outputs else ""
        self._step(self._training, loss)

    def after_train(self, runner) -> None:
        self._finish()

    def before_val_epoch(self, runner) -> None:
        self._evaluation = self._add("evaluate", len(runner.val_dataloader), 0)

    def before_test_epoch(self, runner) -> None:
        self._evaluation = self._add("evaluate", len(runner.test_dataloader), 0)

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._step(self._evaluation)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        self._finish()

    after_test_epoch = after_val_epoch

    def _add(self, what: str, total: int, done: int) -> "_Bar | None":
        if not is_main_process():
            return None
        self._bars = self._bars or Bars()
        return _Bar(self._bars, self._bars.add(what, total, done), done)

    def _step(self, bar: "_Bar | None", note: str = "") -> None:
        if bar is not None:
            bar.step(note)

    def _finish(self) -> None:
        if self._bars is not None and self._bars.finished:
            self._bars.stop()
            self._bars = None


@dataclass
class _Bar:
    bars: Bars
    number: int
    done: int

    def step(self, note: str) -> None:
        self.done += 1
        self.bars.update(self.number, self.done, note=note)
