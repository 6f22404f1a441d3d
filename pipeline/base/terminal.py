"""Messages, progress bars with the remaining time, and a summary at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pipeline.base.ranks import is_first

# Control characters but tab and line feed, and those that reverse the direction of text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass
class Terminal:
    """Standard error, with or without progress bars. Text is printed as it is, never as markup.

    Of several processes only the first prints.

    Attributes:
        bars: Whether progress bars are drawn.
        console: Where everything is printed.
        lines: Names and values of the summary.
    """

    bars: bool = True
    console: Console = field(default_factory=lambda: Console(stderr=True, quiet=not is_first()))
    lines: list[tuple[str, str]] = field(default_factory=list)

    def note(self, text: str, about: str = "", style: str = "bold") -> None:
        """Print a message now; ``about`` stands before it in a style of rich."""
        head = Text.assemble((printable(about), style), ": ") if about else Text()
        self.console.print(head + plain(text))

    def say(self, name: str, value: str) -> None:
        """Add a line to the summary at the end."""
        self.lines.append((name, value))

    def warn(self, text: str) -> None:
        """Print what may be a mistake, now; words in brackets are no markup."""
        self.note(text, "Note", "yellow")

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table now; its first column is text, the others are numbers."""
        table = Table(title=plain(title))
        for k, name in enumerate(header):
            table.add_column(plain(name), justify="right" if k else "left")
        for row in rows:
            table.add_row(*map(plain, row))
        self.console.print(table)

    def summarise(self, title: str) -> None:
        """Print the summary."""
        table = Table(title=plain(title), show_header=False)
        table.add_column()
        table.add_column(overflow="fold")  # a truncated path could not be copied
        for name, value in self.lines:
            table.add_row(plain(name), plain(value))
        self.console.print(table)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """A progress bar with a rate; yields a function of the number done and the total."""
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self.console, disable=not self.bars) as bar:
            task = bar.add_task(printable(what), total=total or None, rate="")

            def step(done: int, of: int) -> None:
                speed = bar.tasks[0].speed
                rate = f"{speed:.1f}/s" if speed else ""
                bar.update(task, completed=done, total=of, rate=rate)

            yield step


def print_error(error: Exception) -> None:
    """Print what went wrong, in words, on standard error."""
    terminal = Terminal(console=Console(stderr=True, soft_wrap=True))
    terminal.note(str(error), type(error).__name__, "bold red")


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
