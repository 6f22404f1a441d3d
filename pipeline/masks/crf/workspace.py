"""Memory that a thread reuses for every image."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Workspace(threading.local):
    """Named arrays, one set per thread, that grow to the largest size requested.

    New memory from the system costs a page fault for every 4 KB, which is 15 to 30 % of the time
    of a CRF. An array is valid until the same name is requested again.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of ``shape``, not initialised."""
        size = int(np.prod(shape))
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size + size // 8, dtype=dtype)
        return buffer[:size].reshape(shape)
