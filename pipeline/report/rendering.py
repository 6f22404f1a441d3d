"""Helpers of the pages: templates, tables in Markdown and CSV, columns of pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


@dataclass(frozen=True)
class Pictures:
    """The pictures of one image.

    Attributes:
        id: Id of the image.
        label: Classes that it shows.
        sources: Data URLs by caption.
    """

    id: str
    label: str
    sources: Mapping[str, str]


def columns_of(rows: Sequence[Pictures]) -> list[str]:
    """The distinct captions of all pictures.

    Example:
        >>> columns_of([Pictures("1", "cat", {"image": "a"}), Pictures("2", "dog", {"map": "b"})])
        ['image', 'map']
    """
    return list(dict.fromkeys(caption for row in rows for caption in row.sources))


def render_html(
    template: str,
    page: Any,
    filters: Mapping[str, Callable[..., Any]],
    tests: Mapping[str, Callable[..., bool]] | None = None,
) -> str:
    """A page as HTML; all text is escaped, and an unknown name in the template is an error."""
    environment = Environment(
        loader=PackageLoader("pipeline.report", ""),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    environment.tests.update(tests or {})
    return environment.get_template(template).render(page=page)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> list[str]:
    """The lines of a table; the first ``words`` columns are text, the others numbers.

    Example:
        >>> markdown_table(["method", "IoU"], [["CAM", "0.5"]])
        ['| method | IoU |', '| --- | ---: |', '| CAM | 0.5 |']
    """
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return [_markdown_row(head), _markdown_row(rule), *map(_markdown_row, rows)]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; missing values are empty.

    Example:
        >>> csv_table([{"a": 1}, {"b": 2}]).split()
        ['a,b', '1,', ',2']
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
