"""Gaussian filtering in a few dimensions by a permutohedral lattice.

A direct Gaussian filter over N points costs N^2 products. Here every point is written onto the
d + 1 corners of the lattice simplex that contains it (splat), the touched corners are blurred
along the d + 1 lattice directions, and every point reads its corners back (slice): N * d^2.

Splat, blur and slice are sparse matrices. Their products are single-precision and run without
Python's global lock, so that several images can be filtered in threads. The lattice knows
nothing of what it filters.

References:
    Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
    Eurographics 2010. The order of the single-precision operations and the symmetric
    normalisation are those of Kraehenbuehl and Koltun's dense CRF (NeurIPS 2011).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import DataError

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_TINY = np.float32(1e-20)  # keeps the norm of an isolated point finite
_KEY_LIMIT = 2**62  # packed vertex keys are int64


class PermutohedralLattice:
    """The symmetrically normalised Gaussian filter of one set of points, ready for many signals.

    The filter is ``n * (G (n * signal))`` with ``G[i, j] ~ exp(-|f_i - f_j|^2 / 2)``, each point
    itself included, and ``n = 1 / sqrt(G 1)``. Measured against the exact sum the weights are off
    by a few per cent, which the normalisation takes back for smooth signals.

    Args:
        features: Positions of the points, float32 [N, d], already divided by the standard
            deviations of the Gaussian. N >= 1, d >= 1, finite.

    Raises:
        DataError: ``features`` has another shape or type, is empty or not finite, or spans so many
            standard deviations that vertices cannot be numbered. Use larger standard deviations.

    Example:
        >>> points = np.array([[0.0], [0.5], [9.0]], dtype=np.float32)
        >>> lattice = PermutohedralLattice(points)
        >>> lattice.filter(np.ones((3, 1), dtype=np.float32)).round(1).ravel()
        array([1., 1., 1.], dtype=float32)
    """

    def __init__(self, features: Floats) -> None:
        _check_features(features)
        points, dimensions = features.shape
        simplices = _enclosing_simplices(features)
        keys, strides = _pack(simplices)
        vertices = np.unique(keys)
        corners = np.searchsorted(vertices, keys).astype(np.int32)
        self._blurs = _blur_matrices(vertices, strides)
        self._slice = sparse.csr_array(
            (
                np.ascontiguousarray(simplices.weights.T).ravel(),
                np.ascontiguousarray(corners.T).ravel(),
                np.arange(0, corners.size + 1, dimensions + 1, dtype=np.int32),
            ),
            shape=(points, len(vertices)),
        )
        self._normalise()
        self._splat = self._slice.T  # compressed columns: writes each point onto its corners

    @property
    def vertices(self) -> int:
        """Number of lattice vertices that at least one point touches."""
        return int(self._slice.shape[1])

    def filter(self, signal: Floats) -> Floats:
        """The filtered signal.

        Args:
            signal: float32 [N, channels], one row per point; C-contiguous is fastest.

        Returns:
            float32 [N, channels].

        Raises:
            DataError: ``signal`` does not have one row per point.
        """
        if signal.ndim != 2 or signal.shape[0] != self._slice.shape[0]:
            raise DataError(
                f"PermutohedralLattice.filter: signal is {signal.shape} but the lattice holds "
                f"{self._slice.shape[0]} points. Rows would be mixed up. "
                "Pass [points, channels], in the order of the features."
            )
        return self._slice @ self._blurred(self._splat @ signal)

    def _blurred(self, values: Floats) -> Floats:
        for blur in self._blurs:
            values = blur @ values
        return values

    def _normalise(self) -> None:
        """Fold ``n`` into the weights, so that splat and slice both apply it for nothing."""
        ones = np.ones((self._slice.shape[0], 1), dtype=np.float32)
        row_sums = self._slice @ self._blurred(self._slice.T @ ones)
        norm = np.float32(1.0) / np.sqrt(row_sums + _TINY)
        self._slice.data.reshape(len(ones), -1)[...] *= norm


class _Simplices(NamedTuple):
    """For each point the simplex that contains it; points run along the last axis."""

    base: Floats  # [d + 1, N] corner of remainder 0, integer multiples of d + 1
    coordinate_of_rank: Integers  # [d + 1, N] coordinates, largest residual first
    weights: Floats  # [d + 1, N] barycentric weight of the corner of remainder 0..d


def _check_features(features: Floats) -> None:
    if features.dtype != np.float32 or features.ndim != 2 or 0 in features.shape:
        raise DataError(
            f"PermutohedralLattice: features is {features.dtype} {features.shape}. "
            "There would be nothing to filter. Pass float32 [points, dimensions], not empty."
        )
    if not np.isfinite(features).all():
        raise DataError(
            f"PermutohedralLattice: {np.count_nonzero(~np.isfinite(features))} values of features "
            f"{features.shape} are NaN or infinite. They have no place on a lattice. "
            "Check what the features were divided by."
        )


def _enclosing_simplices(features: Floats) -> _Simplices:
    sides = features.shape[1] + 1
    elevated = _elevate(features)
    inverse = np.float32(1.0 / sides)
    rounded = np.rint(elevated * inverse)
    base = rounded * np.float32(sides)
    ranks = _ranks(elevated - base)
    # The rounded point may lie off the plane sum = 0; the coordinates rounded worst are moved.
    ranks += rounded.sum(axis=0).astype(np.int8)
    wrap = sides * ((ranks < 0).astype(np.int8) - (ranks >= sides).astype(np.int8))
    ranks += wrap
    base += wrap
    order = _inverse_permutation(ranks)
    residuals = np.take_along_axis((elevated - base) * inverse, order, axis=0)
    return _Simplices(base, order, _barycentric(residuals))


def _elevate(features: Floats) -> Floats:
    """Points of d dimensions on the plane ``sum = 0`` of d + 1 dimensions, [d + 1, N]."""
    points, dimensions = features.shape
    spread = np.float32(math.sqrt(2.0 / 3.0) * (dimensions + 1))
    elevated = np.empty((dimensions + 1, points), dtype=np.float32)
    total = np.zeros(points, dtype=np.float32)
    for axis in range(dimensions, 0, -1):
        scale = np.float32(float(spread) / math.sqrt(axis * (axis + 1)))
        scaled = features[:, axis - 1] * scale
        elevated[axis] = total - np.float32(axis) * scaled
        total += scaled
    elevated[0] = total
    return elevated


def _ranks(residuals: Floats) -> NDArray[np.int8]:
    """Place of each coordinate, 0 = largest residual; of equals the earlier comes first."""
    sides = len(residuals)
    ranks = np.zeros(residuals.shape, dtype=np.int8)
    for first in range(sides):
        for second in range(first + 1, sides):
            smaller = residuals[first] < residuals[second]
            ranks[first] += smaller
            ranks[second] += ~smaller
    return ranks


def _inverse_permutation(ranks: NDArray[np.int8]) -> Integers:
    order = np.empty(ranks.shape, dtype=np.int64)
    coordinates = np.arange(len(ranks), dtype=np.int64)[:, None]
    np.put_along_axis(order, ranks.astype(np.int64), coordinates, axis=0)
    return order


def _barycentric(residuals: Floats) -> Floats:
    """Weights of the corners 0..d from the residuals in falling order, as shares of a side."""
    weights = np.empty_like(residuals)
    weights[1:] = residuals[::-1][1:] - residuals[::-1][:-1]
    weights[0] = residuals[-1] + (np.float32(1.0) - residuals[0])
    return weights


def _pack(simplices: _Simplices) -> tuple[Integers, Integers]:
    """One integer per corner, [d + 1, N], and the stride of each coordinate in that integer.

    A mixed-radix number of the first d coordinates (the last follows from ``sum = 0``). A margin
    on both sides keeps every neighbour in range, so that a step in space is a constant to add.
    """
    sides = len(simplices.base)
    coordinates = simplices.base[:-1].astype(np.int64)
    lowest = coordinates.min(axis=1) - 3 * sides
    extents = coordinates.max(axis=1) + 3 * sides - lowest + 1
    if math.prod(int(extent) for extent in extents) >= _KEY_LIMIT:
        raise DataError(
            f"PermutohedralLattice: features span {extents.tolist()} lattice units, more than "
            "64-bit keys can number. Vertices would be confused. Use larger standard deviations."
        )
    strides = np.ones(sides, dtype=np.int64)
    strides[1:-1] = np.cumprod(extents)[:-1]
    strides[-1] = 0
    keys = np.empty(simplices.base.shape, dtype=np.int64)
    keys[0] = strides[:-1] @ (coordinates - lowest[:, None])
    # From one corner to the next every coordinate gains 1, and one of them loses d + 1.
    steps = strides.sum() - sides * strides
    for corner in range(1, sides):
        keys[corner] = keys[corner - 1] + steps[simplices.coordinate_of_rank[sides - corner]]
    return keys, strides


def _blur_matrices(vertices: Integers, strides: Integers) -> list[sparse.csr_array]:
    """One matrix per lattice direction: a vertex plus half of its two neighbours."""
    sides = len(strides)
    return [_blur_matrix(vertices, int(step)) for step in sides * strides - strides.sum()]


def _blur_matrix(vertices: Integers, step: int) -> sparse.csr_array:
    count = len(vertices)
    own = np.arange(count, dtype=np.int32)
    columns = np.stack([own, own, own], axis=1)
    weights = np.zeros((count, 3), dtype=np.float32)
    weights[:, 1] = 1.0
    found = np.minimum(np.searchsorted(vertices, vertices + step), count - 1)
    here = np.flatnonzero(vertices[found] == vertices + step)
    there = found[here]
    columns[here, 2], weights[here, 2] = there, 0.5
    columns[there, 0], weights[there, 0] = here, 0.5
    pointers = np.arange(0, 3 * count + 1, 3, dtype=np.int32)
    return sparse.csr_array((weights.ravel(), columns.ravel(), pointers), shape=(count, count))
