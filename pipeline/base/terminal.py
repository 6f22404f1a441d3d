"""Messages, progress with the time left, and a summary at the end that fits 80 columns.

What is said is also logged, to the logger `pipeline`; `run.log` keeps it with the time.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap
from typing import Any

from rich.box import SIMPLE
from rich.console import Console, JustifyMethod, OverflowMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn
from rich.table import Column, Table
from rich.text import Text

from pipeline.base.ranks import is_first

LOG = logging.getLogger("pipeline")
LOG.addHandler(logging.NullHandler())  # without any, Python would print errors a second time
_COLUMNS = 80  # the summary has this width in every terminal
_EVERY = 30.0  # seconds between two lines about progress where there is no terminal
_LONG = 600.0  # seconds over which a rate is estimated; a step may take more than one
# Control characters but tab and line feed, and those that reverse the direction of text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Headline(str):
    """A value that stands at the top of the summary."""


class ToPaste(str):
    """A command, or what one looks at: in the summary a line of its own, at the end."""


Value = str | Path
"""A value of the summary. Paths come after the numbers, relative to the folder of the run."""
Lines = Sequence[tuple[str, Value]]


@dataclass(frozen=True)
class Place:
    """Where in its job a command is.

    Attributes:
        number: Number of the stage, counted from 1.
        of: How many stages there are.
        later: Estimated seconds of the stages after this one.
    """

    number: int
    of: int
    later: float


@dataclass
class Terminal:
    """Standard error, with or without progress. Text is printed as it is, never as markup.

    Of several processes only the first prints.

    Attributes:
        bars: Whether progress is shown: a bar, or where there is no terminal a line now and then.
        console: Where everything is printed.
        lines: Names and values of the summary.
        place: Where in its job the command is, for the time left; None for a job of one part.
    """

    bars: bool = True
    console: Console = field(default_factory=lambda: Console(stderr=True, quiet=not is_first()))
    lines: list[tuple[str, Value]] = field(default_factory=list)
    place: Place | None = None

    def note(self, text: str, about: str = "", style: str = "bold") -> None:
        """Print a message now; ``about`` stands before it in a style of rich."""
        LOG.info(f"{about}: {text}" if about else text)
        self.show(text, about, style)

    def warn(self, text: str) -> None:
        """Print what may be a mistake, now; words in brackets are no markup."""
        LOG.warning(text)
        self.show(text, "Note", "yellow")

    def fail(self, error: Exception) -> None:
        """Print what went wrong, in words."""
        LOG.error(f"{type(error).__name__}: {error}")
        self.show(str(error), type(error).__name__, "bold red")

    def show(self, text: str, about: str = "", style: str = "") -> None:
        """Print a message that is not logged."""
        head = Text.assemble((printable(about), style), ": ") if about else Text()
        self.console.print(head + plain(text), soft_wrap=True)  # a broken path cannot be copied

    def say(self, name: str, value: Value) -> None:
        """Add a line to the summary at the end."""
        self.lines.append((name, value))

    def table(
        self,
        title: str,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        caption: str = "",
    ) -> None:
        """Print a table now; its first column is text, the others are numbers."""
        table = Table(title=plain(title), caption=plain(caption), box=SIMPLE, padding=0)
        for k, name in enumerate(header):
            overflow: OverflowMethod = "ellipsis" if k else "fold"
            justify: JustifyMethod = "right" if k else "left"
            table.add_column(plain(name), justify=justify, no_wrap=k > 0, overflow=overflow)
        for row in rows:
            table.add_row(*map(plain, row))
        lines = [" | ".join(cells) for cells in (header, *rows)]
        for line in [*lines, caption] if caption else lines:
            LOG.info("%s: %s", title, line.replace("\n", " "))
        self.console.print(table)

    def summarise(self, folder: Path) -> None:
        """Print the summary: headlines, other numbers, files, and what to do next.

        Args:
            folder: Paths below it are shown without it.
        """
        for name, value in self.lines:
            LOG.info("%s: %s", name, value)
        kinds = {kind: _of_kind(self.lines, kind) for kind in (Headline, str, Path, ToPaste)}
        self._numbers(kinds[Headline], kinds[str])
        if kinds[Path]:
            self.show(str(folder), "Files in", "bold")
        width = max((len(name) for name, _ in kinds[Path]), default=0)
        for name, path in kinds[Path]:
            shown = Path(path).relative_to(folder) if Path(path).is_relative_to(folder) else path
            self.show(f"  {name:<{width}}  {shown}")
        for name, words in kinds[ToPaste]:
            self.show(str(words), name, "green")

    def _numbers(self, first: Lines, others: Lines) -> None:
        """Print lines in two columns; the first in bold."""
        lines = [(printable(name), printable(str(value))) for name, value in (*first, *others)]
        width = min(max((len(name) for name, _ in lines), default=0), _COLUMNS // 2)
        for k, (name, value) in enumerate(lines):
            names, values = wrap(name, width), wrap(value, _COLUMNS - width - 4)
            for left, right in zip_longest(names, values, fillvalue=""):
                text = f"  {left:<{width}}  {right}".rstrip()
                self.console.print(Text(text, "bold" if k < len(first) else ""), soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Step]:
        """Show how far something is, its rate and the time left, of the job too.

        Yields a function of the number done, the total, and perhaps other words for ``what``.
        """
        columns = (
            _text("{task.description}"),
            BarColumn(None, table_column=Column(ratio=1)),  # takes what the words leave
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            _text("{task.fields[pace]}"),
        )
        live = self.bars and self.console.is_terminal
        options: dict[str, Any] = {"console": self.console, "disable": not live, "expand": True}
        with Progress(*columns, speed_estimate_period=_LONG, **options) as bar:
            task = bar.add_task(self.described(what), total=total or None, pace="")
            told = time.monotonic()

            def step(done: int, of: int, words: str = "") -> None:
                nonlocal told
                text = self.described(words or what)
                bar.update(task, completed=done, total=of, description=text)
                pace = self._pace(bar.tasks[0])
                bar.update(task, pace=pace)
                if self.bars and not live and time.monotonic() - told >= _EVERY:
                    told = time.monotonic()
                    self.show(f"{text}: {done} of {of}{pace and f', {pace}'}")

            yield step

    def described(self, what: str) -> str:
        """Words with the number of the stage before them, if the job has several."""
        where = f"[{self.place.number}/{self.place.of}] " if self.place else ""
        return where + printable(what)

    def _pace(self, task: Task) -> str:
        """The rate, and the time left of this part and of the job."""
        speed, left = task.speed, task.time_remaining
        if not speed or left is None:
            return ""
        later = self.place.later if self.place else 0.0
        job = f", job {_clock(left + later)}" if later else ""
        rate = (
            f"{speed:.{0 if speed >= 100 else 1}f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
        )
        return f"{rate}, {_clock(left)} left{job}"


Step = Callable[..., None]
"""Called with the number done, the total, and perhaps other words for what is done."""


def _text(form: str) -> TextColumn:
    """A column of words that stays on one line."""
    return TextColumn(form, markup=False, table_column=Column(no_wrap=True))


def no_step(_done: int, _of: int, _words: str = "") -> None:
    """Shows nothing."""


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> _clock(3725.2)
        '1:02:05'
    """
    return str(timedelta(seconds=round(seconds)))


def _of_kind(lines: Lines, kind: type) -> Lines:
    """The lines whose value is exactly of this kind; a path counts as `Path` on every system."""
    return [
        (name, value)
        for name, value in lines
        if (isinstance(value, Path) if kind is Path else type(value) is kind)
    ]


def print_error(error: Exception) -> None:
    """Print what went wrong, in words, on standard error."""
    Terminal(console=Console(stderr=True)).fail(error)


def printable(text: str) -> str:
    r"""Text as a terminal may get it: a control character is shown as its code.

    Names come from data sets; as they are, they could move the cursor or hide what was printed.

    Example:
        >>> print(printable("[red] cat" + chr(27) + "[2J"))
        [red] cat\x1b[2J
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def plain(text: str) -> Text:
    """Text for a table of rich: nothing in it is markup or the name of an emoji."""
    return Text(printable(text))


def number(value: float | None) -> str:
    """A score with three decimals, or "undefined" for None.

    Example:
        >>> number(0.5), number(None)
        ('0.500', 'undefined')
    """
    return "undefined" if value is None else f"{value:.3f}"
