"""The memory of a process that makes many large tensors, one after the other."""

from __future__ import annotations

import ctypes
import sys

# Options of glibc's mallopt, from its malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let the next tensor have the memory of the last one.

    By default glibc gives every large block back to the system, which then clears all pages of the
    next one: on a CPU a fifth of the time of saliency. Nothing happens where there is no glibc.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries lack it
    if set_option is not None:
        set_option(_MMAP_MAX, 0)
        set_option(_TRIM_THRESHOLD, _NEVER)
