"""Which breakdowns are curves and which are tables, and what stands beside what."""

import numpy as np
import pytest

from flsl_bench.probes.object_similarity import KINDS, ObjectSimilarity, SimilarityScores
from flsl_bench.report.breakdowns import curves_of, tables_of
from tests.results.conftest import build_record


def record(**breakdowns):
    return build_record(breakdowns=breakdowns)


def numbers(count, step=0.1, start=0.0):
    return {f"{start + step * k:.2f}": float(k) for k in range(count)}


def titles(one):
    return [curves.chart.axes.title for curves in curves_of(one)], [table.title for table in tables_of(one)]


def test_six_numbers_are_a_curve_and_five_are_a_table():
    assert titles(record(recall=numbers(6))) == (["recall"], [])
    assert titles(record(recall=numbers(5))) == ([], ["By recall"])


@pytest.mark.parametrize("word", ["car", "", "nan", "inf", "1 2"])
def test_one_part_that_is_no_number_makes_a_table(word):
    assert titles(record(recall=numbers(9) | {word: 1.0})) == ([], ["By recall"])


def test_series_over_one_grid_share_a_chart_and_others_do_not():
    one = record(a=numbers(9), b=numbers(7, start=2.0), c=numbers(8, step=0.25))
    assert titles(one)[0] == ["a, b", "c"]
    assert [line.name for line in curves_of(one)[0].chart.lines] == ["a", "b"]


def test_the_similarities_of_the_probe_are_one_chart_also_where_they_do_not_overlap():
    counts = np.zeros((3, 20_000), np.int64)  # fine bins over [-1, 1]
    counts[0, 10_000:] = 3
    counts[1, :10_000] = 2
    counts[2, 0] = 5
    scores = SimilarityScores(ObjectSimilarity(), counts, counts.sum(axis=1), (), 1, 0, 2, 0)
    (curves,) = curves_of(record(**scores.breakdowns()))
    assert curves.chart.axes.x == "cosine similarity"
    assert [line.name for line in curves.chart.lines] == [
        "pairs within one object",
        "pairs of two objects",
        "pairs of object and background",
    ]
    assert all(line.path for line in curves.chart.lines[:2])
    assert len(curves.chart.lines[2].dots) == 1
    assert tables_of(record(**scores.breakdowns())) == []


def test_a_kind_of_pair_has_one_colour_in_every_chart():
    one, other = record(**dict.fromkeys(KINDS, numbers(9))), record(**{KINDS[2]: numbers(9)})
    assert [line.colour for line in curves_of(one)[0].chart.lines] == [0, 1, 2]
    assert [line.colour for line in curves_of(other)[0].chart.lines] == [2]


def test_breakdowns_over_the_same_parts_are_columns_of_one_table():
    parts = {"J by sequence": {"a": 1.0, "b": None}, "F by sequence": {"a": 200.0, "b": None}, "size": {"s": 5.0}}
    together, alone = tables_of(record(**parts))
    assert (together.title, together.columns, together.defined) == ("By sequence", ("J", "F"), 1)
    assert [(part.name, part.values) for part in together.parts] == [("a", (1.0, 200.0)), ("b", (None, None))]
    assert together.parts[0].bars == (0.5, 100.0)
    assert (alone.title, alone.columns) == ("By size", ("score",))


def test_values_behind_a_curve_are_in_the_order_of_the_numbers():
    (curves,) = curves_of(record(threshold={"10": 1.0, "9": 2.0, "8": 3.0, "7": 4.0, "6": 5.0, "-1": None}))
    assert [part.name for part in curves.values.parts] == ["-1", "6", "7", "8", "9", "10"]


def test_an_empty_breakdown_is_left_out():
    assert titles(record(nothing={})) == ([], [])
