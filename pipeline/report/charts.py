"""Small charts as plain numbers, which the pages draw as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_CURVE = (640, 200)  # width and height of a plot, px
_TICKS = 4  # about as many on each axis


@dataclass(frozen=True)
class Tick:
    """A number beside an axis, and where it stands in px."""

    place: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A line as an SVG path, with its axes.

    Attributes:
        title: What is plotted.
        path: The line, from the upper left corner.
        width: Width of the plot, px.
        height: Height of the plot, px.
        across: Ticks of the horizontal axis, which has the steps.
        up: Ticks of the vertical axis, which has the values.
        last: The last value of the line.
        steps: Number of steps.
    """

    title: str
    path: str
    width: int
    height: int
    across: Sequence[Tick]
    up: Sequence[Tick]
    last: float
    steps: int


def loss_curve(title: str, points: Sequence[tuple[float, float]]) -> Curve | None:
    """A line through (step, loss), smoothed over a twentieth of the points; None if too few."""
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if len(points) < 2:
        return None
    steps = [x for x, _ in points]
    values = smooth([y for _, y in points], max(len(points) // 20, 1))
    width, height = _CURVE
    highest, span = max(values) or 1.0, max(steps[-1] - steps[0], 1e-9)

    def x_of(step: float) -> float:
        return width * (step - steps[0]) / span

    def y_of(value: float) -> float:
        return height * (1 - value / highest)

    corners = (f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in zip(steps, values, strict=True))
    return Curve(
        title, "M" + " L".join(corners), width, height,
        across=[Tick(x_of(x), f"{x:g}") for x in ticks(steps[0], steps[-1])],
        up=[Tick(y_of(y), f"{y:g}") for y in ticks(0.0, highest)],
        last=values[-1], steps=int(steps[-1]) + 1,
    )  # fmt: skip


def ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range, about four.

    Example:
        >>> ticks(0, 950), ticks(0.0, 0.7)
        ([0.0, 200.0, 400.0, 600.0, 800.0], [0.0, 0.2, 0.4, 0.6])
    """
    if high <= low:
        return [low]
    rough = (high - low) / _TICKS
    unit = 10 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough * 0.75)
    first, last = math.ceil(low / step), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.6g}") for number in range(first, last + 1)]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and its predecessors within a window.

    Example:
        >>> smooth([1, 2, 6], 2)
        [1.0, 1.5, 4.0]
    """
    starts = (max(0, end - window) for end in range(1, len(values) + 1))
    ends = range(1, len(values) + 1)
    return [sum(values[a:b]) / (b - a) for a, b in zip(starts, ends, strict=True)]


def histogram(shares: Sequence[float], bins: int = 10) -> list[int]:
    """How many shares in [0, 1] lie in each of equal intervals; 1 belongs to the last one.

    Example:
        >>> histogram([0.0, 0.05, 0.95, 1.0], 2)
        [2, 2]
    """
    counts = [0] * bins
    for share in shares:
        counts[min(int(share * bins), bins - 1)] += 1
    return counts
