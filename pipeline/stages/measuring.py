"""Cost of a call: seconds, and peak memory beyond what was allocated before."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

T = TypeVar("T")


def timed(call: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """Result of the call, and the seconds until the device has finished it.

    Example:
        >>> result, seconds = timed(lambda: 3, torch.device("cpu"))
        >>> result, seconds >= 0
        (3, True)
    """
    _wait(device)
    start = time.perf_counter()
    result = call()
    _wait(device)
    return result, time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """The most bytes of tensors that the call holds at once, beyond those that existed before it.

    On a GPU this is what torch's allocator says. On a CPU it is the highest running sum of the
    allocations and releases that torch's profiler sees: exact and the same in every run, but
    without the scratch space that libraries of convolutions take for themselves.

    Example:
        >>> peak_bytes(lambda: torch.zeros(1000) + 1, torch.device("cpu")) >= 8000
        True
    """
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        with _silent_stderr():
            with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
                result = call()  # held until the record ends, as by a caller
            record.export_chrome_trace(str(trace))
        del result
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    changes.sort(key=lambda event: float(event["ts"]))
    return max(accumulate(int(event["args"]["Bytes"]) for event in changes), default=0)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Without the notes that the profiler's library writes about itself, past Python."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
