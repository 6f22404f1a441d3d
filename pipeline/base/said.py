"""What is said during a command: all of it logged, what matters shown, the harmless dropped."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pipeline.base.ranks import is_first
from pipeline.base.terminal import LOG, Terminal

_HARMLESS = (
    # Scores are computed after training, so that they cannot choose the checkpoint.
    ".*no `val_dataloader`.*",
    # An unreadable image has no result; it is reported at the end of the stage.
    ".*predict returned None.*",
    # The check of the data names classes without images.
    ".*No positive samples found in target.*",
    # Few batches and few workers are deliberate.
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*number of training batches.*",
    # Lightning steps the schedules; its order on resume is correct.
    ".*lr_scheduler.step.*before.*optimizer.step.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*available but not used.*",
    # The average precisions have gathered what all processes found before they are logged.
    ".*recommended to use .self.log.*sync_dist=True.*",
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",
)


def silence_lightning() -> None:
    """Drop Lightning's harmless warnings and its notes about devices."""
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Append what is said and what libraries log to a file, with times and process id.

    Of several processes the first writes. What is said before the file's folder exists waits for
    it, and is dropped if the command makes none.
    """
    if not is_first():
        yield
        return
    handler, level = _Waiting(path), LOG.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.setLevel(level)
        logging.getLogger().removeHandler(handler)
        handler.close()


class _Waiting(logging.FileHandler):
    """Writes once the folder of the file exists."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self.folder, self.records = path.parent, list[logging.LogRecord]()

    def emit(self, record: logging.LogRecord) -> None:
        """Write what waited, and this."""
        self.records.append(record)
        if self.folder.is_dir():
            for one in self.records:
                super().emit(one)
            self.records.clear()


@contextmanager
def libraries_heard(terminal: Terminal) -> Iterator[None]:
    """Show warnings of Python and of libraries as notes, in a line each."""
    owner = os.getpid()

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int,
        file: TextIO | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        if os.getpid() != owner:  # a worker, which may have copied a lock that was held
            before(message, category, filename, lineno, file, line)
        else:
            text = " ".join(str(message).split())
            terminal.warn(f"{text} ({category.__name__}, {Path(filename).name}:{lineno})")

    before, handler = warnings.showwarning, _Shown(terminal)
    logging.getLogger().addHandler(handler)
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
        logging.getLogger().removeHandler(handler)


class _Shown(logging.Handler):
    """Shows what libraries log as a warning or worse."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.WARNING)
        self.terminal, self.owner = terminal, os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        """Show one message, unless the terminal itself logged it."""
        if record.name != LOG.name and os.getpid() == self.owner:
            self.terminal.show(f"{record.getMessage()} ({record.name})", "Note", "yellow")
