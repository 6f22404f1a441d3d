"""How a Gaussian kernel is normalised: what a point is multiplied by before and after it."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeVar

    from numpy.typing import NDArray
    from torch import Tensor

    Sums = TypeVar("Sums", NDArray, Tensor)  # type: ignore[type-arg]  # of float32

_TINY = 1e-20  # keeps the factor of an isolated point finite


class NormalizationType(IntEnum):
    """Normalisations of a kernel ``G``, with the names and numbers of the authors' program.

    With ``n = 1 / (G 1)``, the filter is ``G``, ``G n``, ``n G`` or ``sqrt(n) G sqrt(n)``. After
    NORMALIZE_AFTER each point has a weighted mean of all points; after NORMALIZE_BEFORE each point
    gives away a total of 1. Without normalisation messages grow with the number of points, and the
    sums are those of the lattice: for colour images about half of the exact Gaussian's.
    """

    NO_NORMALIZATION = 0
    NORMALIZE_BEFORE = 1
    NORMALIZE_AFTER = 2
    NORMALIZE_SYMMETRIC = 3


def factors(row_sums: Sums, kind: NormalizationType, dimensions: int) -> tuple[Sums, Sums]:
    """Factors of each point before and after the lattice.

    Args:
        row_sums: What the lattice makes of ones, without the constant factor of its slices.
        kind: The normalisation.
        dimensions: Dimensions of the features. They decide that constant factor, which cancels
            unless there is no normalisation.

    Example:
        >>> import numpy as np
        >>> factors(np.array([4.0]), NormalizationType.NORMALIZE_AFTER, 2)
        (array([1.]), array([0.25]))
        >>> factors(np.array([4.0]), NormalizationType.NO_NORMALIZATION, 2)
        (array([1.]), array([0.8]))
    """
    ones = row_sums**0
    if kind is NormalizationType.NO_NORMALIZATION:
        return ones, ones / (1 + 2.0**-dimensions)
    if kind is NormalizationType.NORMALIZE_SYMMETRIC:
        norms = 1.0 / (row_sums + _TINY) ** 0.5
        return norms, norms
    norms = 1.0 / (row_sums + _TINY)
    return (norms, ones) if kind is NormalizationType.NORMALIZE_BEFORE else (ones, norms)
