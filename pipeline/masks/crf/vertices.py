"""Numbering of lattice vertices, and the lines of neighbours that a blur follows.

A vertex is identified by an integer key, and the keys of neighbours differ by a constant
(:class:`pipeline.masks.crf.simplices.Grid`). A hash table maps keys to consecutive numbers in
order of first use by the points of the image, so that nearby vertices are close in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.masks.crf.compilation import kernel
from pipeline.masks.crf.vectors import prefetch
from pipeline.masks.crf.workspace import Workspace

Integers = NDArray[np.int64]

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing
_FIRST_BITS = 14
_AHEAD = 16  # distance of the prefetch, in look-ups
_FREE = -1
_workspace = Workspace()


def connect(
    keys: Integers, directions: Integers
) -> tuple[NDArray[np.int32], int, NDArray[np.int32]]:
    """Number the vertices, and list the lines that they form.

    Args:
        keys: Keys of vertices, any shape, not negative; they may repeat.
        directions: The change of a key by a step along each direction.

    Returns:
        The numbers in the shape of ``keys``, the count of distinct ones, and all lines of two or
        more neighbours, direction after direction. The first vertex of a line is encoded as
        ``~vertex``, which is negative; so is the end marker.
    """
    numbers = np.empty(keys.shape, dtype=np.int32)
    slots = 1 << max(_FIRST_BITS, (2 * keys.size).bit_length())
    table = _workspace.array("table", (2 * slots,), np.int64)
    seen = _workspace.array("seen", (keys.size,), np.int64)
    count, bits = _number(keys.reshape(-1), numbers.reshape(-1), seen, table)
    chains = _workspace.array("chains", (count * len(directions) + 1,), np.int32)
    length = _string(seen[:count], directions, table, bits, chains)
    return numbers, count, chains[:length].copy()


@kernel
def _slot(key: Any, bits: Any) -> Any:
    """The slot at which the search for ``key`` begins in a table of ``2**bits`` slots."""
    return np.intp((np.uint64(key) * _MIX) >> np.uint64(64 - bits))


@kernel
def _find(table: Any, key: Any, bits: Any) -> Any:
    """The position of ``key`` in the table, followed by its number; or a free position."""
    slot = _slot(key, bits)
    while table[2 * slot] != key and table[2 * slot] != _FREE:
        slot = (slot + 1) & ((1 << bits) - 1)
    return 2 * slot


@kernel
def _fill(table: Any, keys: Any, count: Any, bits: Any) -> None:
    """Fill a table of ``2**bits`` slots with the first ``count`` keys."""
    table[: 2 << bits] = _FREE
    for number in range(count):
        at = _find(table, keys[number], bits)
        table[at], table[at + 1] = keys[number], number


@kernel
def _number(keys: Any, numbers: Any, seen: Any, table: Any) -> Any:
    """Number the keys in order of appearance; the table doubles when it is half full."""
    bits, count = _FIRST_BITS, 0
    _fill(table, seen, count, bits)
    for i in range(len(keys)):
        if i + _AHEAD < len(keys):
            prefetch(table, 2 * _slot(keys[i + _AHEAD], bits))
        at = _find(table, keys[i], bits)
        if table[at] == _FREE:
            table[at], table[at + 1], seen[count] = keys[i], count, keys[i]
            count += 1
        numbers[i] = table[at + 1]
        if 2 * count > 1 << bits:
            bits += 1
            _fill(table, seen, count, bits)
    return count, bits


@kernel
def _string(keys: Any, directions: Any, table: Any, bits: Any, chains: Any) -> Any:
    """Write the lines of all directions to ``chains``; return the length written."""
    after = np.empty(len(keys), np.int32)
    follows = np.empty(len(keys), np.bool_)
    length = 0
    for step in directions:
        _link(keys, step, table, bits, after, follows)
        for first in range(len(keys)):
            if follows[first] or after[first] < 0:
                continue
            chains[length] = ~first
            length += 1
            vertex = after[first]
            while vertex >= 0:
                chains[length] = vertex
                length += 1
                vertex = after[vertex]
    chains[length] = -1
    return length + 1


@kernel
def _link(keys: Any, step: Any, table: Any, bits: Any, after: Any, follows: Any) -> None:
    """The vertex one step after each vertex, or -1; and whether a vertex follows another one."""
    follows[:] = False
    for vertex in range(len(keys)):
        if vertex + _AHEAD < len(keys):
            prefetch(table, 2 * _slot(keys[vertex + _AHEAD] + step, bits))
        at = _find(table, keys[vertex] + step, bits)
        if table[at] == _FREE:
            after[vertex] = -1
        else:
            after[vertex] = table[at + 1]
            follows[after[vertex]] = True
