"""A comparison of runs: the content of its tables, and the page as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline.report.ablation import Ablation, ablation_of
from pipeline.report.comparison import (
    COVERAGE,
    ORACLE,
    THRESHOLD,
    TWIN,
    Group,
    Measure,
    Spread,
    described,
    differing,
    measure_to_sort_by,
    measures,
    shared_settings,
    total_seconds,
)
from pipeline.report.page import Swatch, duration, percent
from pipeline.report.rendering import (
    Pictures,
    columns_of,
    render_html,
)

TEMPLATE = "compare.html"
UNTIL_MASKS = ("classifier", "saliency", "pseudo_labels")
_FOR_AN_IMAGE = ("saliency", "pseudo_labels")
_NAMES = ("saliency.method", "refine")  # columns if no setting differs


@dataclass(frozen=True)
class Section:
    """Groups on the same data, best first.

    Attributes:
        title: Name of the data.
        groups: Groups in the order of the table.
        by: The score that they are sorted by.
        by_cost: Whether they are sorted by time instead.
        galleries: Rows of pictures by title.
        plots: Data URLs of plots by title.
        legend: Colours of the classes.
        remarks: What a reader must know before comparing.
        chosen: Classes in the mIoU, beside background; empty for all that occur in masks.
    """

    title: str
    groups: Sequence[Group]
    by: Measure | None
    by_cost: bool = False
    galleries: Mapping[str, Sequence[Pictures]] = field(default_factory=dict)
    plots: Mapping[str, str] = field(default_factory=dict)
    legend: Sequence[Swatch] = ()
    remarks: Sequence[str] = ()
    chosen: Sequence[str] = ()

    @cached_property
    def names(self) -> list[str]:
        """Dotted names of the settings that differ; method and refinement if none does."""
        present = [name for name in _NAMES if name in self.groups[0].settings]
        return differing(self.groups) or present

    @cached_property
    def ablation(self) -> Ablation | None:
        """The ablation that the groups form, if they were made by the same code; else None."""
        coded = any(name.startswith("code") for name in self.names)
        return None if coded else ablation_of(self.groups, self.names)

    @property
    def setting_titles(self) -> list[str]:
        """Titles of the columns with settings."""
        return ["changed"] if self.ablation else self.names

    def setting_cells(self, group: Group) -> list[str]:
        """The cells of the columns with settings."""
        return [self.label(group)] if self.ablation else [group.text(name) for name in self.names]

    @property
    def changed_from(self) -> str:
        """A sentence that describes the reference (ablations only)."""
        if self.ablation is None:
            return ""
        place = self.groups.index(self.ablation.reference) + 1
        return f"Each row is row {place} with one change. Row {place} is {self.ablation.choice}."

    @property
    def difference_title(self) -> str:
        """Title of the column of differences; empty if there is none."""
        by = self.primary_measure
        if not (self.ablation and by):
            return ""
        return f"difference, {by.title}" + (f" ({by.note})" if by.note else "")

    def difference(self, group: Group) -> Spread | None:
        """The difference of the primary score to the reference (ablations only)."""
        by = self.primary_measure
        return self.ablation.difference(group, by.key) if self.ablation and by else None

    def difference_text(self, group: Group) -> str:
        """The difference in points, as text for a cell."""
        return signed(self.difference(group), max(len(g.results) for g in self.groups))

    @property
    def primary_measure(self) -> Measure | None:
        """The score that the groups are sorted by; with ``by_cost``, the default score."""
        return self.by or measure_to_sort_by(self.groups, None)

    @cached_property
    def measures(self) -> list[Measure]:
        """The columns of scores."""
        return measures(self.groups)

    @cached_property
    def main_measures(self) -> dict[str, Measure]:
        """One measure of each kind, for places without room for all.

        Scores of segmenters have one protocol: that of the primary measure if it is a segmenter's,
        otherwise the first.
        """
        notes = [measure.note for measure in self.measures if measure.is_of_segmenter]
        if self.primary_measure and self.primary_measure.is_of_segmenter:
            notes.insert(0, self.primary_measure.note)
        return {m.kind: m for m in self.measures if not m.is_of_segmenter or m.note == notes[0]}

    @property
    def refined(self) -> Measure:
        """The column of the refined masks."""
        return next(measure for measure in self.measures if measure.key == "refined")

    @property
    def stages(self) -> list[str]:
        """The columns of times."""
        return list(dict.fromkeys(stage for group in self.groups for stage in group.stages))

    @property
    def order(self) -> str:
        """The order of the rows, in words."""
        if self.by_cost:
            return "fastest first"
        if self.by is None:
            return "by name, since no score exists for all of them"
        note = f" ({self.by.note})" if self.by.note else ""
        return f"best {self.by.title}{note} first"

    @property
    def repeated(self) -> bool:
        """Whether a group has several random seeds."""
        return any(len(group.results) > 1 for group in self.groups)

    @cached_property
    def shared(self) -> dict[str, str]:
        """Settings with the same value in all groups."""
        return shared_settings(self.groups)

    def own(self, group: Group) -> dict[str, str]:
        """Settings of a group that are not shared by all."""
        return {n: s.value for n, s in group.settings.items() if n not in self.shared}

    def label(self, group: Group) -> str:
        """A short description of a group."""
        return self.ablation.changed(group) if self.ablation else described(group, self.names)

    def caption(self, alike: Sequence[Group]) -> str:
        """Row numbers of some groups, and the settings that they share.

        In an ablation: row numbers, and the change of each group.
        """
        first = alike[0]
        places = ", ".join(str(self.groups.index(group) + 1) for group in alike)
        if self.ablation:
            return f"{places}: {'; '.join(map(self.label, alike))}"
        names = [n for n in self.names if all(g.text(n) == first.text(n) for g in alike)]
        return f"{places}: {described(first, names)}"

    def is_best(self, group: Group, measure: Measure) -> bool:
        """Whether a group has the highest mean of a column, unless all means are equal.

        Oracles and twins are never best, nor are training masks, since they void different pixels.
        """
        spreads = [other.spread(measure.key) for other in self.groups]
        means = [spread.mean for spread in spreads if spread]
        own = group.spread(measure.key)
        counts = measure.honest and measure.kind not in (TWIN, "masks") and len(set(means)) > 1
        return counts and own is not None and own.mean == max(means)

    def columns(self, title: str) -> list[str]:
        """Captions of the columns of a gallery."""
        return columns_of(self.galleries[title])


@dataclass(frozen=True)
class Page:
    """The content of the page.

    Attributes:
        title: Title of the page.
        folder: Folder that contains it.
        created: Date and time.
        sections: One section for each data set.
        loose_ends: Folder and reason for each stage that is not in the tables.
        notes: How the numbers were made.
    """

    title: str
    folder: str
    created: str
    sections: Sequence[Section]
    loose_ends: Sequence[tuple[str, str]]
    notes: Mapping[str, str]


def render(page: Page) -> str:
    """The page as HTML; every text in it is escaped."""
    filters: dict[str, Callable[..., Any]] = {
        "percent": percent, "duration": duration, "details": details, "per_image": per_image,
        "seeds": random_seeds, "total_seconds": total_seconds, "pivot_table": pivot_table,
        "class_tables": class_tables,
    }  # fmt: skip
    return render_html(TEMPLATE, page, filters)


@dataclass(frozen=True)
class PivotRow:
    """One choice of all settings but the refinement, with a group for each column.

    Attributes:
        words: The settings.
        seed: A group for the seed, which is the same for all refinements.
        refined: The group of each refinement, None if there is none.
    """

    words: Sequence[str]
    seed: Group
    refined: Sequence[Group | None]


@dataclass(frozen=True)
class PivotTable:
    """A table with a column for each refinement.

    Attributes:
        names: Settings that differ between rows.
        refinements: Titles of the columns.
        rows: Rows in the order of the long table.
    """

    names: Sequence[str]
    refinements: Sequence[str]
    rows: Sequence[PivotRow]

    def best(self, column: int | None) -> Spread:
        """The highest mean of a column; None means the column of the seeds."""
        if column is None:
            spreads = [row.seed.spread("seed") for row in self.rows]
        else:
            cells = [row.refined[column] for row in self.rows]
            spreads = [group.spread("refined") for group in cells if group]
        return max((spread for spread in spreads if spread), key=lambda spread: spread.mean)


def pivot_table(section: Section) -> PivotTable | None:
    """A table with a column for each refinement, or None.

    It needs groups that differ in the refinement and in something else, one group per cell, and
    scores. An ablation has none, since most of its rows have the same refinement. A refinement that
    does not change any seed has no column.
    """
    if section.ablation:
        return None
    inner = [n for n in section.names if n == "refine" or n.startswith("refine.")]
    outer = [n for n in section.names if n not in inner]
    cells: dict[tuple[str, ...], dict[str, Group]] = {}
    for group in section.groups:
        cells.setdefault(tuple(map(group.text, outer)), {})[described(group, inner)] = group
    alone = sum(map(len, cells.values())) == len(section.groups)  # at most one group per cell
    scored = all(group.is_scored for group in section.groups)
    changing = [g for g in section.groups if g.spread("refined") != g.spread("seed")]
    if not (inner and outer and alone and scored and changing and len(cells) > 1):
        return None
    columns = sorted({described(group, inner) for group in changing})
    rows = [
        PivotRow(
            words,
            max(row.values(), key=lambda group: len(group.results)),
            [row.get(name) for name in columns],
        )
        for words, row in cells.items()
    ]
    return PivotTable(outer, columns, rows)


@dataclass(frozen=True)
class ClassTable:
    """One score for each class; groups with equal numbers share a row."""

    measure: Measure
    classes: Sequence[str]
    rows: Sequence[Sequence[Group]]

    @property
    def title(self) -> str:
        """The score, and how it was made."""
        name = self.measure.title.replace("mIoU", "IoU")
        return f"{name} ({self.measure.note})" if self.measure.note else name


def class_tables(section: Section) -> list[ClassTable]:
    """One table for each score that is known for single classes."""
    tables = []
    for measure in section.measures:
        names = _classes_of(section, measure.key)
        alike: dict[tuple[Spread | None, ...], list[Group]] = {}
        for group in section.groups:
            numbers = tuple(group.class_spread(measure.key, name) for name in names)
            if any(numbers):
                alike.setdefault(numbers, []).append(group)
        if alike:
            tables.append(ClassTable(measure, names, list(alike.values())))
    return tables


def _classes_of(section: Section, key: str) -> list[str]:
    names = dict.fromkeys(
        name for g in section.groups for r in g.results for name in r.classes.get(key, {})
    )
    wanted = ("background", *section.chosen) if section.chosen else names
    return [
        name
        for name in names
        if name in wanted and any(group.class_spread(key, name) for group in section.groups)
    ]


def signed(spread: Spread | None, runs: int) -> str:
    """A difference in points with its deviation, and its number of pairs if that is not ``runs``.

    Example:
        >>> signed(Spread((-0.1, -0.12)), 2), signed(Spread((0.004,)), 3), signed(None, 1)
        ('-11.0 ± 1.4', '+0.4, n = 1', '')
    """
    if spread is None:
        return ""
    deviation = f" ± {100 * spread.deviation:.1f}" if spread.deviation is not None else ""
    count = len(spread.values)
    return f"{100 * spread.mean:+.1f}{deviation}" + (f", n = {count}" if count != runs else "")


def details(group: Group, measure: Measure) -> list[str]:
    """The small print of a score: its deviation, the oracle's threshold, the share of pixels."""
    spread = group.spread(measure.key)
    if spread is None:
        return []
    lines = [_plus_minus(spread, len(group.results))] if len(group.results) > 1 else []
    threshold, coverage = group.spread(THRESHOLD), group.spread(COVERAGE)
    if measure.key == ORACLE and threshold:
        lines.append(f"at {_range(threshold)}")
    if measure.key == "masks" and coverage:
        lines.append(f"{percent(coverage.mean)} % of pixels")
    return lines


def _plus_minus(spread: Spread, runs: int) -> str:
    count = len(spread.values)
    of = f"n = {count}" if count == runs else f"n = {count} of {runs}"
    return of if spread.deviation is None else f"± {100 * spread.deviation:.1f}, {of}"


def _range(spread: Spread) -> str:
    ends = dict.fromkeys(f"{end:.2f}" for end in (min(spread.values), max(spread.values)))
    return " to ".join(ends)


def random_seeds(group: Group) -> str:
    """The random seeds of a group as text.

    Example:
        >>> random_seeds(Group({}, ()))
        'random seed -'
    """
    seeds = [str(seed) for seed in group.random_seeds]
    return f"random seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds) or '-'}"


def per_image(group: Group) -> float | None:
    """Seconds per image for maps and masks."""
    images = max((result.images for result in group.results), default=0)
    seconds = group.seconds(_FOR_AN_IMAGE)
    return seconds / images if seconds is not None and images else None
