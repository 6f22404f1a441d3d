"""The simplex of the permutohedral lattice that contains a point, and its barycentric weights.

The lattice lies in the hyperplane ``sum = 0`` of d + 1 coordinates. The integer coordinates of a
vertex all have the same remainder modulo d + 1; the corners of a simplex have the remainders 0 to
d. A simplex is therefore determined by its corner of remainder 0 and by the order of the
coordinates of a point inside, measured from that corner.

References:
    Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
    Eurographics 2010, section 3.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import Floats
from pipeline.base.errors import DataError
from pipeline.masks.crf.compilation import kernel
from pipeline.masks.crf.vectors import (
    load,
    rint,
    row_shape,
    spread,
    store,
    where_equal,
    where_greater,
)
from pipeline.masks.crf.workspace import Workspace

Integers = NDArray[np.int64]

_BLOCK = 16  # points processed together, one per lane
_LANES = row_shape(_BLOCK)
_RECENT_BITS = 13
_RECENT = 1 << _RECENT_BITS  # size of the cache of recent simplices
_KEY_LIMIT = 2**62  # keys are int64
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing

_ZERO, _ONE = np.float32(0), np.float32(1)
_workspace = Workspace()


class Grid(NamedTuple):
    """The numbering of lattice vertices: a mixed-radix number of the first d coordinates.

    (The last coordinate follows from ``sum = 0``.) A margin keeps all neighbours in range, so that
    a step in space adds a constant to the key.
    """

    scales: Floats  # [d] factors from features to lattice units
    lowest: Integers  # [d] smallest coordinate that can occur
    strides: Integers  # [d + 1] change of the key per unit of each coordinate

    @property
    def directions(self) -> Integers:
        """The change of a key by one step along each of the d + 1 lattice directions.

        A step adds d to one coordinate and subtracts 1 from every other one.
        """
        return np.asarray(len(self.strides) * self.strides - self.strides.sum())


def number_grid(axes: Floats) -> Grid:
    """A grid that numbers every vertex near the points ``axes``, [d, N].

    Raises:
        DataError: There are more vertices than 64-bit keys.
    """
    dimensions = len(axes)
    sides = dimensions + 1
    spread = np.float32(math.sqrt(2.0 / 3.0) * sides)
    scales = np.array(
        [float(spread) / math.sqrt((i + 1) * (i + 2)) for i in range(dimensions)], np.float32
    )
    low, high = axes.min(axis=1) * scales.astype(float), axes.max(axis=1) * scales.astype(float)
    # Coordinate i of the elevated point is sum(scaled[i:]) - i * scaled[i - 1].
    before = np.arange(dimensions)
    above = np.concatenate([[0.0], high[:-1]]), np.concatenate([[0.0], low[:-1]])
    lowest = np.floor(low[::-1].cumsum()[::-1] - before * above[0]) - 3 * sides
    highest = np.ceil(high[::-1].cumsum()[::-1] - before * above[1]) + 3 * sides
    extents = [int(extent) for extent in highest - lowest + 1]
    if math.prod(extents) >= _KEY_LIMIT:
        raise DataError(
            f"Lattice: features span {extents} lattice units, more than 64-bit keys can number. "
            "Use larger standard deviations."
        )
    strides = np.zeros(sides, dtype=np.int64)
    strides[:-1] = np.cumprod([1, *extents[:-1]])
    return Grid(scales, lowest.astype(np.int64), strides)


def enclose(axes: Floats, points: int, grid: Grid) -> tuple[NDArray[np.int32], Floats, Integers]:
    """The simplex that contains each point.

    Args:
        axes: [d, a multiple of 16], in units of the standard deviation. Columns after the first
            ``points`` are padding.
        points: Number of points, N.
        grid: ``number_grid(axes)``.

    Returns:
        The index of each point's simplex [N], the barycentric weights of its corners of remainder
        0 to d [N, d + 1], and the keys of the corners of each simplex [simplices, d + 1]. A
        simplex can occur with several indices, since only recent ones are recognised. The keys
        are overwritten by the next call.
    """
    sides = len(axes) + 1
    simplex = np.empty(points, dtype=np.int32)
    weights = np.empty((points, sides), dtype=np.float32)
    keys = _workspace.array("keys", (points, sides), np.int64)
    count = _enclose(axes, *grid, simplex, weights, keys)
    return simplex, weights, keys[:count]


@kernel
def _enclose(
    axes: Any, scales: Any, lowest: Any, strides: Any, simplex: Any, weights: Any, keys: Any
) -> Any:
    """Fill ``simplex``, ``weights`` and ``keys`` for all points; return the number of simplices."""
    dimensions, points = len(axes), len(simplex)
    sides = dimensions + 1
    elevated = np.zeros((sides, _BLOCK), np.float32)
    corner, ranks = np.empty_like(elevated), np.empty_like(elevated)
    shares = np.empty_like(elevated)
    recent = np.full((_RECENT, 3), -1, np.int64)  # key, order and number of a simplex
    gain, count = np.int64(0), 0
    for stride in strides:
        gain += stride
    for start in range(0, points, _BLOCK):
        width = min(_BLOCK, points - start)
        _elevate(axes, start, scales, elevated)
        _nearest_corner(elevated, corner, ranks)
        _barycentric(elevated, ranks, shares)
        for p in range(width):
            key, order = np.int64(0), np.int64(0)
            for i in range(dimensions):
                key += (np.int64(corner[i, p]) - lowest[i]) * strides[i]
                order = order * sides + np.int64(ranks[i, p])
            for r in range(sides):
                weights[start + p, r] = shares[r, p]
            slot = _slot(key, order)
            if recent[slot, 0] != key or recent[slot, 1] != order:
                recent[slot, 0], recent[slot, 1], recent[slot, 2] = key, order, count
                _write_corners(key, ranks, p, strides, gain, keys, count)
                count += 1
            simplex[start + p] = recent[slot, 2]
    return count


@kernel
def _slot(key: Any, order: Any) -> Any:
    """The slot of a simplex in the cache of recent simplices."""
    mixed = (np.uint64(key) ^ (np.uint64(order) << np.uint64(40))) * _MIX
    return np.intp(mixed >> np.uint64(64 - _RECENT_BITS))


@kernel
def _elevate(axes: Any, start: Any, scales: Any, elevated: Any) -> None:
    """Map 16 points onto the hyperplane ``sum = 0`` of d + 1 coordinates.

    Rounding follows the authors' program: a running sum from the last axis to the first.
    """
    total = spread(_ZERO, _LANES)
    for axis in range(len(scales), 0, -1):
        place = load(axes, (axis - 1) * axes.shape[1] + start, _LANES)
        scaled = place * spread(scales[axis - 1], _LANES)
        store(elevated, axis * _BLOCK, total - spread(np.float32(axis), _LANES) * scaled)
        total = total + scaled
    store(elevated, 0, total)


@kernel
def _nearest_corner(elevated: Any, corner: Any, ranks: Any) -> None:
    """The corner of remainder 0 of each simplex, and the ranks of the distances from it.

    Rank 0 is the largest distance; ties are broken in the order of coordinates. If the rounded
    point is ``n`` units off the plane ``sum = 0``, the ``n`` coordinates with the largest rounding
    error are corrected. ``elevated`` becomes the distance from the corner in units of d + 1.
    """
    sides = len(elevated)
    zero, one = spread(_ZERO, _LANES), spread(_ONE, _LANES)
    size = spread(np.float32(sides), _LANES)
    inverse = spread(np.float32(1.0 / sides), _LANES)
    distances = np.empty_like(elevated)
    excess = zero
    for i in range(sides):
        rounded = rint(load(elevated, i * _BLOCK, _LANES) * inverse)
        excess = excess + rounded
        store(corner, i * _BLOCK, rounded * size)
        store(distances, i * _BLOCK, load(elevated, i * _BLOCK, _LANES) - rounded * size)
    for i in range(sides):
        at, rank = i * _BLOCK, excess
        own = load(distances, at, _LANES)
        for j in range(i):
            rank = rank + (one - where_greater(own, load(distances, j * _BLOCK, _LANES), one))
        for j in range(i + 1, sides):
            rank = rank + where_greater(load(distances, j * _BLOCK, _LANES), own, one)
        move = where_greater(zero, rank, size) - (size - where_greater(size, rank, size))
        store(ranks, at, rank + move)
        moved = load(corner, at, _LANES) + move
        store(corner, at, moved)
        store(elevated, at, (load(elevated, at, _LANES) - moved) * inverse)


@kernel
def _barycentric(distances: Any, ranks: Any, shares: Any) -> None:
    """Weights of the corners of remainder 0 to d: differences of the sorted distances."""
    sides = len(shares)
    before = spread(_ZERO, _LANES)
    for r in range(sides):
        rank, distance = spread(np.float32(sides - 1 - r), _LANES), spread(_ZERO, _LANES)
        for i in range(sides):
            own = load(ranks, i * _BLOCK, _LANES)
            distance = distance + where_equal(own, rank, load(distances, i * _BLOCK, _LANES))
        store(shares, r * _BLOCK, distance - before)
        before = distance
    lowest = load(shares, 0, _LANES)
    store(shares, 0, lowest + (spread(_ONE, _LANES) - before))


@kernel
def _write_corners(
    key: Any, ranks: Any, p: Any, strides: Any, gain: Any, keys: Any, simplex: Any
) -> None:
    """Write the keys of the corners of remainder 0 to d.

    From one corner to the next every coordinate gains 1, which adds ``gain`` to the key, and one
    coordinate loses d + 1: first that of rank d, then that of rank d - 1, and so on.
    """
    sides = len(strides)
    for i in range(sides):
        keys[simplex, sides - 1 - np.intp(ranks[i, p])] = sides * strides[i]
    for r in range(sides):
        lost, keys[simplex, r] = keys[simplex, r], key
        key += gain - lost
