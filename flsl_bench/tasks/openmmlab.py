"""Benchmarks that OpenMMLab trains and tests: from a config to a record. `tools/train.py` and `test.py` end here."""

import copy
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flsl_bench.checkpoints import Facts, load_checkpoint
from flsl_bench.errors import ConfigError, FlslBenchError
from flsl_bench.paths import CHECKOUT, RESULTS, find
from flsl_bench.results.record import Data, Metric, Protocol, Record, Split, Weights, record_key
from flsl_bench.results.store import Store
from flsl_bench.tasks import base, provenance
from flsl_bench.tasks.base import Plan, Request, Task, get
from flsl_bench.tasks.weights import model_name, weights_of

if TYPE_CHECKING:
    from mmengine.config import Config

    from flsl_bench.openmmlab.execution import Outcome


@dataclass
class Job:
    """One run of a config."""

    config: "Config"  # ready to run
    weights: Weights | None  # None: a detector that was trained elsewhere
    deviations: dict[str, Any]
    precision: str
    processes: int
    model: str
    results: Path
    overwrite: bool
    command: list[str]
    progress: bool = False
    testing: bool = False  # a fine-tuned checkpoint is scored, nothing is trained
    splits: dict[str, Split] = field(default_factory=dict)  # filled by `check`

    @property
    def seed(self) -> int:
        return int(self.config.randomness.seed)

    @property
    def protocol(self) -> Protocol:
        return Protocol(
            name=self.config.protocol.name, version=self.config.protocol.version, deviations=self.deviations
        )

    def provenance(self) -> dict[str, Any]:
        """What a fine-tuned checkpoint must carry for its test to give the same record."""
        return {
            "weights": self.weights.model_dump() if self.weights else None,
            "deviations": self.deviations,
            "splits": {name: split.model_dump() for name, split in self.splits.items()},
            "seed": self.seed,
            "model": self.model,
            "backbone": self._backbone(),
        }

    def _backbone(self) -> dict[str, Any]:
        return {key: value for key, value in self.config.model.backbone.to_dict().items() if key != "init_cfg"}


class OpenMMLabTask(Task):
    """A task whose config trains a model on one data set and whose evaluator yields the task's metrics."""

    data_name: str  # in the record
    config_pattern: str  # config of an architecture; {size} is vits16, vits8, vitb16, ...
    seeded = has_configs = True

    def inspect_data(self, config: "Config", splits: Sequence[str]) -> dict[str, Split]:
        """Check `splits` ("train", "val") and give their fingerprints; raises `DataError` at the first fault."""
        raise NotImplementedError

    def evaluator(self) -> str:
        """Library and version that computes the metrics."""
        raise NotImplementedError

    def prepare(self, request: Request) -> Job:
        file = self._config_file(request)
        job = prepare_training(
            file,
            options=self._options(request),
            work_dir=str(request.work_dir),
            processes=request.processes,
            gpu=request.gpu,
            smoke=request.smoke,
            results=request.results,
            overwrite=request.overwrite,
        )
        if job.config.task != self.name:
            raise ConfigError(f"{file}: is a config for {job.config.task}; pass --config {job.config.task}={file}")
        return job

    def with_seed(self, job: Job, seed: int) -> Job:
        config = copy.deepcopy(job.config)
        config.randomness.seed = seed
        return replace(job, config=config)

    def command(self, request: Request, python: str) -> list[str]:
        config, tools = self._config_file(request), CHECKOUT / "tools"
        if request.processes > 1:
            start = ["bash", str(tools / "dist_train.sh"), config, str(request.processes)]
        else:
            start = [python, str(tools / "train.py"), config]
        flags = ["--smoke"] * request.smoke + ["--overwrite"] * request.overwrite
        flags += ["--resume"] * (request.again or not request.overwrite)
        folders = ["--work-dir", str(request.work_dir), "--results-dir", str(request.results)]
        options = [f"{key}={value}" for key, value in self._options(request).items()]
        return [*start, *folders, "--progress", *flags, "--cfg-options", *options]

    def _options(self, request: Request) -> dict[str, Any]:
        """The request in the terms of --cfg-options."""
        reading = {name: value for name, value in request.reading.items() if value is not None}
        places = {"num_heads": "num_heads", "class_token": "class_token", "branch": "init_cfg.branch"}
        options = {
            "init_checkpoint": str(request.checkpoint),
            "data_root": str(request.data),
            "randomness.seed": request.seed,
            **{f"model.backbone.{places[name]}": value for name, value in reading.items()},
        }
        if request.model:
            options["model_name"] = request.model
        for key, value in options.items():
            if isinstance(value, str) and (set(value) & set(",'\"[]() ") or not _stays_text(value)):
                raise ConfigError(f"{value}: OpenMMLab's options cannot carry such a {key}; rename it or link to it")
        return options

    def _config_file(self, request: Request) -> str:
        """The config asked for, or the shipped one for the architecture of the weights."""
        if request.config:
            return str(find(request.config))
        found = load_checkpoint(request.checkpoint, **request.reading).facts.architecture
        kind = re.fullmatch(r"vit_([a-z]).*", found.name)
        config = CHECKOUT / self.config_pattern.format(size=f"vit{kind[1] if kind else '?'}{found.patch_size}")
        if not config.is_file():
            raise ConfigError(
                f"{request.checkpoint}: is a {found.name} with patch {found.patch_size}, for which {self.name} has no "
                f"config; write one and pass --config {self.name}=FILE"
            )
        return str(config)

    def check(self, job: Job) -> list[str]:
        problems = [p for p in (_writable(job.config.work_dir), _writable(job.results)) if p]
        try:
            job.splits |= self.inspect_data(job.config, ("val",) if job.testing else ("train", "val"))
            job.deviations |= _data_deviations(job.config, job.splits)
        except FlslBenchError as error:
            problems.append(str(error))
        return problems

    def plan(self, job: Job) -> Plan:
        store = Store(job.results)
        key = self._key(job)
        loop = job.config.train_cfg
        length = f"{loop.max_epochs} epochs" if "max_epochs" in loop else f"{loop.max_iters} iterations"
        steps = [f"train {job.model} for {length} on {job.processes} device(s), {job.precision}", "score", "record"]
        identity = (job.model, self.name, key)
        return Plan(self.name, job.model, store.path(*identity), store.find(*identity), steps)

    def run(self, job: Job) -> "Outcome":
        from flsl_bench.openmmlab import execution, hooks

        return execution.train(job.config, hooks.ResultHook(job.provenance()), job.progress)

    def collect(self, job: Job, outcome: "Outcome") -> Record:
        from flsl_bench.ops import provider

        operators = provider()
        return Record(
            key=self._key(job),
            model=job.model,
            task=self.name,
            protocol=job.protocol,
            metrics=self._metrics(outcome.scores),
            breakdowns=outcome.breakdowns,
            weights=job.weights,
            data=self._data(job),
            seed=job.seed,
            environment=provenance.environment(
                devices=job.processes,
                precision=job.precision,
                operators=f"{operators.name} {operators.version}",
                evaluator=self.evaluator(),
            ),
            command=job.command,
            git_commit=provenance.git_commit(),
            finished=datetime.now(timezone.utc).replace(microsecond=0),
            seconds={name: round(value, 1) for name, value in outcome.seconds.items()},
            artifacts={name: str(path) for name, path in outcome.artifacts.items()},
        )

    def _metrics(self, scores: Mapping[str, float]) -> list[Metric]:
        values = {key.split("/")[-1]: value for key, value in scores.items()}
        return [
            Metric(name=m.name, value=values.get(m.name), unit=m.unit, higher_is_better=m.higher_is_better)
            for m in self.metrics
        ]

    def _data(self, job: Job) -> Data:
        return Data(name=self.data_name, splits=job.splits)

    def _key(self, job: Job) -> str:
        return record_key(job.weights, self.name, job.protocol, self._data(job), job.seed)


def prepare_training(
    config_file: str | os.PathLike,
    *,
    options: Mapping[str, Any] | None = None,
    work_dir: str | None = None,
    resume: str | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    smoke: bool = False,
    launcher: str = "none",
    processes: int | None = None,
    gpu: bool | None = None,
    results: str | os.PathLike | None = None,
    overwrite: bool = False,
    command: list[str] | None = None,
    progress: bool = False,
) -> Job:
    """A job that trains `config_file`. `resume` is "auto" or a checkpoint; `processes` defaults to the launcher's.

    `smoke` cuts the run as `openmmlab.config.cut_for_smoke` says; `gpu` tells whether the machine that runs it has
    GPUs, if that is not this one.
    """
    from flsl_bench.openmmlab import config as configs
    from flsl_bench.openmmlab import execution

    config = configs.load_config(config_file, dict(options or {}))
    config.launcher = launcher
    if config.randomness.get("seed") is None:
        raise ConfigError("randomness.seed is not set: a record tells its seed, give a number")
    if amp:
        config.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")
    if auto_scale_lr:
        config.auto_scale_lr.enable = True
    if smoke:
        configs.cut_for_smoke(config)
    deviations = configs.protocol_deviations(config) | ({"smoke": True} if smoke else {})
    processes = processes or execution.process_count(launcher)
    deviations |= _batch_deviation(config, processes)
    configs.apply_knobs(config)
    facts = _init_facts(config, (options or {}).get("model.backbone.class_token"))
    configs.fit_backbone(config, facts)
    amp_asked = config.optim_wrapper.type == "AmpOptimWrapper"
    precision = configs.fit_device(config, gpu)
    if amp_asked and precision == "fp32":
        deviations["precision"] = precision
    config.work_dir = work_dir or config.get("work_dir") or configs.default_work_dir(config_file)
    weights = weights_of(facts)
    job = Job(
        config=config,
        weights=weights,
        deviations=deviations,
        precision=precision,
        processes=processes,
        model=model_name(weights, _text(config.get("model_name"))),
        results=Path(results or RESULTS),
        overwrite=overwrite,
        command=command or [],
        progress=progress,
    )
    _resume(job, resume)
    return job


def prepare_test(
    config_file: str | os.PathLike,
    checkpoint: str | os.PathLike,
    *,
    options: Mapping[str, Any] | None = None,
    work_dir: str | None = None,
    launcher: str = "none",
    processes: int | None = None,
    results: str | os.PathLike | None = None,
    overwrite: bool = False,
    command: list[str] | None = None,
    progress: bool = False,
    show_dir: str | os.PathLike | None = None,
) -> Job:
    """A job that scores a fine-tuned `checkpoint`; how it was trained is read from the file itself.

    Predictions are drawn over their images into `show_dir`, if it is given.
    """
    from flsl_bench.openmmlab import config as configs
    from flsl_bench.openmmlab import execution
    from flsl_bench.openmmlab.storage import load_detector_checkpoint

    config = configs.load_config(config_file, dict(options or {}))
    config.launcher = launcher
    told = load_detector_checkpoint(str(checkpoint), map_location="cpu").get("flsl_bench", {})
    deviations = _trained_with(told.get("deviations", {}), config.image_scale_factor)
    deviations |= _test_deviations(configs.protocol_deviations(config))
    configs.apply_knobs(config)
    config.model.backbone.update(told.get("backbone", {}))
    config.model.backbone.init_cfg = None
    config.randomness.seed = told.get("seed", config.randomness.get("seed"))
    config.load_from = str(checkpoint)
    config.work_dir = work_dir or config.get("work_dir") or configs.default_work_dir(config_file)
    if show_dir is not None:
        configs.draw_predictions(config, show_dir)
    return Job(
        config=config,
        weights=Weights(**told["weights"]) if told.get("weights") else None,
        deviations=deviations,
        precision=configs.fit_device(config),
        processes=processes or execution.process_count(launcher),
        model=config.get("model_name") or told.get("model") or Path(checkpoint).stem,
        results=Path(results or RESULTS),
        overwrite=overwrite,
        command=command or [],
        progress=progress,
        testing=True,
        splits={name: Split(**split) for name, split in told.get("splits", {}).items()},
    )


def check(job: Job) -> None:
    """Raise one error that lists everything which would stop the job."""
    problems = get(job.config.task).check(job)
    if problems:
        raise ConfigError(problems[0] if len(problems) == 1 else "\n".join(["several problems:", *problems]))


def train(job: Job, checked: bool = False) -> Record | None:
    """Train, score and record; the finished record at once if it is there. None on all processes but the first.

    `checked`: a launcher has run `check` and `finished` before it started the processes.
    """
    main = _is_main(job)
    if main or not checked:
        check(job)
    if not checked and (done := finished(job)) is not None:
        return done if main else None
    task = get(job.config.task)
    outcome = task.run(job)
    if not main:
        return None
    record = task.collect(job, outcome)
    Store(job.results).save(record, overwrite=job.overwrite)
    return record


def finished(job: Job) -> Record | None:
    """The record that the checked `job` would make, if it is there and not to be overwritten."""
    return base.finished(get(job.config.task), job)


def test(job: Job, dump: str | None = None) -> tuple[dict[str, float], Record | None]:
    """Score a fine-tuned checkpoint: the metrics, and the record if the file tells what it was trained from.

    A record that is there stays as it is unless the job says overwrite.
    """
    from flsl_bench.openmmlab import execution, hooks

    task = get(job.config.task)
    main = _is_main(job)
    if main:
        check(job)
    outcome = execution.test(job.config, hooks.ResultHook(job.provenance()), job.progress, dump)
    if not main or job.weights is None:
        return outcome.scores, None
    return outcome.scores, base.keep(task, job, outcome)


def _stays_text(value: str) -> bool:
    """Whether --cfg-options leaves a word as it is, and makes no number or truth value of it."""
    from mmengine.config import DictAction

    return DictAction._parse_int_float_bool(value) == value


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _init_facts(config: "Config", class_token: bool | None) -> Facts:
    backbone = config.model.backbone
    if not config.init_checkpoint:
        raise ConfigError("init_checkpoint is not set: say which weights by --cfg-options init_checkpoint=FILE")
    return load_checkpoint(
        config.init_checkpoint,
        num_heads=backbone.get("num_heads"),
        force_heads=backbone.get("force_heads", False),
        class_token=class_token,
        branch=backbone.init_cfg.get("branch"),
    ).facts


def _batch_deviation(config: "Config", processes: int) -> dict[str, int]:
    batch = config.train_dataloader.batch_size * processes * config.optim_wrapper.get("accumulative_counts", 1)
    return {} if batch == config.protocol.global_batch_size else {"global_batch_size": batch}


def _data_deviations(config: "Config", splits: Mapping[str, Split]) -> dict[str, int]:
    """Splits that have another number of images than the protocol's."""
    return {
        f"data.{name}_images": splits[name].images
        for name, images in config.protocol.images.items()
        if name in splits and splits[name].images != images
    }


_OF_TRAINING = ("train_", "optim_wrapper.", "param_scheduler.", "auto_scale_lr.", "model.train_cfg.", "model.backbone.")
_OF_THE_RUN = ("smoke", "precision", "global_batch_size", "data.train_images")


def _test_deviations(deviations: Mapping[str, Any]) -> dict[str, Any]:
    """Those that act in a test; what training settings were is told by the checkpoint."""
    return {key: value for key, value in deviations.items() if not key.startswith(_OF_TRAINING)}


def _trained_with(deviations: Mapping[str, Any], image_scale_factor: float) -> dict[str, Any]:
    """Those of a training that a test cannot change; where a test has another scale of images, the training's apart."""
    kept = {key: value for key, value in deviations.items() if key.startswith(_OF_TRAINING) or key in _OF_THE_RUN}
    trained_at = deviations.get("image_scale_factor", 1.0)
    return kept | ({"train_image_scale_factor": trained_at} if trained_at != image_scale_factor else {})


def _resume(job: Job, resume: str | None) -> None:
    """Point the config at the checkpoint to go on from, if there is one and it is of the same run."""
    from flsl_bench.openmmlab.storage import latest_checkpoint, load_detector_checkpoint

    if resume is None:
        return
    path = latest_checkpoint(job.config.work_dir) if resume == "auto" else Path(resume)
    if path is None:
        return
    told = load_detector_checkpoint(str(path), map_location="cpu").get("flsl_bench") or {}
    if "deviations" in told:
        told = told | {"deviations": _settings(told["deviations"])}
    if told.get("weights"):
        told = told | {"weights": _content(told["weights"])}
    for name, own in (
        ("weights", _content(job.weights.model_dump())),
        ("seed", job.seed),
        ("deviations", _settings(job.deviations)),
    ):
        if name in told and told[name] != own:
            raise ConfigError(f"{path}: was trained with other {name}: pass another --work-dir, or do not resume")
    job.config.resume, job.config.load_from = True, str(path)


def _content(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights without what a renamed file changes, and how the heads were found out."""
    return {key: value for key, value in weights.items() if key not in ("file", "heads_source")}


def _settings(deviations: Mapping[str, Any]) -> dict[str, Any]:
    """Deviations without those that only a look at the data gives."""
    return {key: value for key, value in deviations.items() if not key.startswith("data.")}


def _is_main(job: Job) -> bool:
    from flsl_bench.openmmlab.execution import process_rank

    return process_rank(job.config.launcher) == 0


def _writable(folder: str | os.PathLike) -> str | None:
    """A problem if `folder` cannot be written, or made where it is not there yet."""
    whole = Path(folder).absolute()
    try:
        with tempfile.TemporaryFile(dir=next(path for path in (whole, *whole.parents) if path.exists())):
            return None
    except OSError as error:
        return f"{folder}: cannot be written ({error.strerror}); choose another --work-dir or --results-dir"
