"""DAVIS 2017: labels propagated through frozen features, J and F of the masks. Nothing is trained."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from flsl_bench.checkpoints import Facts, load_checkpoint
from flsl_bench.datasets import davis
from flsl_bench.errors import DataError, FlslBenchError
from flsl_bench.files import atomic_write_text, sha256
from flsl_bench.paths import CHECKOUT, RESULTS
from flsl_bench.results.record import Data, Metric, Protocol, Record, Split, record_key
from flsl_bench.results.store import Store
from flsl_bench.tasks import provenance
from flsl_bench.tasks.base import MetricSpec, Plan, Request, Task, get, keep
from flsl_bench.tasks.davis_scoring import Scores, score
from flsl_bench.tasks.weights import load_vit, model_name, weights_of

if TYPE_CHECKING:
    from flsl_bench.backbones.vit import VisionTransformer
    from flsl_bench.probes.label_propagation import Propagation

Progress = Callable[[str, int, int], None]  # sequence, frames done, frames in all

PROTOCOL = ("davis2017_val_label_prop", "1")
OFFICIAL_SEQUENCES = 30  # ImageSets/2017/val.txt
SMOKE_SEQUENCES = 2


@dataclass
class DavisJob:
    """One evaluation of a checkpoint on DAVIS."""

    facts: Facts
    root: Path
    split: str
    sequences: list[str]
    out: Path  # masks, one folder a sequence, and the CSV tables
    options: "Propagation"
    position_rule: str
    load_options: dict[str, Any]  # how the checkpoint was asked to be read
    device: str
    half: bool
    smoke: bool
    batch: int | None
    workers: int | None
    model: str
    results: Path
    overwrite: bool
    command: list[str]

    @property
    def precision(self) -> str:
        """fp32 as published, or by autocast fp16 on a GPU and bf16 on the CPU, which has no fast fp16."""
        return "fp32" if not self.half else "bf16" if self.device == "cpu" else "fp16"

    @cached_property
    def data(self) -> Data:
        """Fingerprint of frames and masks; made once, since every mask is hashed for it."""
        return _fingerprint(self)

    def protocol(self) -> Protocol:
        """The protocol with every knob that differs from its published value."""
        published = type(self.options)()
        changed = {
            f.name: getattr(self.options, f.name)
            for f in fields(self.options)
            if getattr(self.options, f.name) != getattr(published, f.name)
        }
        deviations = {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}
        if self.position_rule != "scale_factor":
            deviations["position_rule"] = self.position_rule
        if self.half:
            deviations["precision"] = self.precision
        if self.smoke:
            deviations["smoke"] = True
        official = davis.sequences(self.root, "val") if self.split == "val" else []
        if self.sequences != official or len(official) != OFFICIAL_SEQUENCES:
            deviations["sequences"] = self.sequences
        return Protocol(name=PROTOCOL[0], version=PROTOCOL[1], deviations=deviations)


@dataclass
class DavisOutcome:
    """What a run left: the scores on the first process, None on the others."""

    scores: Scores | None
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)


def prepare(
    checkpoint: str | os.PathLike,
    davis_root: str | os.PathLike,
    *,
    arch: str | None = None,
    patch_size: int | None = None,
    num_heads: int | None = None,
    class_token: bool | None = None,
    branch: str | None = None,
    split: str = "val",
    sequences: Sequence[str] | None = None,
    out: str | os.PathLike | None = None,
    options: "Propagation | None" = None,
    position_rule: str = "scale_factor",
    device: str | None = None,
    half: bool = False,
    smoke: bool = False,
    batch: int | None = None,
    workers: int | None = None,
    model: str | None = None,
    results: str | os.PathLike | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
) -> DavisJob:
    """A job that evaluates `checkpoint` on DAVIS; `smoke` takes the first sequences only.

    Raises one of the library's errors for what cannot work.
    """
    import torch

    from flsl_bench.probes.label_propagation import Propagation

    load_options = {
        "arch": arch,
        "patch_size": patch_size,
        "num_heads": num_heads,
        "class_token": class_token,
        "branch": branch,
    }
    facts = load_checkpoint(checkpoint, **load_options).facts
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda":
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % max(torch.cuda.device_count(), 1)}"
    names = davis.sequences(davis_root, split) if sequences is None else list(dict.fromkeys(sequences))
    names = names[:SMOKE_SEQUENCES] if smoke else names
    if sequences is not None:
        for name in names:  # a name mistyped by the caller is no broken sequence
            davis.sequence(davis_root, name)
    model = model_name(weights_of(facts), model)
    return DavisJob(
        facts=facts,
        root=Path(davis_root),
        split=split,
        sequences=names,
        out=Path(out or Path("work_dirs/davis") / model),
        options=options or Propagation(),
        position_rule=position_rule,
        load_options=load_options,
        device=device,
        half=half,
        smoke=smoke,
        batch=batch,
        workers=workers,
        model=model,
        results=Path(results or RESULTS),
        overwrite=overwrite,
        command=list(command),
    )


class Davis(Task):
    """Label propagation on DAVIS 2017 val; primary metric J&F-Mean."""

    name = "davis"
    title = "DAVIS 2017 video object segmentation by label propagation"
    dataset = "davis"
    protocol = PROTOCOL
    cost = "30 videos, 1,999 frames; nothing is trained"
    seeded = False
    metrics = (
        MetricSpec("J&F-Mean"),
        *(
            MetricSpec(f"{measure}-{statistic}", higher_is_better=statistic != "Decay")
            for measure in ("J", "F")
            for statistic in ("Mean", "Recall", "Decay")
        ),
    )

    def prepare(self, request: Request) -> DavisJob:
        return prepare(
            request.checkpoint,
            request.data,
            **request.reading,
            smoke=request.smoke,
            out=request.work_dir,
            model=request.model,
            results=request.results,
            overwrite=request.overwrite,
        )

    def command(self, request: Request, python: str) -> list[str]:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(request.processes)]
        start = [python, *(launcher if request.processes > 1 else []), str(CHECKOUT / "tools" / "eval_davis.py")]
        flags = ["--smoke"] * request.smoke + ["--overwrite"] * request.overwrite
        given = {
            "--checkpoint": request.checkpoint,
            "--davis-root": request.data,
            "--out": request.work_dir,
            "--results-dir": request.results,
            "--model-name": request.model,
            "--num-heads": request.reading.get("num_heads"),
            "--branch": request.reading.get("branch"),
        }
        options = [str(word) for name, value in given.items() if value is not None for word in (name, value)]
        class_token = request.reading.get("class_token")
        if class_token is not None:
            flags.append("--class-token" if class_token else "--no-class-token")
        return [*start, *options, *flags]

    def check(self, job: DavisJob) -> list[str]:
        problems = []
        for name in job.sequences:
            try:
                sequence = davis.sequence(job.root, name)
                sequence.images(), sequence.masks(), sequence.first_mask()
            except DataError as error:
                problems.append(str(error))
        return problems

    def plan(self, job: DavisJob) -> Plan:
        store, identity = Store(job.results), (job.model, self.name, self._key(job))
        steps = [f"propagate {len(job.sequences)} sequences on {job.device}, {job.precision}", "score", "record"]
        return Plan(self.name, job.model, store.path(*identity), store.find(*identity), steps)

    def run(self, job: DavisJob, progress: Progress | None = None) -> DavisOutcome:
        """Propagate this process's share of the sequences, and on the first process score them all.

        A sequence that cannot be read is a failure in the scores; it does not stop the others.
        """
        rank, world = _processes()
        began = monotonic()
        failures = _propagate_share(job, _shares(job, world)[rank], progress)
        failures = _gather(failures, world)
        propagated = monotonic()
        if rank:
            return DavisOutcome(None, {})
        scores = _score(job, failures)
        seconds = {"propagate": propagated - began, "score": monotonic() - propagated}
        return DavisOutcome(scores, seconds, _late_objects(job, scores))

    def collect(self, job: DavisJob, outcome: DavisOutcome) -> Record:
        values = outcome.scores.summary()
        weights = weights_of(job.facts)
        protocol = job.protocol()
        return Record(
            key=record_key(weights, self.name, protocol, job.data, 0),
            model=job.model,
            task=self.name,
            protocol=protocol,
            metrics=[
                Metric(name=m.name, value=100 * values[m.name], unit=m.unit, higher_is_better=m.higher_is_better)
                for m in self.metrics
            ],
            breakdowns=self._by_sequence(outcome.scores),
            weights=weights,
            data=job.data,
            seed=0,  # nothing is random
            environment=provenance.environment(
                devices=_processes()[1], precision=job.precision, operators="none", evaluator="flsl_bench.metrics.davis"
            ),
            command=job.command,
            git_commit=provenance.git_commit(),
            finished=datetime.now(timezone.utc).replace(microsecond=0),
            seconds={name: round(value, 1) for name, value in outcome.seconds.items()},
            artifacts={"masks": str(job.out)},
        )

    def _by_sequence(self, scores: Scores) -> dict[str, dict[str, float | None]]:
        tables = scores.per_sequence()
        return {
            f"{metric} by sequence": {sequence: 100 * table[metric] for sequence, table in tables.items()}
            for metric in ("J&F-Mean", "J-Mean", "F-Mean")
        }

    def _key(self, job: DavisJob) -> str:
        return record_key(weights_of(job.facts), self.name, job.protocol(), job.data, 0)


def evaluate(job: DavisJob, progress: Progress | None = None) -> tuple[DavisOutcome, Record | None]:
    """Propagate, score and record; the record is None if a sequence failed, and on all processes but the first.

    The record that is there already stays unless the job says overwrite.
    """
    task = get("davis")
    outcome = task.run(job, progress)
    if outcome.scores is None or outcome.scores.failures:
        return outcome, None
    return outcome, keep(task, job, outcome)


def _processes() -> tuple[int, int]:
    """Rank of this process and their number, as torchrun tells."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def _shares(job: DavisJob, world: int) -> list[list[str]]:
    """Sequences of each process: the longest first, each to the process with the fewest frames so far."""
    lengths = {name: _length(job, name) for name in job.sequences}
    shares: list[list[str]] = [[] for _ in range(world)]
    loads = [0] * world
    for name in sorted(lengths, key=lambda name: (-lengths[name], name)):
        lightest = loads.index(min(loads))
        shares[lightest].append(name)
        loads[lightest] += lengths[name]
    return shares


def _length(job: DavisJob, name: str) -> int:
    """Frames of a sequence; 0 for one that cannot be read, which is told when its turn comes."""
    try:
        return len(davis.sequence(job.root, name).images())
    except DataError:
        return 0


def _propagate_share(job: DavisJob, names: list[str], progress: Progress | None) -> dict[str, str]:
    done, total = 0, sum(_length(job, name) for name in names)
    failures: dict[str, str] = {}
    vit = None
    for name in names:
        report = (lambda t, _, name=name, done=done: progress(name, done + t, total)) if progress else None
        try:
            sequence = davis.sequence(job.root, name)
            identity = _identity(job, sequence)
            if job.overwrite or not _is_finished(job, sequence, identity):
                vit = vit or load_vit(job.facts, job.load_options, position_rule=job.position_rule)
                _propagate(job, vit, sequence, report)
                atomic_write_text(_stamp(job, name), json.dumps(identity, indent=1))
        except DataError as error:
            failures[name] = str(error)
        done += _length(job, name)
        if progress:
            progress(name, done, total)
    return failures


def _propagate(job: DavisJob, vit: "VisionTransformer", sequence: davis.DavisSequence, progress) -> None:
    import torch

    from flsl_bench.probes.label_propagation import propagate_sequence

    _stamp(job, sequence.name).unlink(missing_ok=True)
    frames = sequence.images()
    masks = propagate_sequence(
        vit,
        frames,
        sequence.first_mask(),
        job.options,
        device=job.device,
        batch=job.batch,
        dtype={"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[job.precision],
        progress=progress,
    )
    for index, ids in masks:
        davis.write_mask(job.out / sequence.name / f"{frames[index].stem}.png", ids)


def _identity(job: DavisJob, sequence: davis.DavisSequence) -> dict[str, Any]:
    """What the masks of a sequence follow from: weights, protocol, frames, first mask."""
    weights = weights_of(job.facts)
    frames = hashlib.sha256("".join(sha256(path) for path in sequence.images()).encode()).hexdigest()
    return {
        "weights": [weights.sha256, weights.branch, weights.num_heads, weights.prefix_tokens],
        "protocol": [*PROTOCOL, json.loads(json.dumps(asdict(job.options))), job.position_rule, job.precision],
        "frames": frames,
        "first_mask": sha256(sequence.masks()[0]),
    }


def _is_finished(job: DavisJob, sequence: davis.DavisSequence, identity: Mapping[str, Any]) -> bool:
    """Whether all masks are there and were made from the same weights, protocol and frames."""
    try:
        stamp = json.loads(_stamp(job, sequence.name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    folder = job.out / sequence.name
    return stamp == identity and all((folder / f"{frame.stem}.png").is_file() for frame in sequence.images())


def _stamp(job: DavisJob, name: str) -> Path:
    return job.out / ".finished" / f"{name}.json"


def _gather(failures: dict[str, str], world: int) -> dict[str, str]:
    """The failures of all processes; returns when the last of them has finished its share."""
    if world == 1:
        return failures
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(days=2))
    shares: list[dict[str, str] | None] = [None] * world
    dist.all_gather_object(shares, failures)
    return {name: reason for share in shares for name, reason in share.items()}


def _score(job: DavisJob, failures: dict[str, str]) -> Scores:
    names = [name for name in job.sequences if name not in failures]
    if not names:
        return Scores(job.split, [], failures)
    scored = score(job.out, job.root, split=job.split, sequences=names, workers=job.workers)
    return Scores(job.split, scored.objects, failures | scored.failures)


def _late_objects(job: DavisJob, scores: Scores) -> list[str]:
    """A line for each object that the first mask does not show: nothing can be propagated for it."""
    lines = []
    for name in dict.fromkeys(one.sequence for one in scores.objects):
        shown = set(davis.sequence(job.root, name).first_mask().ravel().tolist())
        late = [one.object for one in scores.objects if one.sequence == name and one.object not in shown]
        if late:
            listed = ", ".join(map(str, late))
            lines.append(f"{name}: object {listed} first appears after the first frame and counts as missed until then")
    return lines


def _fingerprint(job: DavisJob) -> Data:
    """Frames and masks of all sequences of the job, by content."""
    images = [path for name in job.sequences for path in _files(job, name, "images")]
    masks = [path for name in job.sequences for path in _files(job, name, "masks")]
    digest = hashlib.sha256("".join(f"{path.parent.name}/{path.name}:{sha256(path)}\n" for path in masks).encode())
    size = sum(path.stat().st_size for path in images)
    split = Split(images=len(images), bytes=size, annotations_sha256=digest.hexdigest())
    return Data(name="davis2017", splits={job.split: split})


def _files(job: DavisJob, name: str, kind: str) -> list[Path]:
    try:
        return getattr(davis.sequence(job.root, name), kind)()
    except FlslBenchError:
        return []
