"""A page as plain values: sections of blocks, as one self-contained HTML file or as Markdown.

The report of a run, a comparison, a benchmark and a review are such pages. Whoever fills one in
reads the files; this module only renders.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pipeline.report.charts import Chart
from pipeline.report.gallery import Gallery
from pipeline.report.pictures import class_colours
from pipeline.report.rendering import markdown, render_html
from pipeline.report.tables import Table, markdown_table

TEMPLATE = "page.html"


@dataclass(frozen=True)
class Headline:
    """A large number at the top; ``note`` says how it was made."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Numbers:
    """Large numbers."""

    headlines: Sequence[Headline]


@dataclass(frozen=True)
class Text:
    """A paragraph; ``tone`` is ``plain``, ``hint`` or ``remark``, which must not be missed."""

    text: str
    tone: str = "hint"


@dataclass(frozen=True)
class Facts:
    """Names and their values."""

    values: Mapping[str, str] | Sequence[tuple[str, str]]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names with values; a name may occur twice."""
        return list(self.values.items() if isinstance(self.values, Mapping) else self.values)


@dataclass(frozen=True)
class Commands:
    """Commands by what they are for, ready to be copied."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class Code:
    """Text of fixed width."""

    text: str


@dataclass(frozen=True)
class Matrix:
    """Which class is taken for which.

    Attributes:
        names: The labels, the background first; those that occur.
        shares: Share of the pixels of each true label (rows) that each label (columns) got.
    """

    names: Sequence[str]
    shares: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Histogram:
    """Number of images in each tenth of a share."""

    title: str
    counts: Sequence[int]


@dataclass(frozen=True)
class Charts:
    """Charts side by side."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Swatch:
    """A class and its colour; None is the colour of void."""

    name: str
    colour: str | None


@dataclass(frozen=True)
class Pictures:
    """A gallery with the colours of its classes. A page has one at most."""

    gallery: Gallery
    legend: Sequence[Swatch]

    @property
    def for_script(self) -> dict[str, Any]:
        """What the script of the gallery reads."""
        colours = {swatch.name: swatch.colour for swatch in self.legend}
        images = [asdict(image) for image in self.gallery.images]
        order = {"order": self.gallery.order, "falling": self.gallery.falling}
        return {"images": images, "colours": colours, **order}


@dataclass(frozen=True)
class Fold:
    """Blocks that unfold."""

    title: str
    blocks: Sequence[Block]
    open: bool = False


Block = (
    Numbers | Text | Facts | Commands | Code | Table | Matrix | Histogram | Charts | Pictures | Fold
)


@dataclass(frozen=True)
class Section:
    """A part of a page; ``short`` names it in the list at the top, if it is there."""

    title: str
    blocks: Sequence[Block]
    short: str = ""


@dataclass(frozen=True)
class Page:
    """A page. Sections without blocks are left out."""

    title: str
    folder: str
    created: str
    sections: Sequence[Section]


def now() -> str:
    """Date and time for the head of a page."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")


def render(page: Page) -> str:
    """The page as HTML; every text in it is escaped."""
    filters: dict[str, Callable[..., Any]] = {"kind": lambda block: type(block).__name__}
    return render_html(TEMPLATE, page, filters)


def as_markdown(page: Page) -> str:
    """The words and tables of a page in Markdown."""
    lines = [f"# {markdown(page.title)}", ""]
    for section in page.sections:
        found = [line for block in section.blocks for line in _lines(block)]
        lines += [f"## {markdown(section.title)}", "", *found] if found else []
    return "\n".join(lines)


def _lines(block: Block) -> Iterable[str]:
    match block:
        case Text():
            return [markdown(block.text), ""]
        case Facts():
            return [*(f"- {markdown(f'{name}: {value}')}" for name, value in block.pairs), ""]
        case Table():
            head = [f"{markdown(block.title)}:", ""] if block.title else []
            notes = [f"- {markdown(f'{c.heading}: {c.note}')}" for c in block.columns if c.note]
            return [*head, *markdown_table(block), "", *notes, *([""] if notes else [])]
        case Fold():
            return [line for inner in block.blocks for line in _lines(inner)]
        case _:
            return []


def data_address(content: bytes, kind: str) -> str:
    """A file as a data URL.

    Example:
        >>> data_address(b"abc", "image/png")
        'data:image/png;base64,YWJj'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def legend(classes: Sequence[str]) -> list[Swatch]:
    """The classes with their colours in label images, then void.

    Example:
        >>> legend(["cat"])
        [Swatch(name='cat', colour='#e69f00'), Swatch(name='void', colour=None)]
    """
    colours = (
        f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in class_colours(len(classes))
    )
    swatches = [Swatch(name, colour) for name, colour in zip(classes, colours, strict=True)]
    return [*swatches, Swatch("void", None)]
