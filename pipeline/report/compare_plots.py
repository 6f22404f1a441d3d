"""Plots of a comparison: bars with their spread, and quality against time."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.report.compare_page import UNTIL_MASKS, UNTIL_NETWORK, Section
from pipeline.report.comparison import (
    FRACTION,
    NETWORK,
    ORACLE,
    Group,
    Measure,
    Spread,
    measure_to_sort_by,
)
from pipeline.report.plots import ACCENT, label_points, logarithmic, new_figure, plain_look, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAR, _POINT, _ORACLE = "#e9b596", "#5c2410", "0.45"
_PANELS = ("seed", "refined", NETWORK)
_WIDEST = 44  # letters of a label in a line


def bars(section: Section) -> bytes | None:
    """Mean scores as bars, the deviation as a line, each random seed as a point; a PNG file.

    The oracle is a hollow mark beside the seed. None if nothing was scored.
    """
    panels = _panels(section)
    if not panels:
        return None
    groups = section.groups
    figure = new_figure(2.2 + 3.6 * len(panels), 1.3 + 0.42 * len(groups))
    grid = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for axes, measure in zip(grid, panels, strict=True):
        _bars(axes, groups, measure)
    labels = [
        textwrap.fill(f"{place}  {section.label(group)}", _WIDEST)
        for place, group in enumerate(groups, start=1)
    ]
    grid[0].set_yticks(range(len(groups)), labels, fontsize=9, parse_math=False)
    grid[0].set_ylim(len(groups) - 0.4, -0.6)  # best at the top
    grid[0].set_xlim(0, 106 * _furthest(groups, panels))  # all panels share it
    return png(figure)


def _panels(section: Section) -> list[Measure]:
    first: dict[str, Measure] = {}
    for measure in section.measures:  # of several evaluations of a network the first
        first.setdefault(measure.kind, measure)
    return [first[kind] for kind in _PANELS if kind in first]


def _furthest(groups: Sequence[Group], panels: Sequence[Measure]) -> float:
    """The largest number that is drawn; 1 if all are 0."""
    keys = [*(measure.key for measure in panels), ORACLE]
    spreads = [spread for g in groups for key in keys if (spread := g.spread(key)) is not None]
    ends = [max(*s.values, s.mean + (s.deviation or 0.0)) for s in spreads]
    return max(ends) or 1.0


def _bars(axes: Axes, groups: Sequence[Group], measure: Measure) -> None:
    for height, group in enumerate(groups):
        spread = group.spread(measure.key)
        if spread is None:
            continue
        axes.barh(height, 100 * spread.mean, height=0.62, color=_BAR)
        deviation = 100 * (spread.deviation or 0.0)
        error = deviation or None
        axes.errorbar(100 * spread.mean, height, xerr=error, color=ACCENT, capsize=3)
        if len(spread.values) > 1:
            points = [100 * value for value in spread.values]
            axes.scatter(points, [height] * len(points), s=14, color=_POINT, zorder=4, linewidths=0)
        oracle = group.spread(ORACLE) if measure.key == "seed" else None
        if oracle is not None:
            axes.scatter(
                100 * oracle.mean, height, s=30, marker="D", facecolors="none", edgecolors=_ORACLE,
                linewidths=1.2, zorder=4,
            )  # fmt: skip
    note = "\n◇ oracle, no result" if measure.key == "seed" else ""
    protocol = f"\n{measure.note}" if measure.kind == NETWORK else ""
    axes.set_title(f"{measure.title}, %", fontsize=10, loc="left")
    axes.set_xlabel((note or protocol).strip("\n") or " ", fontsize=8, color="0.35")
    axes.tick_params(labelsize=8)
    plain_look(axes)
    axes.grid(visible=False, axis="y")


def quality_and_cost(section: Section) -> bytes | None:
    """The score that decides against the time up to there; a PNG file.

    None if fewer than two groups have both.
    """
    measure = section.by or measure_to_sort_by(section.groups, None)
    if measure is None:
        return None
    stages = _stages_before(measure)
    found = [(g, g.spread(measure.key), g.seconds(stages)) for g in section.groups]
    points = [(g, y, x) for g, y, x in found if y is not None and x]
    if len(points) < 2:
        return None
    points.sort(key=lambda point: -point[1].mean)
    figure = new_figure(8.2, 4.4)
    axes = figure.subplots()
    for _, score, cost in points:
        _point(axes, score, cost)
    axes.margins(y=0.12)
    logarithmic(axes)
    plain_look(axes)
    axes.set_xlabel(f"seconds of {', '.join(stages)} together (log)", fontsize=9)
    axes.set_ylabel(f"{measure.title}, %", fontsize=9)
    axes.tick_params(labelsize=8)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)  # as it is: the labels are placed by it
    label_points(
        axes,
        [(x, 100 * y.mean, _short(section, g)) for g, y, x in points],
    )
    return png(figure)


def _short(section: Section, group: Group) -> str:
    """A group's number in the table, and as much of its settings as has room."""
    place = section.groups.index(group) + 1
    return textwrap.shorten(f"{place}  {section.label(group)}", _WIDEST, placeholder=" …")


def _stages_before(measure: Measure) -> tuple[str, ...]:
    if measure.kind == "classifier":
        return UNTIL_MASKS[:1]
    return UNTIL_NETWORK if measure.kind in (NETWORK, FRACTION) else UNTIL_MASKS


def _point(axes: Axes, score: Spread, cost: float) -> None:
    axes.errorbar(
        cost, 100 * score.mean, yerr=100 * (score.deviation or 0.0) or None, fmt="o",
        color=ACCENT, markersize=6, capsize=3, linewidth=1.2, zorder=3,
    )  # fmt: skip
