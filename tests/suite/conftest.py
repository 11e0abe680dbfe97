"""Tasks that need no data and no training: each writes the record that was prepared for it, or fails as told."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flsl_bench.demo import write_checkpoint
from flsl_bench.results.record import Record
from flsl_bench.results.store import Store
from flsl_bench.suite import Wish
from flsl_bench.tasks import base
from flsl_bench.tasks.base import MetricSpec, Plan, Request, Task
from tests.results.conftest import build_record

COPY = "import os, sys; os.makedirs(os.path.dirname(sys.argv[2]), exist_ok=True); os.replace(sys.argv[1], sys.argv[2])"


class Prepared(Task):
    """Copies its record to where it belongs; counts its runs by the lines of `runs`."""

    metrics = (MetricSpec("score"),)
    dataset = "fake"
    protocol = ("fake", "1")
    cost = "nothing"

    def __init__(self, name: str, folder: Path, seeded: bool = True, fails: str = "", problem: str = ""):
        self.name, self.title, self.seeded = name, name, seeded
        self.folder, self.fails, self.problem = folder, fails, problem

    def record(self, job: Request) -> Record:
        return build_record(task=self.name, benchmark="fake", model=job.model, seed=job.seed, scores={"score": 1.0})

    def prepare(self, request: Request) -> Request:
        return request

    def with_seed(self, job: Request, seed: int) -> Request:
        return replace(job, seed=seed)

    def check(self, job: Request) -> list[str]:
        return [self.problem] if self.problem else []

    def plan(self, job: Request) -> Plan:
        record, store = self.record(job), Store(job.results)
        identity = (record.model, self.name, record.key)
        return Plan(self.name, record.model, store.path(*identity), store.find(*identity), ["work"])

    def command(self, request: Request, python: str) -> list[str]:
        record = self.record(request)
        source = self.folder / f"{record.key}.json"
        source.write_text(record.to_json())
        place = Store(request.results).path(record.model, self.name, record.key)
        copy = shlex.join([python, "-c", COPY, str(source), str(place)])
        runs = shlex.quote(str(self.folder / "runs"))
        return ["bash", "-c", f"echo {self.name}-{request.seed} >> {runs}; {self.fails or copy}"]

    def run(self, job):
        raise NotImplementedError

    def collect(self, job, outcome):
        raise NotImplementedError


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """A function that registers a `Prepared` task for the test."""
    monkeypatch.setattr(base, "_tasks", dict(base._tasks))
    return lambda name, **options: base.register(Prepared(name, tmp_path, **options))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    return write_checkpoint(path, embed_dim=24, depth=2, num_heads=3, patch_size=16)


@pytest.fixture
def wish(tmp_path, checkpoint):
    """A function that makes a wish in the test's folder."""

    def make(*names: str, **options) -> Wish:
        options = {"data": {"fake": tmp_path} if names else {}, "model": "m", **options}
        places = dict(data_root=tmp_path / "data", work_dir=tmp_path / "work", results=tmp_path / "results")
        return Wish(checkpoint=checkpoint, tasks=names, **{**places, **options})

    return make


@pytest.fixture
def runs(tmp_path):
    """A function that tells which tasks were started so far."""
    file = tmp_path / "runs"
    return lambda: file.read_text().split() if file.exists() else []


@pytest.fixture
def python() -> str:
    return sys.executable
