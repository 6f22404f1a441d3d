"""Small charts as plain numbers, which the pages draw as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]

_SIZE = (640, 200)  # width and height of a plot, px
_TICKS = 4  # about as many on each axis


@dataclass(frozen=True)
class Tick:
    """A number beside an axis, and where it stands in px."""

    place: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Lines as SVG paths, with their axes. The vertical one begins at 0.

    Attributes:
        title: What is plotted.
        paths: Each line by its name, from the upper left corner.
        width: Width of the plot, px.
        height: Height of the plot, px.
        across: Ticks of the horizontal axis, which has the steps.
        up: Ticks of the vertical axis, which has the values.
        note: The last values, in words.
    """

    title: str
    paths: Mapping[str, str]
    width: int
    height: int
    across: Sequence[Tick]
    up: Sequence[Tick]
    note: str


def loss_chart(title: str, training: Points, held_out: Points = ()) -> Chart | None:
    """Losses by step; None if there are fewer than two.

    Args:
        title: What learned.
        training: (step, loss) of batches, smoothed over a twentieth of them.
        held_out: (step, loss) of images that are not learned from.
    """
    found = [(x, y) for x, y in training if math.isfinite(y)]
    if len(found) < 2:
        return None
    means = smooth([y for _, y in found], max(len(found) // 20, 1))
    lines = {"training": [(x, y) for (x, _), y in zip(found, means, strict=True)]}
    lines |= {"held out": list(held_out)} if held_out else {}
    ends = ", ".join(f"{name} {points[-1][1]:.3g}" for name, points in lines.items())
    return _chart(title, lines, f"{ends} after {int(found[-1][0]) + 1} steps")


def _chart(title: str, lines: Mapping[str, Points], note: str) -> Chart:
    width, height = _SIZE
    first, last = (end(x for points in lines.values() for x, _ in points) for end in (min, max))
    highest = max(y for points in lines.values() for _, y in points) or 1.0

    def x_of(step: float) -> float:
        return width * (step - first) / max(last - first, 1e-9)

    def y_of(value: float) -> float:
        return height * (1 - value / highest)

    paths = {
        name: "M" + " L".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in points)
        for name, points in lines.items()
    }
    across = [Tick(x_of(x), f"{x:g}") for x in ticks(first, last)]
    up = [Tick(y_of(y), f"{y:g}") for y in ticks(0.0, highest)]
    return Chart(title, paths, width, height, across, up, note)


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
