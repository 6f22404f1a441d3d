"""Which labels have a channel in the mean field, and the rows of channels.

Labels come as planes, [L, N]. The mean field needs one row per pixel, whose width is a whole
number of vector registers. An image seldom shows more than a few of many labels, however. A label
whose marginal is at most ``eps`` at every pixel sends messages of at most about ``compat * eps``,
only to itself, and only at pixels where its marginal is below ``eps``: omitting them changes
marginals by about ``compat * eps^2``. Such labels are *muted*. They share one channel, which
holds the sum of their probabilities; it takes part in the softmax but sends no messages.
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

_PIXELS = 16  # processed together, one per lane
_LANES = row_shape(_PIXELS)
_NEVER = np.float32(-1e30)  # logit of a padding channel
_LEAST = np.float32(1e-30)  # added to a sum of probabilities so that its logarithm is finite
_workspace = Workspace()


@dataclass(frozen=True)
class Channels:
    """The active labels, which send messages, and the muted ones, which do not.

    Attributes:
        active: Labels with a channel of their own, in the order of the channels.
        muted: Labels that share the channel after those; without muted labels it does not exist.
        eps: Labels whose marginal is nowhere greater than this may be muted.
    """

    active: Indices
    muted: Indices
    eps: float

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """The shape of a row, for :mod:`pipeline.masks.crf.vectors`."""
        return row_shape(len(self.active) + (len(self.muted) > 0))

    @property
    def size(self) -> int:
        """Number of floats in a row."""
        return len(self.shape) * len(self.shape[0])

    @property
    def sending(self) -> Floats:
        """A row with 1 for channels that send messages and 0 for the others."""
        return (np.arange(self.size) < len(self.active)).astype(np.float32)

    def without(self, mute: NDArray[np.bool_]) -> Channels | None:
        """Mute the labels of some channels; None if that would not make rows shorter."""
        silenced = mute[: len(self.active)]
        muted = np.concatenate([self.muted, self.active[silenced]])
        fewer = Channels(self.active[~silenced], muted, self.eps)
        return fewer if fewer.size < self.size else None

    def pack(self, unary: Floats) -> tuple[Floats, Floats]:
        """Rows of logits, shifted so that the largest logit of a pixel is 0.

        Args:
            unary: [L, N], contiguous.

        Returns:
            The rows [N, size], and the joint unary of the muted labels at each pixel,
            ``-log(sum of exp(-unary))``, [N], meaningless without muted labels. Both arrays are
            overwritten by the next call.
        """
        points = unary.shape[1]
        rows = _workspace.array("rows", (points, self.size), np.float32)
        rest = _workspace.array("rest", (points,), np.float32)
        _pack(unary, self.active, self.muted, rows, rest)
        return rows, rest

    def unpack(self, rows: Floats, rest: Floats, unary: Floats) -> Floats:
        """Planes [L, N] from rows of marginals; muted labels divide up their common channel."""
        planes = np.empty_like(unary)
        _unpack(rows, rest, unary, self.active, self.muted, planes)
        return planes


def at_least_one_block(unary: Floats) -> Floats:
    """``unary`` [L, N], padded at the end if the image is too small for the kernels here."""
    missing = _PIXELS - unary.shape[1]
    return np.pad(unary, ((0, 0), (0, missing))) if missing > 0 else unary


def initial_channels(unary: Floats, eps: float) -> Channels:
    """All labels; those with small marginals ``softmax(-unary)`` everywhere are muted."""
    all_active = Channels(np.arange(len(unary)), np.arange(0), eps)
    if eps == 0 or all_active.size <= 4:
        return all_active
    # A label's marginal is at most exp(-gap), the gap being its unary less the lowest one.
    gaps = np.full((len(unary), _PIXELS), np.inf, dtype=np.float32)
    _lower_to_gaps(unary, gaps)
    return all_active.without(gaps.min(axis=1) > -math.log(eps)) or all_active


@vector_kernel
def _lower_to_gaps(unary: Any, gaps: Any) -> None:
    """Lower ``gaps[l]`` to the minimum of ``unary[l] - min over labels``, in 16 lanes."""
    labels, points = unary.shape
    for first in range(0, points, _PIXELS):
        start = min(first, points - _PIXELS)  # the last block overlaps the previous one
        lowest = _lowest(unary, start)
        for label in range(labels):
            gap = load(unary, label * points + start, _LANES) - lowest
            store(gaps, label * _PIXELS, minimum(gap, load(gaps, label * _PIXELS, _LANES)))


@vector_kernel
def _pack(unary: Any, active: Any, muted: Any, rows: Any, rest: Any) -> None:
    """Fill ``rows`` and ``rest``, see ``Channels.pack``: one pixel per lane, then transposed."""
    points, size, last = unary.shape[1], rows.shape[1], len(active)
    block = np.full((size, _PIXELS), _NEVER, np.float32)
    mass = np.empty(_PIXELS, np.float32)
    for first in range(0, points, _PIXELS):
        start = min(first, points - _PIXELS)
        lowest = _lowest(unary, start)
        for i in range(last):
            logit = lowest - load(unary, active[i] * points + start, _LANES)
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
def _unpack(rows: Any, rest: Any, unary: Any, active: Any, muted: Any, planes: Any) -> None:
    """Fill ``planes``, see ``Channels.unpack``."""
    points, last = unary.shape[1], len(active)
    block = np.empty((last + 1, _PIXELS), np.float32)
    for first in range(0, points, _PIXELS):
        start = min(first, points - _PIXELS)
        for i in range(last + (len(muted) > 0)):
            for p in range(_PIXELS):
                block[i, p] = rows[start + p, i]
        for i in range(last):
            store(planes, active[i] * points + start, load(block, i * _PIXELS, _LANES))
        for label in muted:
            share = exp(load(rest, start, _LANES) - load(unary, label * points + start, _LANES))
            together = load(block, last * _PIXELS, _LANES)
            store(planes, label * points + start, share * together)


@njit(inline="always")
def _lowest(unary: Any, start: Any) -> Any:
    """The minimum over the labels at each of 16 pixels."""
    lowest = load(unary, start, _LANES)
    for label in range(1, len(unary)):
        lowest = minimum(lowest, load(unary, label * unary.shape[1] + start, _LANES))
    return lowest
