"""A comparison of runs as blocks of a page, and as rows of CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.report.choices import described
from pipeline.report.comparison import (
    COVERAGE,
    ORACLE,
    THRESHOLD,
    Comparison,
    Measure,
    Spread,
)
from pipeline.report.page import Block, Facts, Fold, Text
from pipeline.report.tables import Cell, Column, Content, Table, percent

_SHORT = {
    "classifier": "AP", "seed": "seed", ORACLE: "oracle", "refined": "refined", "masks": "masks",
    "segmenter": "segmenter", "fraction": "of twin",
}  # fmt: skip
_ORACLE = (
    "Only the oracle was chosen with the ground truth; it shows what the best threshold would have "
    "given, and is not a result."
)
_TIMES = (
    "A stage that several rows share counts in full in each of them. If masks were made in "
    "parallel with the maps, only their additional time counts. The total leaves out scoring "
    "(evaluate) and the twin."
)


@dataclass(frozen=True)
class ComparedData:
    """A comparison on one set of data.

    Attributes:
        title: Name of the data.
        content: The runs, best first.
        remarks: What a reader must know before comparing.
        chosen: Classes in the mIoU, beside background; empty for all that occur in masks.
    """

    title: str
    content: Comparison
    remarks: Sequence[str] = ()
    chosen: Sequence[str] = ()

    @property
    def blocks(self) -> list[Block]:
        """All that a page says of it but pictures."""
        short, by_class = self._by_refinement(), list(self._class_tables())
        return [
            *(Text(remark, "remark") for remark in self.remarks),
            *([short] if short else []),
            *([Text(self.changed_from, "remark")] if self.content.ablation else []),
            self._scores(),
            Fold("Time of each stage", [self._times()]),
            *([Fold("Scores by class", by_class)] if by_class else []),
            Fold("Settings and folders", list(self._settings())),
        ]

    @property
    def changed_from(self) -> str:
        """A sentence that describes the reference (ablations only)."""
        ablation = self.content.ablation
        found = f"The reference is {ablation.choice}. " if ablation else ""
        return f"{found}Every other row is the reference with one change." if found else ""

    @property
    def caption(self) -> str:
        """What the terminal's table shows, and by what it is sorted."""
        content = self.content
        how = f"%; mean and deviation over random seeds; sorted: {content.order}"
        segmenter = content.main_measures.get("segmenter")
        if segmenter and segmenter.note not in content.order:  # of several evaluations, which
            how += f"\nsegmenter: {segmenter.note}"
        return f"{self.changed_from}\n{how}" if content.ablation else how

    @property
    def _setting_columns(self) -> list[Column]:
        names = ["changed"] if self.content.ablation else self.content.names
        return [Column(name, "text") for name in names]

    def _setting_cells(self, row: int) -> list[str | Cell]:
        if self.content.ablation:
            return [self.content.label(row)]
        return [self.content.groups[row].text(name) for name in self.content.names]

    def _images(self, measure: Measure) -> set[int]:
        """On how many images a score was made."""
        runs = (result for group in self.content.groups for result in group.results)
        return {n for run in runs if (n := run.merged("images").get(measure.key))}

    def _column(self, measure: Measure) -> Column:
        images = self._images(measure)
        count = [f"{n} images" for n in images] if len(images) == 1 else []
        note = "; ".join([*([measure.note] if measure.note else []), *count])
        oracle = not measure.honest
        return Column(measure.title, "share", note, better=int(measure.decides), oracle=oracle)

    def _cell(self, row: int, measure: Measure) -> Cell:
        spread = self.content.spread(row, measure.key)
        if spread is None:
            return Cell(None)
        return Cell(spread.mean, lines=list(self._small(row, measure, spread)))

    def _small(self, row: int, measure: Measure, spread: Spread) -> Iterator[str]:
        """The small print of a score: its deviation, its images, the oracle's threshold."""
        group = self.content.groups[row]
        if spread.deviation is not None:
            yield f"± {percent(spread.deviation)}"
        if spread.runs < len(group.results):
            yield f"{spread.runs} of {len(group.results)} random seeds"
        if len(self._images(measure)) > 1:
            counts = (run.merged("images").get(measure.key) for run in group.results)
            yield f"{' or '.join(dict.fromkeys(str(n) for n in counts if n))} images"
        if measure.key == ORACLE and (at := self.content.spread(row, THRESHOLD)):
            yield f"at {at.mean:.2f}"
        if measure.key == "masks" and (share := self.content.spread(row, COVERAGE)):
            yield f"{percent(share.mean)} % of pixels"

    def _scores(self) -> Table:
        content, by = self.content, self.content.primary
        repeated = any(len(group.results) > 1 for group in content.groups)
        columns = [Column("rank", "number"), *self._setting_columns]
        columns += [Column("random seeds", "text")] if repeated else []
        columns += map(self._column, content.measures)
        if content.ablation and by:
            note = "points, to the reference, paired by random seed"
            columns.append(Column(f"difference, {by.full_title}", "number", note))
        columns += [Column("total time", "seconds", "without scoring", better=-1),
                    Column("s per image", "number", "maps and masks", better=-1)]  # fmt: skip
        rows = [self._row(row, repeated=repeated) for row in range(len(content.groups))]
        hint = f"Sorted: {content.order}. Equal numbers share a rank. "
        hint += "± is the standard deviation over random seeds. " if repeated else ""
        hint += _ORACLE if any(column.oracle for column in columns) else ""
        return Table("", columns, rows, hint=hint.strip(), sortable=True)

    def _row(self, row: int, *, repeated: bool) -> list[Any]:
        content, group = self.content, self.content.groups[row]
        cells: list[Any] = [content.ranks[row], *self._setting_cells(row)]
        cells += [", ".join(map(str, group.random_seeds))] if repeated else []
        cells += [self._cell(row, measure) for measure in content.measures]
        if content.ablation and content.primary:
            less = content.difference(row)
            cells.append(Cell(less.mean, signed(less, len(group.results))) if less else Cell(""))
        return [*cells, *(float(content.seconds.loc[row, key]) for key in ("total", "image"))]

    def _by_refinement(self) -> Table | None:
        """A table with a column for each refinement, or None.

        It needs groups that differ in the refinement and in something else, one group per cell,
        and scores. A refinement that does not change any seed has no column.
        """
        content = self.content
        inner = [n for n in content.names if n.partition(".")[0] == "refine"]
        outer = [n for n in content.names if n not in inner]
        if content.ablation or not (inner and outer) or content.spread(0, "refined") is None:
            return None
        cells = pd.DataFrame(
            [{**{n: g.text(n) for n in outer}, "_": described(g.settings, inner), "row": k}
             for k, g in enumerate(content.groups)
             if content.spread(k, "refined") != content.spread(k, "seed")]
        )  # fmt: skip
        scored = content.statistics["refined", "count"].all()
        if not scored or cells.empty or cells.duplicated([*outer, "_"]).any():
            return None
        wide = cells.pivot(index=outer, columns="_", values="row")
        measures = {m.key: m for m in content.measures}
        columns = [*(Column(n, "text") for n in outer), self._column(measures["seed"])]
        columns += [Column(name, better=1) for name in wide]
        best = wide.min(axis=1).sort_values().index  # rows are in the order of the long table
        rows = [self._wide_row(key, wide.loc[key], measures) for key in best]
        return (
            Table("Masks by refinement, mIoU", columns, rows, sortable=True)
            if len(rows) > 1
            else None
        )

    def _wide_row(self, key: Any, places: pd.Series, measures: dict[str, Measure]) -> list[Any]:
        words = list(key) if isinstance(key, tuple) else [key]
        known = [int(place) for place in places.dropna()]
        cells = [
            Cell(None) if pd.isna(p) else self._cell(int(p), measures["refined"]) for p in places
        ]
        return [*words, self._cell(known[0], measures["seed"]), *cells]

    def _times(self) -> Table:
        frame = self.content.seconds.drop(columns="image")
        rows: list[list[Content]] = [
            [self.content.label(k), *map(float, frame.loc[k])] for k in frame.index
        ]
        columns = [Column("run", "text"), *(Column(name, "seconds") for name in frame)]
        return Table("", columns, rows, hint=_TIMES, sortable=True)

    def _class_tables(self) -> Iterator[Table]:
        """One table for each score that is known for single classes."""
        for measure in self.content.measures:
            found = self.classes(measure)
            names = list(dict.fromkeys(found.index.get_level_values("class")))
            known = list(dict.fromkeys(found.index.get_level_values("group")))
            rows: list[list[Content]] = [
                [self.content.label(row), *(_class_cell(found, row, name) for name in names)]
                for row in known
            ]
            columns = [Column("run", "text"), *(Column(name, better=1) for name in names)]
            title = measure.full_title.replace("mIoU", "IoU")
            if rows:
                yield Table(title, columns, rows, sortable=True)

    def classes(self, measure: Measure) -> pd.DataFrame:
        """The numbers of single classes, of the chosen ones if some were chosen."""
        found = self.content.classes
        found = found[found.index.get_level_values("score") == measure.key]
        if self.chosen:
            wanted = found.index.get_level_values("class").isin(["background", *self.chosen])
            found = found[wanted]
        return found.droplevel("score")

    def _settings(self) -> Iterator[Block]:
        groups = self.content.groups
        first = groups[0].settings
        shared = {name: setting.value for name, setting in first.items()
                  if all(g.settings.get(name) == setting for g in groups)}  # fmt: skip
        yield Fold(f"Shared by all rows ({len(shared)})", [Facts(shared)])
        for row, group in enumerate(groups):
            own = {n: s.value for n, s in group.settings.items() if n not in shared}
            folders = {
                f"{'masks' if part is run.masks else 'segmenter'} of seed {run.random_seed}": (
                    part.folder
                )
                for run in group.results
                for part in run.parts
            }
            yield Fold(self.content.label(row), [Facts({**own, **folders})])

    def short_rows(self) -> tuple[list[str], list[list[str]]]:
        """Titles and cells of the main scores, narrow enough for a terminal."""
        content = self.content
        shown = {
            t: content.main_measures[k] for k, t in _SHORT.items() if k in content.main_measures
        }
        rows = []
        for row, rank in enumerate(content.ranks):
            spreads = [content.spread(row, measure.key) for measure in shown.values()]
            total = content.seconds.loc[row, "total"]
            words = [content.label(row), str(rank or "-"), *map(_two_lines, spreads)]
            rows.append([*words, "-" if pd.isna(total) else f"{total:.0f}"])
        return ["choice", "rank", *shown, "s"], rows

    def csv_rows(self) -> Iterator[dict[str, Any]]:
        """A row for each group: settings, and mean, deviation, runs and images of each score."""
        for row, group in enumerate(self.content.groups):
            seconds = self.content.seconds.loc[row].dropna()
            yield {
                **self._place(row), "random seeds": " ".join(map(str, group.random_seeds)),
                **self._numbers(row), **{f"seconds/{k}": v for k, v in seconds.items()},
            }  # fmt: skip

    def _place(self, row: int) -> dict[str, Any]:
        names, group = self.content.names, self.content.groups[row]
        place = {"data": self.title, "row": row + 1, "rank": self.content.ranks[row]}
        return {**place, **{name: group.text(name) for name in names}}

    def _numbers(self, row: int) -> dict[str, Any]:
        content = self.content
        found: dict[str, Any] = {}
        runs = content.groups[row].results
        images = {key: n for run in runs for key, n in run.merged("images").items()}
        for key in (*(measure.key for measure in content.measures), THRESHOLD, COVERAGE):
            if spread := content.spread(row, key):
                found |= {key: spread.mean, **_rest(key, spread)}
                found |= {f"{key}/images": images[key]} if key in images else {}
        if (less := content.difference(row)) and content.primary:
            found |= {"difference": less.mean, "difference/of": content.primary.key}
            found |= _rest("difference", less)
        return found

    def class_rows(self) -> Iterator[dict[str, Any]]:
        """A row for each group, score and class."""
        for measure in self.content.measures:
            for (row, name), numbers in self.classes(measure).iterrows():
                yield {
                    **self._place(row), "score": measure.key, "class": name,
                    "mean": numbers["mean"], "deviation": _known(numbers["std"]),
                    "runs": int(numbers["count"]),
                }  # fmt: skip

    def run_rows(self) -> Iterator[dict[str, Any]]:
        """A row for each run, with all settings, scores and times."""
        for row, group in enumerate(self.content.groups):
            for result in group.results:
                classes = {
                    f"{key}/{n}": v for key, s in result.classes.items() for n, v in s.items()
                }
                yield {
                    **self._place(row), "folder": result.masks.folder,
                    "random_seed": result.random_seed,
                    **{name: setting.value for name, setting in group.settings.items()},
                    **result.merged("values"),
                    **{f"seconds/{k}": s for k, s in result.merged("seconds").items()}, **classes,
                }  # fmt: skip


def _class_cell(found: pd.DataFrame, row: int, name: str) -> Cell:
    if (row, name) not in found.index:
        return Cell(None)
    numbers = found.loc[(row, name)]
    deviation = numbers["std"]
    return Cell(
        float(numbers["mean"]), lines=[] if pd.isna(deviation) else [f"± {percent(deviation)}"]
    )


def _rest(key: str, spread: Spread) -> dict[str, Any]:
    return {f"{key}/deviation": spread.deviation, f"{key}/runs": spread.runs}


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _two_lines(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    mean = percent(spread.mean)
    return mean if spread.deviation is None else f"{mean}\n±{percent(spread.deviation)}"


def signed(spread: Spread, runs: int) -> str:
    """A difference in points with its deviation, and its number of pairs if that is not ``runs``.

    Example:
        >>> signed(Spread(-0.11, 0.014, 2), 2), signed(Spread(0.004, None, 1), 3)
        ('-11.0 ± 1.4', '+0.4, 1 random seed')
    """
    deviation = f" ± {percent(spread.deviation)}" if spread.deviation is not None else ""
    seeds = f", {spread.runs} random seed{'s' if spread.runs > 1 else ''}"
    return f"{100 * spread.mean:+.1f}{deviation}" + (seeds if spread.runs != runs else "")
