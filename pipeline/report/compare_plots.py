"""Plots of a comparison: bars with their spread, and quality against time."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.report.compare_page import UNTIL_MASKS, Section, pivot_table
from pipeline.report.comparison import (
    FRACTION,
    ORACLE,
    SEGMENTER,
    Group,
    Measure,
    Spread,
    described,
    total_seconds,
)
from pipeline.report.plots import ACCENT, label_points, logarithmic, new_figure, plain_look, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAR, _POINT, _ORACLE = "#e9b596", "#5c2410", "0.45"
_PANELS = ("seed", "refined", SEGMENTER)
_WIDEST = 44  # characters per line of a label


@dataclass(frozen=True)
class _Panel:
    """One score of the group in each row; a row without the score has None."""

    measure: Measure
    title: str
    groups: Sequence[Group | None]

    def spreads(self, key: str) -> list[Spread | None]:
        return [group.spread(key) if group else None for group in self.groups]

    @property
    def oracles(self) -> list[Spread | None]:
        """Oracle scores, for the panel of the seeds only."""
        return self.spreads(ORACLE) if self.measure.key == "seed" else []


def bars(section: Section) -> bytes | None:
    """A PNG file of mean scores as bars, deviations as lines and random seeds as points.

    The oracle is a hollow mark in the panel of the seed. With a pivot table and no segmenter, each
    refinement has a panel. None if nothing was scored.
    """
    labels, panels = _pivot_panels(section) or _panels(section)
    if not panels:
        return None
    figure = new_figure(2.2 + 3.6 * len(panels), 1.3 + 0.42 * len(labels))
    grid = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for axes, panel in zip(grid, panels, strict=True):
        _bars(axes, panel)
    lines = [textwrap.fill(label, _WIDEST) for label in labels]
    grid[0].set_yticks(range(len(lines)), lines, fontsize=9, parse_math=False)
    grid[0].set_ylim(len(lines) - 0.4, -0.6)  # best at the top
    grid[0].set_xlim(0, 106 * _largest_value(panels))  # all panels share it
    return png(figure)


def _panels(section: Section) -> tuple[list[str], list[_Panel]]:
    """Labels of the rows of the long table, and their scores."""
    chosen = [section.main_measures[kind] for kind in _PANELS if kind in section.main_measures]
    panels = [_Panel(measure, measure.title, section.groups) for measure in chosen]
    labels = [f"{place}  {section.label(g)}" for place, g in enumerate(section.groups, start=1)]
    return labels, panels


def _pivot_panels(section: Section) -> tuple[list[str], list[_Panel]] | None:
    """Labels of the rows of the pivot table, and a panel for the seed and each refinement."""
    table = pivot_table(section)
    if table is None or any(measure.kind == SEGMENTER for measure in section.measures):
        return None
    seed = next(measure for measure in section.measures if measure.key == "seed")
    panels = [_Panel(seed, seed.title, [row.seed for row in table.rows])]
    for column, name in enumerate(table.refinements):
        cells = [row.refined[column] for row in table.rows]
        panels.append(_Panel(section.refined, f"{name}, mIoU", cells))
    return [described(row.seed, table.names) for row in table.rows], panels


def _largest_value(panels: Sequence[_Panel]) -> float:
    """The largest value in the panels; 1 if all are 0."""
    drawn = [[*panel.spreads(panel.measure.key), *panel.oracles] for panel in panels]
    spreads = [spread for some in drawn for spread in some if spread is not None]
    return max(max(*s.values, s.mean + (s.deviation or 0.0)) for s in spreads) or 1.0


def _bars(axes: Axes, panel: _Panel) -> None:
    measure = panel.measure
    for height, spread in enumerate(panel.spreads(measure.key)):
        if spread is not None:
            _bar(axes, height, spread)
    for height, oracle in enumerate(panel.oracles):
        if oracle is not None:
            axes.scatter(
                100 * oracle.mean, height, s=30, marker="D", facecolors="none", edgecolors=_ORACLE,
                linewidths=1.2, zorder=4,
            )  # fmt: skip
    note = "◇ oracle, not a result" if any(panel.oracles) else " "
    axes.set_title(f"{panel.title}, %", fontsize=10, loc="left", parse_math=False)
    below = measure.note if measure.kind == SEGMENTER else note
    axes.set_xlabel(below, fontsize=8, color="0.35", parse_math=False)
    axes.tick_params(labelsize=8)
    plain_look(axes)
    axes.grid(visible=False, axis="y")


def _bar(axes: Axes, height: int, spread: Spread) -> None:
    axes.barh(height, 100 * spread.mean, height=0.62, color=_BAR)
    deviation = 100 * (spread.deviation or 0.0) or None
    axes.errorbar(100 * spread.mean, height, xerr=deviation, color=ACCENT, capsize=3)
    if len(spread.values) > 1:
        points = [100 * value for value in spread.values]
        axes.scatter(points, [height] * len(points), s=14, color=_POINT, zorder=4, linewidths=0)


def quality_and_cost(section: Section) -> bytes | None:
    """A PNG file of the primary score against the time that it took.

    None if fewer than two groups have both.
    """
    measure = section.primary_measure
    if measure is None:
        return None
    found = [(g, g.spread(measure.key), _seconds_before(measure, g)) for g in section.groups]
    points = [(g, y, x) for g, y, x in found if y is not None and x]
    if len(points) < 2:
        return None
    points.sort(key=lambda point: -point[1].mean)
    figure = new_figure(8.2, max(4.4, 0.16 * len(points)))  # room for each name
    axes = figure.subplots()
    for _, score, cost in points:
        _point(axes, score, cost)
    axes.margins(y=0.12)
    logarithmic(axes)
    plain_look(axes)
    axes.set_xlabel(f"seconds up to the {_subject(measure)} (log)", fontsize=9)
    axes.set_ylabel(f"{measure.title}, %", fontsize=9)
    axes.tick_params(labelsize=8)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)  # fixed, since the labels are placed relative to it
    label_points(
        axes,
        [(x, 100 * y.mean, _short(section, g)) for g, y, x in points],
    )
    return png(figure)


def _short(section: Section, group: Group) -> str:
    """A group's row number and its settings, shortened."""
    place = section.groups.index(group) + 1
    return textwrap.shorten(f"{place}  {section.label(group)}", _WIDEST, placeholder=" …")


def _subject(measure: Measure) -> str:
    """What a score measures: the classifier, the masks or the segmenter."""
    if measure.kind in (SEGMENTER, FRACTION):
        return "segmenter"
    return "classifier" if measure.kind == "classifier" else "masks"


def _seconds_before(measure: Measure, group: Group) -> float | None:
    if _subject(measure) == "segmenter":
        return total_seconds(group)
    return group.seconds(UNTIL_MASKS[:1] if _subject(measure) == "classifier" else UNTIL_MASKS)


def _point(axes: Axes, score: Spread, cost: float) -> None:
    axes.errorbar(
        cost, 100 * score.mean, yerr=100 * (score.deviation or 0.0) or None, fmt="o",
        color=ACCENT, markersize=6, capsize=3, linewidth=1.2, zorder=3,
    )  # fmt: skip
