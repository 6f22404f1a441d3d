"""Gaussian filtering in a few dimensions by a permutohedral lattice, on the CPU.

A direct Gaussian filter over N points costs N^2 products. Here every point is written onto the
d + 1 corners of the lattice simplex that contains it (splat), the touched vertices are blurred
along the d + 1 lattice directions, and every point reads its corners back (slice).

Points of one simplex share its corners, so that the lattice is kept in two steps: the simplex of
each point, and the vertices of each simplex. For the blur the vertices are strung on chains, the
straight lines of each direction. The filter in this module is the plain one; for rows of channels
:mod:`pipeline.masks.crf.mean_field` does the same faster.

References:
    Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
    Eurographics 2010. The order of the single-precision operations and the symmetric
    normalisation are those of the program of Kraehenbuehl and Koltun, "Efficient Inference in
    Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.base.arrays import Floats
from pipeline.base.errors import DataError
from pipeline.masks.crf.compilation import kernel
from pipeline.masks.crf.simplices import enclose, number_grid
from pipeline.masks.crf.vertices import connect

_BLOCK = 16  # what pipeline.masks.crf.simplices works in
_GROUP = 4  # the authors' program takes points in fours and fills the last group up with zeros
_MOST_DIMENSIONS = 14  # the order of d + 1 coordinates is numbered by an int64
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_TINY = np.float32(1e-20)  # keeps the norm of an isolated point finite


class Lattice:
    """The symmetrically normalised Gaussian filter of one set of points, ready for many signals.

    The filter is ``n * (G (n * signal))`` with ``G[i, j] ~ exp(-|f_i - f_j|^2 / 2)``, each point
    itself included, and ``n = 1 / sqrt(G 1)``. Measured against the exact sum the weights are off
    by a few per cent, which the normalisation takes back for smooth signals.

    Args:
        features: Positions of the points, float32 [N, d], already divided by the standard
            deviations of the Gaussian. N >= 1, 1 <= d <= 14, finite.

    Attributes:
        points: N.
        vertices: Number of lattice vertices that are corners of a simplex with a point in it.
        simplex: int32 [N], number of the simplex that holds each point.
        corners: int32 [simplices, d + 1], its vertices. A simplex may have several numbers.
        weights: float32 [N, d + 1], barycentric weights of these corners.
        norms: float32 [N], the factors ``n``.
        chains: int32, lines of neighbours; see :func:`pipeline.masks.crf.vertices.connect`.

    Raises:
        DataError: ``features`` has another shape or type, is empty or not finite, or spans so many
            standard deviations that vertices cannot be numbered. Use larger standard deviations.

    Example:
        >>> points = np.array([[0.0], [0.5], [9.0]], dtype=np.float32)
        >>> Lattice(points).filter(np.ones((3, 1), dtype=np.float32)).round(1).ravel()
        array([1., 1., 1.], dtype=float32)
    """

    def __init__(self, features: Floats) -> None:
        _check_features(features)
        self.points, dimensions = features.shape
        filled_up = -(-self.points // _GROUP) * _GROUP
        axes = np.zeros((dimensions, -(-filled_up // _BLOCK) * _BLOCK), dtype=np.float32)
        axes[:, : self.points] = features.T
        grid = number_grid(axes)
        simplex, weights, keys = enclose(axes, filled_up, grid)
        self.corners, self.vertices, self.chains = connect(keys, grid.directions)
        self.simplex, self.weights = simplex[: self.points], weights[: self.points]
        row_sums = self._unnormalised(np.ones(self.points, dtype=np.float32))
        self.norms = _ONE / np.sqrt(row_sums + _TINY)

    def filter(self, signal: Floats) -> Floats:
        """The filtered signal.

        Args:
            signal: float32 [N, channels], one row per point.

        Returns:
            float32 [N, channels].

        Raises:
            DataError: ``signal`` does not have one row per point.
        """
        if signal.ndim != 2 or len(signal) != self.points:
            raise DataError(
                f"Lattice.filter: signal is {signal.shape} but the lattice holds {self.points} "
                "points. Rows would be mixed up. "
                "Pass [points, channels], in the order of the features."
            )
        rows = [self.norms * self._unnormalised(self.norms * row) for row in signal.T]
        return np.stack(rows, axis=1)

    def _unnormalised(self, channel: Floats) -> Floats:
        values = np.zeros(self.vertices, dtype=np.float32)
        filtered = np.empty(self.points, dtype=np.float32)
        sides = (0,) * self.weights.shape[1]
        _splat(channel, self.simplex, self.corners, self.weights, values, sides)
        _blur(values, self.chains)
        _slice(values, self.simplex, self.corners, self.weights, filtered, sides)
        return filtered


@kernel
def _splat(channel: Any, simplex: Any, corners: Any, weights: Any, values: Any, sides: Any) -> None:
    """Add each point's share to the corners of its simplex. ``sides`` has d + 1 elements."""
    for point in range(len(channel)):
        for r in range(len(sides)):
            values[corners[simplex[point], r]] += weights[point, r] * channel[point]


@kernel
def _blur(values: Any, chains: Any) -> None:
    """To each vertex half of its two neighbours, direction after direction, in place.

    Walking along a line, the neighbour behind has been overwritten; its old value is kept.
    """
    behind = _ZERO
    for i in range(len(chains) - 1):
        vertex, following = chains[i], chains[i + 1]
        if vertex < 0:
            vertex, behind = ~vertex, _ZERO
        ahead = values[following] if following >= 0 else _ZERO
        old = values[vertex]
        values[vertex] = old + _HALF * (behind + ahead)
        behind = old


@kernel
def _slice(
    values: Any, simplex: Any, corners: Any, weights: Any, filtered: Any, sides: Any
) -> None:
    """Read each point back from the corners of its simplex."""
    for point in range(len(filtered)):
        total = np.float32(0)
        for r in range(len(sides)):
            total += weights[point, r] * values[corners[simplex[point], r]]
        filtered[point] = total


def _check_features(features: Floats) -> None:
    shape, kind = np.shape(features), getattr(features, "dtype", type(features).__name__)
    if kind != np.float32 or len(shape) != 2 or 0 in shape or shape[1] > _MOST_DIMENSIONS:
        raise DataError(
            f"Lattice: features is {kind} {shape}. It holds no points that can be filtered. "
            f"Pass float32 [points, dimensions], not empty, at most {_MOST_DIMENSIONS} dimensions."
        )
    if not np.isfinite(features).all():
        raise DataError(
            f"Lattice: {np.count_nonzero(~np.isfinite(features))} values of features {shape} are "
            "NaN or infinite. They have no place on a lattice. "
            "Check what the features were divided by."
        )
