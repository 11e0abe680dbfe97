"""Probes of frozen features as tasks: one a probe and data set, such as `prompt-seg-coco`; `prompt-seg` is all of them.

Nothing is fine-tuned, and one GPU or the CPU is enough. Features of an image are kept on disk, so that a second probe
over the same images costs no forward pass.
"""

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from flsl_bench import __version__
from flsl_bench.checkpoints import Facts, load_checkpoint
from flsl_bench.datasets.discovery import dataset_spec
from flsl_bench.datasets.probe_splits import (
    BOXES,
    LABELS,
    OBJECTS,
    Images,
    ProbeData,
    fingerprint,
    first_images,
    image_files,
    listed_images,
)
from flsl_bench.errors import ConfigError
from flsl_bench.paths import CHECKOUT, RESULTS
from flsl_bench.results.record import Data, Metric, Protocol, Record, Split, record_key
from flsl_bench.results.store import Store
from flsl_bench.tasks import provenance
from flsl_bench.tasks.base import MetricSpec, Plan, Request, Task, get
from flsl_bench.tasks.weights import load_vit, model_name, weights_of

if TYPE_CHECKING:
    from flsl_bench.probes.image_features import FeatureOptions, ImageFeatures, Progress

_COSINE = "cosine"
_SEGMENTATION = tuple(MetricSpec(name) for name in ("mIoU", "mAcc", "aAcc"))


@dataclass
class ProbeJob:
    """One probe of a checkpoint's features on one data set."""

    facts: Facts
    root: Path
    images: Mapping[str, Images]  # by split, the one that is scored last
    splits: Mapping[str, Split]
    options: Any  # of the probe
    deviations: dict[str, Any]
    features: "FeatureOptions"
    reading: dict[str, Any]  # how the checkpoint is asked to be read
    device: str
    cache: Path | None
    work_dir: Path
    model: str
    results: Path
    overwrite: bool
    command: list[str]

    @property
    def seed(self) -> int:
        """Of whatever the probe draws."""
        return getattr(self.options, "seed", 0)


@dataclass
class ProbeOutcome:
    """What a run left."""

    scores: Any  # has `metrics()` and `breakdowns()`
    seconds: dict[str, float]
    forward_passes: int
    features: "ImageFeatures"


@dataclass(frozen=True)
class Probe:
    """What the tasks of one probe share. Functions import PyTorch only when they are called."""

    name: str
    title: str  # "... on {data}"
    benchmark: str  # "..._{data}", the protocol's name
    cost: str
    metrics: tuple[MetricSpec, ...]
    module: str  # below `flsl_bench.probes`; its function of the same name scores
    option_class: str  # in it; the defaults are the protocol
    data: tuple[ProbeData, ...]
    seeded: bool = False
    panels: str = ""  # function of `pictures.probed` that draws a few images
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # data set -> its protocol's other options

    def load(self) -> ModuleType:
        """The probe's module, which imports PyTorch."""
        return importlib.import_module(f"flsl_bench.probes.{self.module}")


class ProbeTask(Task):
    """One probe on one data set."""

    def __init__(self, probe: Probe, data: ProbeData):
        self.probe, self.data = probe, data
        self.dataset, self.group, self.name = data.dataset, probe.name, f"{probe.name}-{data.dataset}"
        self.title = probe.title.format(data=dataset_spec(data.dataset).title)
        self.protocol = (probe.benchmark.format(data=data.dataset), "1")
        self.metrics, self.cost, self.seeded = probe.metrics, probe.cost, probe.seeded

    def there(self, folder: Path) -> bool:
        return self.data.there(folder)

    def prepare(self, request: Request) -> ProbeJob:
        return self.prepare_job(
            request.checkpoint,
            request.data,
            reading=request.reading,
            options={"seed": request.seed} if self.seeded else {},
            smoke=request.smoke,
            cache=request.cache,
            work_dir=request.work_dir,
            model=request.model,
            results=request.results,
            overwrite=request.overwrite,
        )

    def prepare_job(
        self,
        checkpoint: str | os.PathLike,
        data: str | os.PathLike,
        *,
        reading: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        features: Mapping[str, Any] | None = None,
        smoke: bool = False,
        device: str | None = None,
        cache: str | os.PathLike | None = None,
        work_dir: str | os.PathLike | None = None,
        model: str | None = None,
        results: str | os.PathLike | None = None,
        overwrite: bool = False,
        command: Sequence[str] = (),
    ) -> ProbeJob:
        """A job; `options` and `features` are fields of the probe's options and of `FeatureOptions` by their names.

        Among `features`, `short_side` is that of the view. Raises one of the library's errors for what cannot work.
        """
        reading = {name: value for name, value in (reading or {}).items() if value is not None}
        facts = load_checkpoint(checkpoint, **reading).facts
        chosen, published = self._options(options or {}), self._options({})
        taken, usual = self._features(features or {}), self._features({})
        deviations = _changed(chosen, published) | {f"features.{k}": v for k, v in _changed(taken, usual).items()}
        root, images, splits = Path(data), {}, {}
        for name, split in self.data.splits.items():
            whole = split.read(root)
            if listed_images(whole) != split.official_images:
                deviations[f"data.{name}_images"] = listed_images(whole)
            images[name] = first_images(whole) if smoke else whole
            splits[name] = Split(**fingerprint(root, split, images[name]))
        if repeated := _in_both(images):
            deviations["data.images_in_both_splits"] = repeated
        weights = weights_of(facts)
        model = model_name(weights, model)
        job = ProbeJob(
            facts=facts,
            root=root,
            images=images,
            splits=splits,
            options=chosen,
            deviations=deviations | ({"smoke": True} if smoke else {}),
            features=taken,
            reading=reading,
            device=_device(device),
            cache=Path(cache) if cache else None,
            work_dir=Path(work_dir or "work_dirs/probes"),
            model=model,
            results=Path(results or RESULTS),
            overwrite=overwrite,
            command=list(command),
        )
        return job if work_dir else replace(job, work_dir=job.work_dir / model / self.name / self._key(job)[:8])

    def with_seed(self, job: ProbeJob, seed: int) -> ProbeJob:
        return replace(job, options=replace(job.options, seed=seed))

    def command(self, request: Request, python: str) -> list[str]:
        given = {
            "--checkpoint": request.checkpoint,
            "--data": request.data,
            "--work-dir": request.work_dir,
            "--results-dir": request.results,
            "--cache": request.cache,
            "--model-name": request.model,
            "--option": f"seed={request.seed}" if self.seeded else None,
            "--num-heads": request.reading.get("num_heads"),
            "--branch": request.reading.get("branch"),
        }
        words = [str(word) for name, value in given.items() if value is not None for word in (name, value)]
        class_token = request.reading.get("class_token")
        flags = ["--smoke"] * request.smoke + ["--overwrite"] * request.overwrite
        if class_token is not None:
            flags.append("--class-token" if class_token else "--no-class-token")
        return [python, str(CHECKOUT / "tools" / "probe.py"), self.name, *words, *flags]

    def check(self, job: ProbeJob) -> list[str]:
        """Nothing is left: `prepare` has read the annotations and looked for every image."""
        return []

    def plan(self, job: ProbeJob) -> Plan:
        store, identity = Store(job.results), (job.model, self.name, self._key(job))
        count = sum(len(image_files(images)) for images in job.images.values())
        steps = [f"features of {count:,} images on {job.device}, fp32", self.probe.name, "record"]
        return Plan(self.name, job.model, store.path(*identity), store.find(*identity), steps)

    def run(self, job: ProbeJob, progress: "Progress | None" = None) -> ProbeOutcome:
        began = monotonic()
        features = job_features(job)
        loaded = monotonic()
        score = getattr(self.probe.load(), self.probe.module)
        scores = score(features, *job.images.values(), job.options, progress=progress)
        seconds = {"load": loaded - began, "probe": monotonic() - loaded}
        return ProbeOutcome(scores, seconds, features.forward_passes, features)

    def collect(self, job: ProbeJob, outcome: ProbeOutcome) -> Record:
        known = {spec.name: spec for spec in self.metrics}
        values = outcome.scores.metrics()
        specs = {name: known.get(name, MetricSpec(name)) for name in values}
        return Record(
            key=self._key(job),
            model=job.model,
            task=self.name,
            protocol=self._protocol(job),
            metrics=[
                Metric(name=name, value=value, unit=specs[name].unit, higher_is_better=specs[name].higher_is_better)
                for name, value in values.items()
            ],
            breakdowns={name: parts for name, parts in outcome.scores.breakdowns().items() if parts},
            weights=weights_of(job.facts),
            data=self._data(job),
            seed=job.seed,
            environment=provenance.environment(
                devices=1, precision="fp32", operators="none", evaluator=f"flsl_bench {__version__}"
            ),
            command=job.command,
            git_commit=provenance.git_commit(),
            finished=datetime.now(timezone.utc).replace(microsecond=0),
            seconds={name: round(value, 1) for name, value in outcome.seconds.items()},
        )

    def draw(self, job: ProbeJob, outcome: ProbeOutcome) -> None:
        """Leave panels in the work dir. Raises what reading and writing pictures raises."""
        from flsl_bench.pictures import probed
        from flsl_bench.pictures.panels import FOLDER

        if self.probe.panels:
            getattr(probed, self.probe.panels)(outcome.features, list(job.images.values())[-1], job.work_dir / FOLDER)

    def _options(self, given: Mapping[str, Any]) -> Any:
        kind = getattr(self.probe.load(), self.probe.option_class)
        return _dataclass(kind, dict(self.probe.changes.get(self.dataset, {})) | dict(given), self.name)

    def _features(self, given: Mapping[str, Any]) -> "FeatureOptions":
        from flsl_bench.probes.image_features import FeatureOptions, Resize

        view = getattr(self.probe.load(), "VIEW", Resize())
        others = dict(given)
        if "short_side" in others:
            view = _dataclass(Resize, {"short_side": others.pop("short_side")}, self.name)
        return _dataclass(FeatureOptions, {"view": view, **others}, self.name)

    def _protocol(self, job: ProbeJob) -> Protocol:
        name, version = self.protocol
        return Protocol(name=name, version=version, deviations=job.deviations)

    def _data(self, job: ProbeJob) -> Data:
        return Data(name=self.dataset, splits=dict(job.splits))

    def _key(self, job: ProbeJob) -> str:
        return record_key(weights_of(job.facts), self.name, self._protocol(job), self._data(job), job.seed)


def job_features(job: ProbeJob) -> "ImageFeatures":
    """The features of the job's checkpoint, read from the cache where it has them."""
    from flsl_bench.probes.image_features import FeatureCache, ImageFeatures

    identity = f"{job.facts.sha256}:{job.facts.branch}"  # a file may hold several networks
    cache = FeatureCache(job.cache) if job.cache else None
    return ImageFeatures(load_vit(job.facts, job.reading), identity, job.features, device=job.device, cache=cache)


def _in_both(splits: Mapping[str, Images]) -> int:
    """Images that are scored although they are learned from: each finds itself."""
    *learned, scored = (set(image_files(images)) for images in splits.values())
    return len(scored.intersection(*learned)) if learned else 0


def _device(asked: str | None) -> str:
    """As asked, or a GPU if there is one. Raises `ConfigError` for one that there is not."""
    import torch

    device = asked or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device}: {str(error).splitlines()[0]}") from None
    return device


def _changed(options: Any, published: Any) -> dict[str, Any]:
    """The fields that differ, the seed apart, which a record has a place for."""
    return {
        f.name: _plain(getattr(options, f.name))
        for f in fields(options)
        if f.name != "seed" and getattr(options, f.name) != getattr(published, f.name)
    }


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {"type": type(value).__name__, **asdict(value)}
    return list(value) if isinstance(value, tuple) else value


def _dataclass(kind: type, given: Mapping[str, Any], task: str) -> Any:
    """`kind` with the fields that were given, brought to their types. Raises `ConfigError` for what cannot be."""
    types = {f.name: f.type for f in fields(kind)}
    values = {}
    for name, value in given.items():
        if name not in types:
            raise ConfigError(f"{task}: no option {name!r}; there are {', '.join(types)}")
        try:
            values[name] = value if name == "view" else TypeAdapter(types[name]).validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"{task}: {name}={value}: {error.errors()[0]['msg'].lower()}") from None
    return kind(**values)


PROBES = (
    Probe(
        "prompt-seg",
        "MMC-style segmentation from one prompted patch, {data}",
        "mmc_style_prompt_seg_{data}",
        "one pass over the validation images",
        (
            *(MetricSpec(f"mIoU{part}") for part in ("", "-class", "-oracle", "-small", "-medium", "-large")),
            MetricSpec("AUC"),
            MetricSpec("threshold", unit=_COSINE),
        ),
        "prompt_segmentation",
        "PromptSegmentation",
        OBJECTS,
        panels="prompts",
        changes={"davis": {"prompt_frame": "first"}},
    ),
    Probe(
        "similarity",
        "similarity of patches within and between objects, {data}",
        "object_similarity_{data}",
        "one pass over the validation images",
        (
            *(MetricSpec(f"AUROC{part}") for part in ("", "-objects", "-background")),
            MetricSpec("overlap", higher_is_better=False),
            *(MetricSpec(name, unit=_COSINE) for name in ("gap", "mean-within")),
            MetricSpec("mean-between", unit=_COSINE, higher_is_better=False),
            *(MetricSpec(f"{name}-error", higher_is_better=False) for name in ("AUROC", "overlap")),
            MetricSpec("gap-error", unit=_COSINE, higher_is_better=False),
        ),
        "object_similarity",
        "ObjectSimilarity",
        OBJECTS,
        panels="tokens",
    ),
    Probe(
        "box-knn",
        "FLSL's box-aligned k-NN, {data}",
        "box_knn_{data}",
        "one pass over all images with a box, 224 x 224 pixels",
        tuple(MetricSpec(f"{vote}_{k}") for k in (20, 10, 100, 200) for vote in ("any", "majority", "patch")),
        "box_knn",
        "BoxKnn",
        BOXES,
    ),
    Probe(
        "dense-nn",
        "dense nearest-neighbour retrieval (Hummingbird), {data}",
        "dense_nn_{data}",
        "one pass over all images, a bank of 1,024,000 patches",
        _SEGMENTATION,
        "dense_retrieval",
        "DenseRetrieval",
        LABELS,
        seeded=True,
    ),
    Probe(
        "linear-seg",
        "linear segmentation of frozen patches, {data}",
        "linear_seg_{data}_20ep",
        "one pass over all images as far as their features can be kept, 20 epochs of a linear layer",
        _SEGMENTATION,
        "linear_segmentation",
        "LinearSegmentation",
        LABELS,
        seeded=True,
    ),
)
TASKS = tuple(ProbeTask(probe, data) for probe in PROBES for data in probe.data)


def probe_task(name: str) -> ProbeTask:
    """The probe's task called `name`; raises `ConfigError` if there is none."""
    task = get(name)
    if not isinstance(task, ProbeTask):
        raise ConfigError(f"{name} is no probe; there are {', '.join(one.name for one in TASKS)}")
    return task
