"""Gaussian filtering in a few dimensions by a permutohedral lattice, on the CPU.

A direct Gaussian filter over N points costs N^2 products. Here every point is added to the d + 1
corners of the lattice simplex that contains it (splat), the vertices are blurred along the d + 1
lattice directions, and every point is interpolated from its corners (slice).

Points in one simplex share its corners, so that the lattice is stored in two tables: the simplex
of each point, and the vertices of each simplex. For the blur, the vertices are listed in chains,
the straight lines along each direction. This module contains the plain filter;
:mod:`pipeline.masks.crf.mean_field` is a faster one for rows of channels.

References:
    Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
    Eurographics 2010. The order of the single-precision operations and the
    normalisations are those of the program of Kraehenbuehl and Koltun, "Efficient Inference in
    Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.base.arrays import Floats
from pipeline.base.errors import DataError
from pipeline.masks.crf.compilation import kernel
from pipeline.masks.crf.normalization import NormalizationType, factors
from pipeline.masks.crf.simplices import enclose, number_grid
from pipeline.masks.crf.vertices import connect

_BLOCK = 16  # block size of pipeline.masks.crf.simplices
_GROUP = 4  # the authors' program processes points in fours and pads the last group with zeros
_MOST_DIMENSIONS = 14  # an int64 numbers the order of d + 1 coordinates
_ZERO, _HALF = np.float32(0), np.float32(0.5)


class Lattice:
    """The normalised Gaussian filter of one set of points, for any number of signals.

    The filter is ``a * (G (b * signal))`` with ``G[i, j] ~ exp(-|f_i - f_j|^2 / 2)``, including
    ``i = j``. Normalised symmetrically, ``a = b = 1 / sqrt(G 1)``. The weights differ from the
    exact Gaussian by a few per cent; for smooth signals the normalisation cancels the error.

    Args:
        features: Positions of the points, float32 [N, d], already divided by the standard
            deviations of the Gaussian. N >= 1, 1 <= d <= 14, finite.
        normalization: Decides the factors ``a`` and ``b``.

    Attributes:
        points: Number of points, N.
        vertices: Number of lattice vertices that are a corner of a simplex with a point in it.
        simplex: int32 [N], the index of each point's simplex.
        corners: int32 [simplices, d + 1], the vertices of each simplex. A simplex may occur with
            several indices.
        weights: float32 [N, d + 1], barycentric weights of these corners.
        before: float32 [N], the factors ``b``.
        after: float32 [N], the factors ``a``.
        normalization: As given.
        chains: int32, lines of neighbours; see :func:`pipeline.masks.crf.vertices.connect`.

    Raises:
        DataError: ``features`` has another shape or type, is empty or not finite, or spans so many
            standard deviations that vertices cannot be numbered. Use larger standard deviations.

    Example:
        >>> points = np.array([[0.0], [0.5], [9.0]], dtype=np.float32)
        >>> Lattice(points).filter(np.ones((3, 1), dtype=np.float32)).round(1).ravel()
        array([1., 1., 1.], dtype=float32)
    """

    def __init__(
        self,
        features: Floats,
        normalization: NormalizationType = NormalizationType.NORMALIZE_SYMMETRIC,
    ) -> None:
        _check_features(features)
        self.normalization = normalization
        self.points, dimensions = features.shape
        filled_up = -(-self.points // _GROUP) * _GROUP
        axes = np.zeros((dimensions, -(-filled_up // _BLOCK) * _BLOCK), dtype=np.float32)
        axes[:, : self.points] = features.T
        grid = number_grid(axes)
        simplex, weights, keys = enclose(axes, filled_up, grid)
        self.corners, self.vertices, self.chains = connect(keys, grid.directions)
        self.simplex, self.weights = simplex[: self.points], weights[: self.points]
        row_sums = self._unnormalised(np.ones(self.points, dtype=np.float32))
        self.before, self.after = factors(row_sums, normalization, dimensions)

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
                f"Lattice.filter: signal is {signal.shape} but the lattice has {self.points} "
                "points. Pass [points, channels], in the order of the features."
            )
        rows = [self.after * self._unnormalised(self.before * row) for row in signal.T]
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
    """Add each point, weighted, to the corners of its simplex. ``sides`` has d + 1 elements."""
    for point in range(len(channel)):
        for r in range(len(sides)):
            values[corners[simplex[point], r]] += weights[point, r] * channel[point]


@kernel
def _blur(values: Any, chains: Any) -> None:
    """Add half of both neighbours to each vertex, direction after direction, in place.

    Along a line the previous neighbour has already been overwritten; its old value is kept.
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
    """Interpolate each point from the corners of its simplex."""
    for point in range(len(filtered)):
        total = np.float32(0)
        for r in range(len(sides)):
            total += weights[point, r] * values[corners[simplex[point], r]]
        filtered[point] = total


def _check_features(features: Floats) -> None:
    shape, kind = np.shape(features), getattr(features, "dtype", type(features).__name__)
    if kind != np.float32 or len(shape) != 2 or 0 in shape or shape[1] > _MOST_DIMENSIONS:
        raise DataError(
            f"Lattice: features is {kind} {shape}. Pass float32 [points, dimensions], not empty, "
            f"with at most {_MOST_DIMENSIONS} dimensions."
        )
    if not np.isfinite(features).all():
        raise DataError(
            f"Lattice: {np.count_nonzero(~np.isfinite(features))} values of features {shape} are "
            "NaN or infinite. Check the standard deviations that they were divided by."
        )
