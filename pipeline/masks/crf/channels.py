"""Which labels travel through the mean field, and the rows of channels that carry them.

Labels come as planes, [L, N]. The mean field wants one row per pixel, as wide as a whole number
of vector registers. An image seldom holds more than a few of many labels, though. A label whose
marginal is below ``eps`` at every pixel sends messages of at most about ``compat * eps``, to
itself only, and only to pixels where its share is below ``eps``: leaving them out changes
marginals by about ``compat * eps^2``. Such quiet labels are *muted*. All of them share one
channel, with the sum of their probabilities, which keeps its place in the softmax and sends no
message.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.base.arrays import Floats
from pipeline.masks.crf.compilation import vector_kernel
from pipeline.masks.crf.vectors import exp, load, minimum, row_shape, spread, store
from pipeline.masks.crf.workspace import Workspace

Indices = NDArray[np.int64]

_PIXELS = 16  # handled together, one per lane
_LANES = row_shape(_PIXELS)
_NEVER = np.float32(-1e30)  # logit of a channel that pads a row
_LEAST = np.float32(1e-30)  # its logarithm stands for that of zero
_workspace = Workspace()


@dataclass(frozen=True)
class Channels:
    """The labels that talk, and those that are muted.

    Attributes:
        talking: Labels with a channel each, in the order of the channels.
        muted: Labels that share the channel after them; there is none without such labels.
        eps: A label is quiet if its marginal is nowhere above.
    """

    talking: Indices
    muted: Indices
    eps: float

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """The shape of a row, for :mod:`pipeline.masks.crf.vectors`."""
        return row_shape(len(self.talking) + (len(self.muted) > 0))

    @property
    def size(self) -> int:
        """The number of floats in a row."""
        return len(self.shape) * len(self.shape[0])

    @property
    def voices(self) -> Floats:
        """A row with 1 where a channel sends messages and 0 elsewhere."""
        return (np.arange(self.size) < len(self.talking)).astype(np.float32)

    def without(self, quiet: NDArray[np.bool_]) -> Channels | None:
        """Mute the labels with a quiet channel; None if that would not make rows shorter."""
        quiet = quiet[: len(self.talking)]
        muted = np.concatenate([self.muted, self.talking[quiet]])
        fewer = Channels(self.talking[~quiet], muted, self.eps)
        return fewer if fewer.size < self.size else None

    def pack(self, unary: Floats) -> tuple[Floats, Floats]:
        """Rows of logits, the largest of a pixel being 0.

        Args:
            unary: [L, N], contiguous.

        Returns:
            The rows [N, size]; and for each pixel the unary that the muted labels have together,
            ``-log(sum of exp(-unary))``, [N], of no use without such labels. Both are lent until
            the next call.
        """
        points = unary.shape[1]
        rows = _workspace.array("rows", (points, self.size), np.float32)
        rest = _workspace.array("rest", (points,), np.float32)
        _pack(unary, self.talking, self.muted, rows, rest)
        return rows, rest

    def unpack(self, rows: Floats, rest: Floats, unary: Floats) -> Floats:
        """Planes [L, N] from rows of marginals; each muted label has its share of their channel."""
        planes = np.empty_like(unary)
        _unpack(rows, rest, unary, self.talking, self.muted, planes)
        return planes


def at_least_one_block(unary: Floats) -> Floats:
    """``unary`` [L, N] with points added at the end of images too small for the kernels here."""
    missing = _PIXELS - unary.shape[1]
    return np.pad(unary, ((0, 0), (0, missing))) if missing > 0 else unary


def talking_at_first(unary: Floats, eps: float) -> Channels:
    """All labels, without those that are quiet in ``softmax(-unary)``."""
    everyone = Channels(np.arange(len(unary)), np.arange(0), eps)
    if eps == 0 or everyone.size <= 4:
        return everyone
    # A pixel's marginal is at most exp(-gap), the gap being the distance to its lowest unary.
    gaps = np.full((len(unary), _PIXELS), np.inf, dtype=np.float32)
    _lower_to_gaps(unary, gaps)
    return everyone.without(gaps.min(axis=1) > -math.log(eps)) or everyone


@vector_kernel
def _lower_to_gaps(unary: Any, gaps: Any) -> None:
    """``gaps[l]`` becomes the least of itself and ``unary[l] - min over labels``, in 16 parts."""
    labels, points = unary.shape
    for first in range(0, points, _PIXELS):
        start = min(first, points - _PIXELS)  # the last block overlaps the one before
        lowest = _lowest(unary, start)
        for label in range(labels):
            gap = load(unary, label * points + start, _LANES) - lowest
            store(gaps, label * _PIXELS, minimum(gap, load(gaps, label * _PIXELS, _LANES)))


@vector_kernel
def _pack(unary: Any, talking: Any, muted: Any, rows: Any, rest: Any) -> None:
    """Fill ``rows`` and ``rest``, see ``Channels.pack``: a pixel in each lane, then transposed."""
    points, size, last = unary.shape[1], rows.shape[1], len(talking)
    block = np.full((size, _PIXELS), _NEVER, np.float32)
    mass = np.empty(_PIXELS, np.float32)
    for first in range(0, points, _PIXELS):
        start = min(first, points - _PIXELS)
        lowest = _lowest(unary, start)
        for i in range(last):
            logit = lowest - load(unary, talking[i] * points + start, _LANES)
            store(block, i * _PIXELS, logit)
        if len(muted) > 0:
            total = spread(_LEAST, _LANES)
            for label in muted:
                total = total + exp(lowest - load(unary, label * points + start, _LANES))
            store(mass, 0, total)
            store(rest, start, lowest)
            for p in range(_PIXELS):
                block[last, p] = np.log(mass[p])
                rest[start + p] -= block[last, p]
        for p in range(_PIXELS):
            for i in range(size):
                rows[start + p, i] = block[i, p]


@vector_kernel
def _unpack(rows: Any, rest: Any, unary: Any, talking: Any, muted: Any, planes: Any) -> None:
    """Fill ``planes``, see ``Channels.unpack``."""
    points, last = unary.shape[1], len(talking)
    block = np.empty((last + 1, _PIXELS), np.float32)
    for first in range(0, points, _PIXELS):
        start = min(first, points - _PIXELS)
        for i in range(last + (len(muted) > 0)):
            for p in range(_PIXELS):
                block[i, p] = rows[start + p, i]
        for i in range(last):
            store(planes, talking[i] * points + start, load(block, i * _PIXELS, _LANES))
        for label in muted:
            share = exp(load(rest, start, _LANES) - load(unary, label * points + start, _LANES))
            together = load(block, last * _PIXELS, _LANES)
            store(planes, label * points + start, share * together)


@njit(inline="always")
def _lowest(unary: Any, start: Any) -> Any:
    """The minimum over the labels at 16 pixels."""
    lowest = load(unary, start, _LANES)
    for label in range(1, len(unary)):
        lowest = minimum(lowest, load(unary, label * unary.shape[1] + start, _LANES))
    return lowest
