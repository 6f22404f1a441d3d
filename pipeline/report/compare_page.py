"""A comparison of runs as CSV, as Markdown, as rows of text, and as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline.report.comparison import (
    COVERAGE,
    FRACTION,
    NETWORK,
    ORACLE,
    THRESHOLD,
    TWIN,
    Group,
    Measure,
    Result,
    Spread,
    described,
    differing,
    measures,
    shared_settings,
)
from pipeline.report.page import Swatch, duration, percent
from pipeline.report.rendering import (
    Pictures,
    columns_of,
    csv_table,
    markdown_table,
    render_html,
)

TEMPLATE = "compare.html"
UNTIL_MASKS = ("classifier", "saliency", "pseudo_labels")
UNTIL_NETWORK = (*UNTIL_MASKS, "segmentation")
_FOR_AN_IMAGE = ("saliency", "pseudo_labels")
_SHORT = {
    "classifier": "AP", "seed": "seed", ORACLE: "oracle", "refined": "refined", "masks": "masks",
    NETWORK: "network", FRACTION: "of twin",
}  # fmt: skip
_NAMES = ("saliency.method", "refine")  # of groups where nothing differs


@dataclass(frozen=True)
class Section:
    """Groups on the same data, best first.

    Attributes:
        title: Which data.
        groups: In the order of the table.
        by: What they are sorted by.
        by_cost: They are sorted by time instead.
        galleries: Pictures in columns, by title.
        plots: Data addresses by what they show.
        legend: Colours of the classes.
        remarks: What a reader must know before comparing.
    """

    title: str
    groups: Sequence[Group]
    by: Measure | None
    by_cost: bool = False
    galleries: Mapping[str, Sequence[Pictures]] = field(default_factory=dict)
    plots: Mapping[str, str] = field(default_factory=dict)
    legend: Sequence[Swatch] = ()
    remarks: Sequence[str] = ()

    @cached_property
    def names(self) -> list[str]:
        """Dotted names of what differs; of method and refinement where nothing does."""
        present = [name for name in _NAMES if name in self.groups[0].settings]
        return differing(self.groups) or present

    @cached_property
    def measures(self) -> list[Measure]:
        """Columns of scores."""
        return measures(self.groups)

    @property
    def stages(self) -> list[str]:
        """Columns of times."""
        return list(dict.fromkeys(stage for group in self.groups for stage in group.stages))

    @property
    def order(self) -> str:
        """What comes first, in words."""
        if self.by_cost:
            return "fastest first"
        if self.by is None:
            return "by name, since nothing was scored in all of them"
        note = f" ({self.by.note})" if self.by.note else ""
        return f"best {self.by.title}{note} first"

    @property
    def repeated(self) -> bool:
        """True if some group has several random seeds."""
        return any(len(group.results) > 1 for group in self.groups)

    @property
    def shared(self) -> dict[str, str]:
        """Settings that all groups have in common."""
        return shared_settings(self.groups)

    def own(self, group: Group) -> dict[str, str]:
        """Settings of a group that are not those of all."""
        return {n: s.value for n, s in group.settings.items() if n not in self.shared}

    def label(self, group: Group) -> str:
        """A group in a few words."""
        return described(group, self.names)

    def is_best(self, group: Group, measure: Measure) -> bool:
        """True for the highest mean of a column; an oracle or a twin is never called best."""
        spreads = [other.spread(measure.key) for other in self.groups]
        means = [spread.mean for spread in spreads if spread]
        own = group.spread(measure.key)
        counts = measure.honest and measure.kind != TWIN and len(means) > 1
        return counts and own is not None and own.mean == max(means)

    def columns(self, title: str) -> list[str]:
        """Captions of a gallery."""
        return columns_of(self.galleries[title])


@dataclass(frozen=True)
class Page:
    """Everything on the page.

    Attributes:
        title: Of the page.
        folder: Where it lies.
        created: When.
        sections: One for each set of data.
        loose_ends: Folder and reason of what is not in the tables.
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
        "seeds": random_seeds, "until_network": until_network,
    }  # fmt: skip
    return render_html(TEMPLATE, page, filters)


def details(group: Group, measure: Measure) -> list[str]:
    """The small print of a score: its spread, the oracle's threshold, the share that is scored."""
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
    """Random seeds in words.

    Example:
        >>> random_seeds(Group({}, ()))
        'random seed -'
    """
    seeds = [str(seed) for seed in group.random_seeds]
    return f"random seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds) or '-'}"


def until_network(group: Group) -> float | None:
    """Seconds in all, up to the network or to the masks, without scoring."""
    return group.seconds(stage for stage in group.stages if stage != "evaluate")


def per_image(group: Group) -> float | None:
    """Seconds that maps and masks of one image took."""
    images = max((result.images for result in group.results), default=0)
    seconds = group.seconds(_FOR_AN_IMAGE)
    return seconds / images if seconds is not None and images else None


def text_rows(section: Section) -> tuple[list[str], list[list[str]]]:
    """Titles and cells of the table of scores."""
    kinds = [measure.kind for measure in section.measures]
    titles = [
        f"{m.title}, %" + (f" ({m.note})" if kinds.count(m.kind) > 1 else "")
        for m in section.measures
    ]
    head = [*section.names, *titles, "time in all"]
    rows = []
    for group in section.groups:
        scores = [_score_text(group, measure) for measure in section.measures]
        time = until_network(group)
        words = [group.text(name) for name in section.names]
        rows.append([*words, *scores, duration(time) if time is not None else "-"])
    return head, rows


def short_rows(section: Section) -> tuple[list[str], list[list[str]]]:
    """Titles and cells of the most important scores, narrow enough for a terminal."""
    first: dict[str, Measure] = {}
    for measure in section.measures:  # of several evaluations of a network the first
        first.setdefault(measure.kind, measure)
    shown = {title: first[kind] for kind, title in _SHORT.items() if kind in first}
    rows = []
    for group in section.groups:
        spreads = [group.spread(measure.key) for measure in shown.values()]
        time = until_network(group)
        cells = [section.label(group), *map(_two_lines, spreads)]
        rows.append([*cells, f"{time:.0f}" if time is not None else "-"])
    return ["choice", *shown, "s"], rows


def _two_lines(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    mean = percent(spread.mean)
    return mean if spread.deviation is None else f"{mean}\n±{percent(spread.deviation)}"


def _score_text(group: Group, measure: Measure) -> str:
    spread = group.spread(measure.key)
    if spread is None:
        return "-"
    deviation = f" ± {100 * spread.deviation:.1f}" if spread.deviation is not None else ""
    rest = [line for line in details(group, measure) if "n = " not in line]
    return percent(spread.mean) + deviation + (f" ({rest[0]})" if rest else "")


def as_markdown(page: Page) -> str:
    """Tables of scores and of times in Markdown, and under them how the numbers were made."""
    lines = [f"# {page.title}", ""]
    for section in page.sections:
        head, rows = text_rows(section)
        lines += [f"## {section.title}", "", f"Sorted: {section.order}.", ""]
        lines += [*markdown_table(head, rows, len(section.names)), ""]
        lines += [f"- {measure.title}: {measure.note}" for measure in section.measures
                  if measure.note]  # fmt: skip
        lines += [f"- {remark}" for remark in section.remarks]
        lines += ["", *_markdown_times(section), ""]
    if page.loose_ends:
        lines += ["## Not in the tables", ""]
        lines += [*(f"- {name}: {reason}" for name, reason in page.loose_ends), ""]
    lines += ["## How it was made", "", *(f"- {k}: {v}" for k, v in page.notes.items()), ""]
    return "\n".join(lines)


def _markdown_times(section: Section) -> list[str]:
    head = [*section.names, *(f"{stage}, s" for stage in section.stages), "maps and masks, s/image"]
    rows = []
    for group in section.groups:
        times = [group.seconds([stage]) for stage in section.stages]
        cells = [f"{time:.1f}" if time is not None else "-" for time in times]
        each = per_image(group)
        words = [group.text(name) for name in section.names]
        rows.append([*words, *cells, f"{each:.3f}" if each is not None else "-"])
    return markdown_table(head, rows, len(section.names))


def as_csv(sections: Sequence[Section]) -> str:
    """Every number of the tables in full, one row a group: means, deviations, and of how many."""
    rows = []
    for section in sections:
        for place, group in enumerate(section.groups, start=1):
            row: dict[str, Any] = {"data": section.title, "place": place}
            row |= {name: group.text(name) for name in section.names}
            row["random seeds"] = " ".join(map(str, group.random_seeds))
            rows.append(row | dict(_numbers(section, group)))
    return csv_table(rows)


def _numbers(section: Section, group: Group) -> Iterator[tuple[str, Any]]:
    columns = {measure.key: group.spread(measure.key) for measure in section.measures}
    columns |= {key: group.spread(key) for key in (THRESHOLD, COVERAGE)}
    for key, spread in columns.items():
        if spread is not None:
            yield key, spread.mean
            yield f"{key}/deviation", spread.deviation
            yield f"{key}/n", len(spread.values)
    for stage in section.stages:
        yield f"seconds/{stage}", group.seconds([stage])
    yield "seconds/in all", until_network(group)
    yield "seconds/image", per_image(group)


def runs_csv(sections: Sequence[Section]) -> str:
    """Every single run with all its settings, scores and times in full."""
    rows = [
        _run_row(section, place, group, result)
        for section in sections
        for place, group in enumerate(section.groups, start=1)
        for result in group.results
    ]
    return csv_table(rows)


def _run_row(section: Section, place: int, group: Group, result: Result) -> dict[str, Any]:
    return {
        "data": section.title,
        "place": place,
        "folder": result.place,
        "random_seed": result.random_seed,
        **{name: setting.value for name, setting in group.settings.items()},
        **result.values,
        **{f"seconds/{stage}": seconds for stage, seconds in result.seconds.items()},
        **result.details,
    }
