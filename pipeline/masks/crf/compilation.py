"""How the numba kernels are compiled: once per machine, and never silently."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import event

_log = logging.getLogger(__name__)
_PACKAGE = __name__.rpartition(".")[0]


def kernel(function: Callable[..., Any]) -> Any:
    """``function`` compiled by numba when first called, and kept on disk for later processes.

    It runs without Python's global lock, so that several images can be worked on in threads. The
    compiled code lies next to the module, or in the user's cache folder where that cannot be
    written; where neither can, it is compiled anew by every process.
    """
    return _compiled(function)


def vector_kernel(function: Callable[..., Any]) -> Any:
    """:func:`kernel` in which a product and a sum may be rounded once instead of twice."""
    return _compiled(function, fastmath={"contract"})


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    try:
        return njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache
        return njit(nogil=True, **options)(function)


class _Announcement(event.Listener):
    """Logs, once per process, that a kernel of this package is being compiled."""

    def __init__(self) -> None:
        self._made = False

    def on_start(self, event: Any) -> None:
        ours = event.data["dispatcher"].py_func.__module__.startswith(_PACKAGE)
        if ours and not self._made:
            self._made = True
            _log.info("compiling the dense CRF, once per machine, about 10 s")

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


event.register("numba:compile", _Announcement())
