"""Helpers of the pages: templates, and text for Markdown and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

# Before a formula, at the beginning of text or of what a spreadsheet may take for another cell;
# some programs skip spaces, others read the wide forms of East Asian keyboards.
_FORMULA = re.compile(r"(?:^|[;\t\n])(?=\s*[=+\-@\t\n\uff1d\uff0b\uff0d\uff20])")
_NEGATIVE = re.compile(r"-\d+(\.\d+)?(e[-+]?\d+)?")
# What Markdown reads as markup anywhere, and underscores but for those inside a word.
_MARKUP = re.compile(r"[\\|*`\[\]~]|(?<!\w)_|_(?!\w)")


def render_html(
    template: str,
    page: Any,
    filters: Mapping[str, Callable[..., Any]],
) -> str:
    """A page as HTML; all text is escaped, and an unknown name in the template is an error."""
    environment = Environment(
        loader=PackageLoader("pipeline.report", ""),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {}  # in the order given, not sorted
    environment.filters.update(filters)
    return environment.get_template(template).render(page=page)


def markdown(text: str) -> str:
    r"""Text that Markdown shows as it is, in one line: no HTML, link, emphasis or cell of a table.

    Example:
        >>> print(markdown("<b> | [x](y) *z* a_b"))
        &lt;b> \| \[x\](y) \*z\* a_b
    """
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(r"\\\g<0>", line)


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; missing values are empty, and no text is a formula: see ``csv_cell``.

    Example:
        >>> csv_table([{"a": 1}, {"b": "=2"}]).split()
        ['a,b', '1,', ",'=2"]
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(csv_cell, columns))
    writer.writerows([csv_cell(row.get(name)) for name in columns] for row in rows)
    return stream.getvalue()


def csv_cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula; numbers stay numbers.

    Text gets an apostrophe before ``=``, ``+``, ``-``, ``@`` at its beginning, or after a character
    at which a spreadsheet may begin another cell. A negative number as text stays as it is. A
    carriage return becomes a line feed, since Python's writer does not quote it.

    Example:
        >>> [csv_cell(value) for value in ("=1+1", "cat;@x", "a-b", "-0.5", -0.5, None)]
        ["'=1+1", "cat;'@x", 'a-b', '-0.5', -0.5, None]
    """
    if not isinstance(value, str) or _NEGATIVE.fullmatch(value):
        return value
    return _FORMULA.sub(r"\g<0>'", value.replace("\r\n", "\n").replace("\r", "\n"))
