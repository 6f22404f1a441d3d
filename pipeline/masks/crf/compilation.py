"""Compilation of the numba kernels: once per machine, with a message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import event

_log = logging.getLogger(__name__)
_PACKAGE = __name__.rpartition(".")[0]


def kernel(function: Callable[..., Any]) -> Any:
    """``function``, compiled by numba on its first call and cached on disk for later processes.

    It releases Python's global lock, so that threads can process several images in parallel. The
    compiled code is stored next to the module, or in the user's cache folder if the module's is
    read-only; if neither is writable, every process compiles anew.
    """
    return _compiled(function)


def vector_kernel(function: Callable[..., Any]) -> Any:
    """:func:`kernel` in which a product and a sum may be fused and rounded once."""
    return _compiled(function, fastmath={"contract"})


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    try:
        return njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # no writable folder for the cache
        return njit(nogil=True, **options)(function)


class _Announcement(event.Listener):
    """Logs once per process that a kernel of this package is being compiled."""

    def __init__(self) -> None:
        self._logged = False

    def on_start(self, event: Any) -> None:
        ours = event.data["dispatcher"].py_func.__module__.startswith(_PACKAGE)
        if ours and not self._logged:
            self._logged = True
            _log.info("compiling the dense CRF, once per machine, about 10 s")

    def on_end(self, event: Any) -> None:
        """Required by numba; nothing to log."""


event.register("numba:compile", _Announcement())
