"""Ctrl-C and polite kills: a command ends at once, with the exit code that shells expect."""

from __future__ import annotations

import multiprocessing
import os
import signal
from types import FrameType

from pipeline.base.ranks import is_first
from pipeline.base.terminal import LOG

_SHOW_CURSOR = "\x1b[?25h"  # which a progress bar hides
NOTHING_LOST = "What is finished is kept: the same command goes on from here."


def stop_at_once() -> None:
    """End this process within seconds of SIGINT (exit code 130) or SIGTERM (143).

    The process ends inside the handler. An exception would have to come through Lightning, which
    takes a signal for the end of a training, and through pools of threads, which finish what they
    have. Nothing is lost by that, because files are whole or absent, and locks end with the
    process.
    """
    owner = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        try:
            if os.getpid() == owner:  # and not in a worker that inherited the handler
                _leave(number)
        finally:
            os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as shells set it for `command &`
            signal.signal(number, stop)


def _leave(number: int) -> None:
    """Kill the workers, and say and log that the command was stopped."""
    if hasattr(signal, "SIGCHLD"):  # at which torch would raise for each worker that ends
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        worker.kill()
    if is_first():
        # Not through the buffer of standard error, in which the signal may have come.
        os.write(2, f"{_SHOW_CURSOR if os.isatty(2) else ''}\nStopped. {NOTHING_LOST}\n".encode())
        LOG.info(f"stopped by {signal.Signals(number).name}")
