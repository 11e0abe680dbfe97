"""Charts as geometry: every point at its place, ticks that are round and cover the values, gaps where nothing is."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flsl_bench.report.curves import HEIGHT, WIDTH, Axes, draw_chart, grid_of, round_ticks

AXES = Axes("title", "x", "y")
finite = st.floats(-1e4, 1e4).filter(lambda x: x == 0 or abs(x) > 1e-3)


def points(path):
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


def test_a_straight_line_is_drawn_from_corner_to_corner():
    chart = draw_chart(AXES, {"a": {"0": 0.0, "1": 5.0, "2": 10.0}})
    (line,) = chart.lines
    middle = ((chart.left + chart.right) / 2, (chart.top + chart.bottom) / 2)
    assert points(line.path) == [(chart.left, chart.bottom), middle, (chart.right, chart.top)]
    assert line.dots == ()
    assert [label for _, label in chart.x_ticks] == ["0.0", "0.5", "1.0", "1.5", "2.0"]
    assert [label for _, label in chart.y_ticks] == ["0", "2", "4", "6", "8", "10"]


def test_text_keys_are_put_in_the_order_of_their_numbers():
    ordered = draw_chart(AXES, {"a": {"-1": 1.0, "0.5": 2.0, "2": 3.0, "10": 4.0}})
    assert ordered == draw_chart(AXES, {"a": {"10": 4.0, "2": 3.0, "-1": 1.0, "0.5": 2.0}})
    assert "−2" in {label for _, label in draw_chart(AXES, {"a": {"-2": 1.0, "2": 3.0}}).x_ticks}


def test_a_missing_value_and_a_missing_x_break_the_line():
    values = {"0": 1.0, "1": 1.0, "2": None, "3": 1.0, "4": 1.0, "6": 1.0, "8": 1.0, "9": 2.0}
    (line,) = draw_chart(AXES, {"a": values}).lines
    assert line.path.count("M") == 3
    assert len(points(line.path)) == 6
    assert len(line.dots) == 1


def test_an_axis_reaches_as_far_as_it_is_told_to():
    chart = draw_chart(Axes("t", "x", "y", (-1.0, 1.0)), {"a": {"0": 1.0, "0.5": 2.0}})
    assert chart.x_ticks[0] == (chart.left, "−1.0") and chart.x_ticks[-1] == (chart.right, "1.0")


@pytest.mark.parametrize("values", [{"0": None, "1": None}, {"0": 0.0, "1": 0.0}, {"3": 7.0}, {"3": -7.0, "4": -8.0}])
def test_curves_without_height_or_width_are_drawn_inside_the_chart(values):
    chart = draw_chart(AXES, {"a": values})
    places = [*points(chart.lines[0].path), *chart.lines[0].dots]
    assert len(places) == sum(value is not None for value in values.values())
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)


@given(st.dictionaries(finite, finite | st.none(), min_size=1, max_size=12))
def test_every_value_is_drawn_once_inside_the_axes(values):
    chart = draw_chart(AXES, {"a": {repr(x): y for x, y in values.items()}})
    places = [*points(chart.lines[0].path), *chart.lines[0].dots]
    assert len(places) == sum(y is not None for y in values.values())
    assert all(chart.left <= x <= chart.right and chart.top <= y <= chart.bottom for x, y in places)
    assert all(chart.left <= x <= chart.right for x, _ in chart.x_ticks)


@given(finite, finite)
def test_ticks_are_few_even_round_and_cover_the_range(a, b):
    low, high = sorted((a, b))
    if high - low < 1e-2:
        return
    ticks = round_ticks(low, high)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-6 * step and ticks[-1] >= high - 1e-6 * step
    leading = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(leading - round_one) for round_one in (1, 2, 5, 10)) < 1e-6
    inner = round_ticks(low, high, inside=True)
    assert all(low - 1e-6 * step <= tick <= high + 1e-6 * step for tick in inner)


@pytest.mark.parametrize(
    ("xs", "grid"),
    [
        ([0.0, 0.1, 0.2], (0.1, 0.0)),
        ([0.3, 0.1, 0.7], (0.2, 0.5)),
        ([-1, -0.95, 0.5], (0.05, 0.0)),
        ([5.0], (1.0, 0.0)),
    ],
)
def test_the_grid_is_found_from_the_smallest_distance(xs, grid):
    assert grid_of(xs) == pytest.approx(grid)
