"""Line charts as geometry: axes with round ticks, and SVG paths in the units of the chart's view box."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 360, 230  # small, so that the labels stay legible where a phone shows the chart as wide as itself
COLOURS = 4  # that the style sheet has, each with dashes of its own
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 40

Values = Mapping[str, float | None]


@dataclass(frozen=True)
class Axes:
    """What is at a chart's axes: their names, how far x reaches whatever the values are, and the lines known to it."""

    title: str
    x: str
    y: str
    x_range: tuple[float, float] | None = None
    lines: tuple[str, ...] = ()  # a line of these names has the same colour in every chart


@dataclass(frozen=True)
class Line:
    """One series: the SVG path of its line, points [x, y] without a neighbour to be joined with, and its colour."""

    name: str
    path: str
    dots: tuple[tuple[float, float], ...]
    colour: int


@dataclass(frozen=True)
class Chart:
    """Lines over one x axis; ticks are (position, label)."""

    axes: Axes
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def draw_chart(axes: Axes, series: Mapping[str, Values]) -> Chart:
    """The chart of `series`: name -> {x as text: y}. A line has a gap where a value is None or an x is left out."""
    points = {name: numeric_points(values) for name, values in series.items()}
    xs = [x for line in points.values() for x, _ in line]
    ys = [y for line in points.values() for _, y in line if y is not None]
    x_low, x_high = axes.x_range or (min(xs), max(xs))
    y_low, y_high = min(0.0, *ys, 0.0), max(0.0, *ys, 0.0)
    y_ticks = round_ticks(y_low, y_high if y_high > y_low else y_low + 1)
    y_low, y_high = min(y_low, y_ticks[0]), max(y_high, y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_low) / ((x_high - x_low) or 1) * (WIDTH - _LEFT - _RIGHT)
        down = HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - _TOP - _BOTTOM)
        return round(across, 1), round(down, 1)

    step = grid_of(xs)[0]
    names = [*axes.lines, *(name for name in points if name not in axes.lines)]
    lines = tuple(_line(name, _runs(line, step), place, names.index(name)) for name, line in points.items())
    x_ticks = round_ticks(x_low, x_high, inside=True)
    return Chart(
        axes,
        lines,
        tuple((place(x, 0)[0], label) for x, label in zip(x_ticks, _labels(x_ticks), strict=True)),
        tuple((place(x_low, y)[1], label) for y, label in zip(y_ticks, _labels(y_ticks), strict=True)),
    )


def numeric_points(values: Values) -> list[tuple[float, float | None]]:
    """The series from left to right."""
    return sorted(((float(x), y) for x, y in values.items()), key=lambda point: point[0])


def grid_of(xs: Sequence[float]) -> tuple[float, float]:
    """Step and offset of the regular grid that `xs` lie on, as far as their smallest distance tells it."""
    xs = sorted({round(x, 9) for x in xs})
    step = min((round(b - a, 6) for a, b in pairwise(xs)), default=1.0) or 1.0
    return step, abs(round(xs[0] / step - round(xs[0] / step), 3))


def round_ticks(low: float, high: float, most: int = 6, inside: bool = False) -> list[float]:
    """About `most` multiples of 1, 2 or 5 times a power of ten over [low, high], or only those `inside` it."""
    if not high > low:
        return [low]
    raw = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = (math.ceil, math.floor) if inside else (math.floor, math.ceil)
    slack = 1e-9 if inside else -1e-9
    numbers = range(first(low / step - slack), last(high / step + slack) + 1)
    return [round(number * step, 12) for number in numbers]


def _labels(ticks: Sequence[float]) -> list[str]:
    """With as many decimals as the ticks need, and a true minus sign."""
    decimals = max((len(f"{tick:.10f}".rstrip("0").partition(".")[2]) for tick in ticks), default=0)
    return [f"{tick:.{min(decimals, 4)}f}".replace("-", "−") for tick in ticks]


def _runs(points: Sequence[tuple[float, float | None]], step: float) -> list[list[tuple[float, float]]]:
    """The points in pieces that nothing is missing from."""
    runs: list[list[tuple[float, float]]] = []
    before = None
    for x, y in points:
        if y is not None:
            if before is None or x - before > 1.5 * step:
                runs.append([])
            runs[-1].append((x, y))
        before = x if y is not None else None
    return runs


def _line(name: str, runs: Sequence[Sequence[tuple[float, float]]], place: Callable, colour: int) -> Line:
    placed = [[place(*point) for point in run] for run in runs]
    path = " ".join("M" + " L".join(f"{x:g} {y:g}" for x, y in run) for run in placed if len(run) > 1)
    return Line(name, path, tuple(run[0] for run in placed if len(run) == 1), colour % COLOURS)
