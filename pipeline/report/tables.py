"""The table of every page: columns, cells, and the same as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from pipeline.report.rendering import markdown

Kind = Literal["text", "share", "seconds", "number"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: What stands at its top.
        kind: How numbers are shown: shares in [0, 1] as percent with a bar, seconds, or plain.
        note: Small print below the title.
        better: 1 if the highest number is the best, -1 if the lowest is; 0: none is marked.
        oracle: Whether its numbers were chosen with ground truth.
    """

    title: str
    kind: Kind = "share"
    note: str = ""
    better: int = 0
    oracle: bool = False

    @property
    def heading(self) -> str:
        """The title, with the unit of shares."""
        return f"{self.title}, %" if self.kind == "share" and self.title else self.title


@dataclass(frozen=True)
class Cell:
    """A cell with more than a value.

    Attributes:
        value: A number or text, by which rows are sorted; None is shown as a dash.
        text: What is shown in place of the value.
        lines: Small print: a deviation, a number of images.
        more: Text that unfolds.
        tone: ``good``, ``bad``, ``oracle`` or ``code``.
        best: Whether it is the best of its column.
        bar: Length of its bar in [0, 1]; None for no bar.
    """

    value: str | float | None
    text: str = ""
    lines: Sequence[str] = ()
    more: str = ""
    tone: str = ""
    best: bool = False
    bar: float | None = None


Content = str | float | None | Cell


@dataclass(frozen=True)
class Table:
    """A table. Plain cells are text, numbers of their column's kind, or None for a dash.

    Attributes:
        title: The title.
        columns: One for each cell of a row.
        rows: The rows.
        totals: Rows that stay apart and are never the best: means, references.
        hint: A sentence below the table.
        sortable: Whether a click on a title sorts the rows.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Content]]
    totals: Sequence[Sequence[Content]] = ()
    hint: str = ""
    sortable: bool = False

    @cached_property
    def cells(self) -> list[list[Cell]]:
        """The rows, ready to be shown."""
        return [self._row(row, mark=True) for row in self.rows]

    @cached_property
    def total_cells(self) -> list[list[Cell]]:
        """The totals, ready to be shown."""
        return [self._row(row, mark=False) for row in self.totals]

    def _row(self, row: Sequence[Content], *, mark: bool) -> list[Cell]:
        pairs = zip(row, self.columns, self._best, strict=True)
        return [_shown(content, column, best if mark else None) for content, column, best in pairs]

    @cached_property
    def _best(self) -> list[float | None]:
        """The best number of each column; None where all are equal or none is marked."""
        return [self._best_of(index, column) for index, column in enumerate(self.columns)]

    def _best_of(self, index: int, column: Column) -> float | None:
        values = (_value(row[index]) for row in self.rows)
        known = [float(v) for v in values if v is not None and is_number(v)]
        if not column.better or len(set(known)) < 2:
            return None
        return max(known, key=lambda value: column.better * value)


def _value(content: Content) -> str | float | None:
    return content.value if isinstance(content, Cell) else content


def _shown(content: Content, column: Column, best: float | None) -> Cell:
    cell = content if isinstance(content, Cell) else Cell(content)
    number = float(cell.value) if is_number(cell.value) else None  # type: ignore[arg-type]
    if number is None and not isinstance(cell.value, str):
        return replace(cell, value=None, text=cell.text or "-")
    text, tone = cell.text or number_text(cell.value, column.kind), cell.tone
    bar = number if column.kind == "share" and cell.bar is None else cell.bar
    tone = tone or ("oracle" if column.oracle else "")
    marked = best is not None and text == number_text(best, column.kind)
    return replace(cell, text=text, tone=tone, best=marked, bar=bar)


def number_text(value: str | float | None, kind: Kind) -> str:
    """A value as text, in the unit of its column.

    Example:
        >>> [number_text(0.5, kind) for kind in ("share", "seconds", "number")]
        ['50.0', '0.5 s', '0.5']
    """
    if isinstance(value, str) or value is None:
        return value or ""
    if kind == "share":
        return percent(value)
    if kind == "seconds":
        return duration(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def markdown_table(table: Table) -> list[str]:
    """The lines of a table, totals last; columns of text stand on the left.

    Example:
        >>> columns = [Column("method", "text"), Column("IoU")]
        >>> markdown_table(Table("", columns, [["CAM", Cell(0.5, lines=["± 1.0"])]]))
        ['| method | IoU, % |', '| --- | ---: |', '| CAM | 50.0 ± 1.0 |']
    """
    rule = ["---" if column.kind == "text" else "---:" for column in table.columns]
    rows = [[_as_text(cell) for cell in row] for row in (*table.cells, *table.total_cells)]
    head = [column.heading for column in table.columns]
    return [_line(map(markdown, head)), _line(rule), *(_line(map(markdown, row)) for row in rows)]


def _as_text(cell: Cell) -> str:
    small = (line if line.startswith("±") else f"({line})" for line in cell.lines)
    return " ".join([cell.text, *small])


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def percent(share: float | None) -> str:
    """A share in percent with one decimal; a dash for None and NaN.

    Example:
        >>> percent(0.6321), percent(None), percent(float("nan"))
        ('63.2', '-', '-')
    """
    return f"{100 * share:.1f}" if share is not None and is_number(share) else "-"


def duration(seconds: float) -> str:
    """A time in seconds as short text.

    Example:
        >>> duration(4.2), duration(192), duration(7500)
        ('4.2 s', '3 min 12 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; undefined scores are None or NaN."""
    return isinstance(value, int | float) and math.isfinite(value)
