"""Messages, progress bars with the remaining time, and a summary at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


@dataclass
class Terminal:
    """Standard error, with or without progress bars.

    Attributes:
        bars: Whether progress bars are drawn.
        console: Where everything is printed.
        lines: Names and values of the summary.
    """

    bars: bool = True
    console: Console = field(default_factory=lambda: Console(stderr=True))
    lines: list[tuple[str, str]] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Print a message now, with rich's markup."""
        self.console.print(text)

    def say(self, name: str, value: str) -> None:
        """Add a line to the summary at the end."""
        self.lines.append((name, value))

    def warn(self, text: str) -> None:
        """Print what may be a mistake, now; words in brackets are no markup."""
        self.console.print(Text(f"Note: {text}", style="yellow"))

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table now; its first column is text, the others are numbers."""
        table = Table(title=Text(title))
        for k, name in enumerate(header):
            table.add_column(name, justify="right" if k else "left")
        for row in rows:
            table.add_row(*map(Text, row))
        self.console.print(table)

    def summarise(self, title: str) -> None:
        """Print the summary."""
        table = Table(title=title, show_header=False)
        table.add_column()
        table.add_column(overflow="fold")  # a truncated path could not be copied
        for name, value in self.lines:
            table.add_row(name, value)
        self.console.print(table)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """A progress bar with a rate; yields a function of the number done and the total."""
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self.console, disable=not self.bars) as bar:
            task = bar.add_task(what, total=total or None, rate="")

            def step(done: int, of: int) -> None:
                speed = bar.tasks[0].speed
                rate = f"{speed:.1f}/s" if speed else ""
                bar.update(task, completed=done, total=of, rate=rate)

            yield step


def number(value: float | None) -> str:
    """A score with three decimals, or "undefined" for None.

    Example:
        >>> number(0.5), number(None)
        ('0.500', 'undefined')
    """
    return "undefined" if value is None else f"{value:.3f}"
