"""What runs, what is skipped, what a failure leaves."""

import io
import threading

import pytest
from rich.console import Console

import flsl_bench
from flsl_bench.errors import FlslBenchError
from flsl_bench.suite import execute
from flsl_bench.suite.locking import hold


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def test_every_unit_leaves_its_record_and_is_not_run_again(tasks, wish, runs, console):
    tasks("one"), tasks("two", seeded=False)
    records, failures = execute(wish("one", "two", seeds=(0, 1)), console)
    assert [(record.task, record.seed) for record in records] == [("one", 0), ("one", 1), ("two", 0)]
    assert failures == []
    assert runs() == ["one-0", "one-1", "two-0"]
    again, _ = execute(wish("one", "two", seeds=(0, 1)), console)
    assert again == records and len(runs()) == 3
    execute(wish("one", "two", seeds=(0, 1), overwrite=True), console)
    assert len(runs()) == 6


def test_a_failure_does_not_stop_the_others_and_is_tried_again(tasks, wish, runs, console):
    tasks("bad", fails="echo 'error: out of memory'; exit 1"), tasks("good")
    records, (failure,) = execute(wish("bad", "good"), console)
    assert [record.task for record in records] == ["good"]
    assert (failure.name, failure.reason) == ("bad, seed 0", "out of memory")
    assert "error: out of memory" in failure.log.read_text()
    assert "failed: bad, seed 0: out of memory" in console.file.getvalue()
    execute(wish("bad", "good"), console)
    assert runs() == ["bad-0", "good-0", "bad-0"]


def test_a_run_without_record_is_a_failure(tasks, wish, console):
    tasks("silent", fails="true")
    _, (failure,) = execute(wish("silent"), console)
    assert failure.reason == "it ended without a record"


def test_a_dry_run_runs_and_writes_nothing(tasks, wish, runs, console, tmp_path):
    tasks("one")
    assert execute(wish("one"), console, dry_run=True) == ([], [])
    assert runs() == [] and not (tmp_path / "work").exists()
    assert "one, seed 0" in console.file.getvalue()


def test_a_record_that_another_run_left_meanwhile_is_taken(tasks, wish, runs, console, tmp_path):
    """The second of two calls waits for the first and finds its records."""
    tasks("one")
    outcomes = []
    with hold(tmp_path / "work/m/.lock", print):
        second = threading.Thread(target=lambda: outcomes.append(execute(wish("one"), console)))
        second.start()
        task = tasks("unused")
        assert task and runs() == []
        first = wish("one", work_dir=tmp_path / "other")
        execute(first, Console(file=io.StringIO()))
    second.join(timeout=30)
    ((records, failures),) = outcomes
    assert len(records) == 1 and failures == [] and runs() == ["one-0"]


def test_from_python(tasks, checkpoint, tmp_path, runs):
    tasks("one", seeded=False), tasks("bad", fails="echo reason; exit 3")
    places = dict(work_dir=tmp_path / "w", results=tmp_path / "r", data={"fake": tmp_path}, model="m")
    (record,) = flsl_bench.evaluate(checkpoint, tasks=["one"], **places)
    assert record.task == "one" and runs() == ["one-0"]
    with pytest.raises(FlslBenchError, match=r"1 of 2 runs failed: bad, seed 0: reason \(see .*tool.log\)"):
        flsl_bench.evaluate(checkpoint, tasks=["one", "bad"], **places)
