"""Helpers of the plots: style, axes, labels that do not overlap, PNG files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCENT = "#b4491f"
_DPI = 130
_NARROW = 8  # ratio of the limits of an axis; a wider one has at least two ticks at 1, 2, 5, ...


def new_figure(width: float, height: float) -> Figure:
    """An empty figure with sides in inches and a layout that makes room for labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.set_layout_engine("constrained")
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def plain_look(axes: Axes) -> None:
    """Draw a light grid behind the data, and no frame."""
    axes.set_axisbelow(True)
    axes.grid(visible=True, which="major", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


def logarithmic(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers at 1, 2, 5, 10, ..., or evenly on a short axis."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    few = high < _NARROW * low
    axes.xaxis.set_major_locator(MaxNLocator(6) if few else LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def label_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Draw the names of points (x, y, name) in a column at the right, without overlap.

    The points must be sorted by falling y, and the limits of the axes must be final.
    """
    heights = label_heights([y for _, y, _ in points], axes)
    for (x, y, name), height in zip(points, heights, strict=True):
        axes.annotate(
            name, (x, y), xytext=(1.04, height), textcoords="axes fraction",
            fontsize=8, va="center", parse_math=False,
            arrowprops={
                "arrowstyle": "-", "color": "0.75", "linewidth": 0.7, "shrinkB": 4,
                "relpos": (0, 0.5),
            },
        )  # fmt: skip


def label_heights(values: Sequence[float], axes: Axes) -> list[float]:
    """Heights of labels as shares of the axes, close to their points and without overlap.

    Args:
        values: Heights of the points, falling.
        axes: Axes with the points.
    """
    low, high = axes.get_ylim()
    gap = min(0.055, 1.0 / max(len(values) - 1, 1))
    heights: list[float] = []
    for value in values:  # from the top down
        wanted = (value - low) / (high - low)
        heights.append(min(wanted, heights[-1] - gap) if heights else min(wanted, 1.0))
    lift = max(0.0, -heights[-1])  # labels below the bottom push the others up
    for index in range(len(heights) - 1, -1, -1):
        floor = heights[index + 1] + gap if index + 1 < len(heights) else 0.0
        heights[index] = max(heights[index], floor) if lift else heights[index]
    return heights
