"""A comparison of runs as text, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.report.compare_page import (
    Page,
    Section,
    class_tables,
    details,
    per_image,
    pivot_table,
)
from pipeline.report.comparison import (
    COVERAGE,
    FRACTION,
    ORACLE,
    SEGMENTER,
    THRESHOLD,
    Group,
    Measure,
    Result,
    Spread,
    total_seconds,
)
from pipeline.report.page import duration, percent
from pipeline.report.rendering import csv_table, markdown, markdown_table

_SHORT = {
    "classifier": "AP", "seed": "seed", ORACLE: "oracle", "refined": "refined", "masks": "masks",
    SEGMENTER: "segmenter", FRACTION: "of twin",
}  # fmt: skip


def text_rows(section: Section) -> tuple[list[str], list[list[str]]]:
    """Titles and cells of the table of scores."""
    kinds = [measure.kind for measure in section.measures]
    titles = [
        f"{m.title}, %" + (f" ({m.note})" if kinds.count(m.kind) > 1 else "")
        for m in section.measures
    ]
    title = section.difference_title
    titles += [title] if title else []
    head = [*section.setting_titles, *titles, "total time", "maps and masks, s/image"]
    rows = []
    for group in section.groups:
        scores = [_score_text(group, measure) for measure in section.measures]
        time = total_seconds(group)
        scores += [section.difference_text(group)] if title else []
        each = per_image(group)
        cost = [duration(time) if time is not None else "-"]
        cost += [f"{each:.3f}" if each is not None else "-"]
        rows.append([*section.setting_cells(group), *scores, *cost])
    return head, rows


def short_rows(section: Section) -> tuple[list[str], list[list[str]]]:
    """Titles and cells of the main scores, narrow enough for a terminal."""
    shown = {
        title: section.main_measures[kind]
        for kind, title in _SHORT.items()
        if kind in section.main_measures
    }
    rows = []
    for group in section.groups:
        spreads = [group.spread(measure.key) for measure in shown.values()]
        time = total_seconds(group)
        cells = [section.label(group), *map(_two_lines, spreads)]
        rows.append([*cells, f"{time:.0f}" if time is not None else "-"])
    return ["choice", *shown, "s"], rows


def _two_lines(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    mean = percent(spread.mean)
    return mean if spread.deviation is None else f"{mean}\n±{percent(spread.deviation)}"


def _score_text(group: Group, measure: Measure) -> str:
    rest = [line for line in details(group, measure) if "n = " not in line]
    return _spread_text(group.spread(measure.key)) + (f" ({rest[0]})" if rest else "")


def _spread_text(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    deviation = f" ± {100 * spread.deviation:.1f}" if spread.deviation is not None else ""
    return percent(spread.mean) + deviation


def as_markdown(page: Page) -> str:
    """All tables in Markdown, followed by notes on how they were made."""
    lines = [f"# {markdown(page.title)}", ""]
    for section in page.sections:
        lines += [f"## {markdown(section.title)}", "", *_pivot_lines(section)]
        head, rows = text_rows(section)
        lines += [markdown(section.changed_from), ""] if section.ablation else []
        lines += [f"Sorted: {markdown(section.order)}.", ""]
        lines += [*markdown_table(head, rows, len(section.setting_titles)), ""]
        lines += [f"- {measure.title}: {markdown(measure.note)}" for measure in section.measures
                  if measure.note]  # fmt: skip
        lines += [f"- {markdown(remark)}" for remark in section.remarks]
        lines += ["", *_time_lines(section), "", *_class_lines(section)]
    if page.loose_ends:
        lines += ["## Not in the tables", ""]
        lines += [*(f"- {markdown(f'{name}: {why}')}" for name, why in page.loose_ends), ""]
    notes = [f"- {markdown(f'{name}: {value}')}" for name, value in page.notes.items()]
    lines += ["## How it was made", "", *notes, ""]
    return "\n".join(lines)


def _pivot_lines(section: Section) -> list[str]:
    table = pivot_table(section)
    if table is None:
        return []
    oracle = [measure for measure in section.measures if measure.key == ORACLE]
    head = [*table.names, "seed mIoU, %", *(f"{m.title}, %" for m in oracle)]
    head += [f"{name}, %" for name in table.refinements]
    rows = [
        [
            *row.words,
            _spread_text(row.seed.spread("seed")),
            *(_score_text(row.seed, measure) for measure in oracle),
            *(_spread_text(group.spread("refined") if group else None) for group in row.refined),
        ]
        for row in table.rows
    ]
    return ["By refinement:", "", *markdown_table(head, rows, len(table.names)), ""]


def _time_lines(section: Section) -> list[str]:
    head = [*section.setting_titles, *(f"{stage}, s" for stage in section.stages)]
    rows = []
    for group in section.groups:
        times = [group.seconds([stage]) for stage in section.stages]
        cells = [f"{time:.1f}" if time is not None else "-" for time in times]
        rows.append([*section.setting_cells(group), *cells])
    return markdown_table(head, rows, len(section.setting_titles))


def _class_lines(section: Section) -> list[str]:
    lines: list[str] = []
    for table in class_tables(section):
        rows = [
            [section.caption(alike)]
            + [_spread_text(alike[0].class_spread(table.measure.key, n)) for n in table.classes]
            for alike in table.rows
        ]
        lines += [f"By class, %: {markdown(table.title)}", ""]
        lines += [*markdown_table(["no.", *table.classes], rows), ""]
    return lines


def as_csv(sections: Sequence[Section]) -> str:
    """All values of the tables at full precision, one row per group: mean, deviation and n."""
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
    difference = section.difference(group)
    if difference is not None:
        yield "difference", difference.mean
        yield "difference/of", section.primary_measure.key if section.primary_measure else ""
        yield "difference/deviation", difference.deviation
        yield "difference/n", len(difference.values)
    for stage in section.stages:
        yield f"seconds/{stage}", group.seconds([stage])
    yield "seconds/total", total_seconds(group)
    yield "seconds/image", per_image(group)


def classes_csv(sections: Sequence[Section]) -> str:
    """One row per group, score and class: mean, deviation and n."""
    rows = [
        {
            "data": section.title, "place": section.groups.index(group) + 1,
            **{name: group.text(name) for name in section.names},
            "score": table.measure.key, "class": name, "mean": spread.mean,
            "deviation": spread.deviation, "n": len(spread.values),
        }
        for section in sections
        for table in class_tables(section)
        for alike in table.rows
        for group in alike
        for name in table.classes
        if (spread := group.class_spread(table.measure.key, name)) is not None
    ]  # fmt: skip
    return csv_table(rows)


def runs_csv(sections: Sequence[Section]) -> str:
    """One row per run, with all settings, scores and times at full precision."""
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
        "folder": result.folder,
        "random_seed": result.random_seed,
        **{name: setting.value for name, setting in group.settings.items()},
        **result.values,
        **{f"seconds/{stage}": seconds for stage, seconds in result.seconds.items()},
        **{f"{key}/{n}": v for key, scores in result.classes.items() for n, v in scores.items()},
    }
