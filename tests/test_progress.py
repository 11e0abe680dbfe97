"""Bars on a terminal, lines in a file."""

import io

import pytest
from rich.console import Console

from flsl_bench import progress
from flsl_bench.progress import Bars


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()


def test_without_a_terminal_a_line_now_and_then_with_the_time_left(clock):
    console = Console(file=io.StringIO())
    bars = Bars("frames", console)
    bar = bars.add("train", 100, done=20)
    for done in range(21, 101):
        clock[0] += 2
        bars.update(bar, done, note="loss 1.0")
    told = lines(console)
    assert told[0] == "train 35/100 frames, loss 1.0, 0:02:10 left"
    assert told[-1] == "train 100/100 frames, loss 1.0, in 0:02:40"
    assert len(told) == 6
    assert bars.finished


def test_a_total_that_is_not_known_yet(clock):
    console = Console(file=io.StringIO())
    bars = Bars("", console)
    bar = bars.add("convert")
    clock[0] += 60
    bars.update(bar, 3)
    bars.update(bar, 4, total=4)
    assert lines(console) == ["convert 3/?", "convert 4/4, in 0:01:00"]


def test_on_a_terminal_there_is_a_bar_and_no_line():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    bars = Bars("frames", console)
    bars.update(bars.add("train", 2), 2, note="done")
    bars.stop()
    text = console.file.getvalue()
    assert "━" in text and "2/2" in text and "done" in text and "in 0:00" not in text


def test_the_end_of_each_part_is_told_once(clock):
    console = Console(file=io.StringIO())
    bars = Bars("images", console)
    bar = bars.add("probe")
    for done, total, note in ((3, 3, "train"), (3, 3, "train"), (2, 2, "val"), (2, 2, "val")):
        bars.update(bar, done, total, note)
    assert [line.split(",")[:2] for line in lines(console)] == [
        ["probe 3/3 images", " train"],
        ["probe 2/2 images", " val"],
    ]
