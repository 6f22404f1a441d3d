"""Large photos in overlapping tiles, whose probabilities fade into each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.base.arrays import Floats, Pixels
from pipeline.base.errors import ConfigError

STRIDE = 32  # tiles begin at multiples of it, so that a network samples a photo as if whole


@dataclass(frozen=True)
class Tiling:
    """How a photo is cut.

    Attributes:
        side: Side of a tile in pixels, a multiple of 32, at least 64.
        overlap: Share of a side that neighbours have in common at least, in [0, 0.9].

    Raises:
        ConfigError: A value is out of its range.

    Example:
        >>> list(Tiling(64, 0.25).starts(150))
        [0, 32, 64, 96]
    """

    side: int = 512
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if self.side < 2 * STRIDE or self.side % STRIDE:
            raise ConfigError(
                f"tile: {self.side} px. Choose a multiple of {STRIDE} from {2 * STRIDE}."
            )
        if not 0 <= self.overlap <= 0.9:
            raise ConfigError(f"overlap: {self.overlap}. Choose a share from 0 to 0.9.")

    @property
    def step(self) -> int:
        """Distance of neighbouring tiles in pixels, a multiple of 32."""
        return max(int(self.side * (1 - self.overlap)) // STRIDE, 1) * STRIDE

    def starts(self, length: int) -> Iterator[int]:
        """Where tiles begin along a side of a photo; the last one may be shorter."""
        yield 0
        start = self.step
        while start - self.step + self.side < length:
            yield start
            start += self.step


def ramp(length: int, *, rises: int, falls: int) -> Floats:
    """Weights of a tile along one side: they rise from and fall to almost 0 where tiles overlap.

    Args:
        length: Length of the tile, px.
        rises: Pixels shared with the tile before; 0 for the first one.
        falls: Pixels shared with the tile after; 0 for the last one.

    Example:
        >>> ramp(6, rises=2, falls=0).round(2).tolist()
        [0.25, 0.75, 1.0, 1.0, 1.0, 1.0]
    """
    weights = np.ones(length, np.float32)
    if rises:
        weights[:rises] *= _slope(rises)
    if falls:
        weights[length - falls :] *= _slope(falls)[::-1]
    return weights


def _slope(length: int) -> Floats:
    return (np.arange(length, dtype=np.float32) + np.float32(0.5)) / np.float32(length)


def bands(
    height: int,
    width: int,
    tiling: Tiling,
    read: Callable[[slice, slice], Pixels],
    probabilities: Callable[[Pixels], Floats],
    planes: int,
) -> Iterator[tuple[slice, Floats]]:
    """Blended probabilities from top to bottom, in bands that are finished.

    Memory is bounded by a row of tiles, not by the photo.

    Args:
        height: Height of the photo, px.
        width: Width of the photo, px.
        tiling: How it is cut.
        read: The pixels of some rows and columns.
        probabilities: Those of a tile, float32 [planes, h, w].
        planes: Number of labels.

    Yields:
        Rows, and the probabilities [planes, rows, width] in them.
    """
    rows = list(tiling.starts(height))
    weighted = np.zeros((planes, tiling.side, width), np.float32)
    total = np.zeros((tiling.side, width), np.float32)
    for index, top in enumerate(rows):
        bottom = min(top + tiling.side, height)
        shared = (_shared(rows, index, tiling, height), _shared(rows, index + 1, tiling, height))
        down = ramp(bottom - top, rises=shared[0], falls=shared[1])
        for columns, across in _columns(width, tiling):
            weights = down[:, None] * across
            tile = probabilities(read(slice(top, bottom), columns))
            weighted[:, : bottom - top, columns] += tile * weights
            total[: bottom - top, columns] += weights
        end = rows[index + 1] if index + 1 < len(rows) else height
        ready = end - top
        yield slice(top, end), weighted[:, :ready] / total[:ready]
        weighted, total = _moved(weighted, ready), _moved(total, ready)


def _moved(values: Floats, rows: int) -> Floats:
    """The same values ``rows`` further up, with zeros below."""
    moved = np.zeros_like(values)
    kept = values.shape[-2] - rows
    moved[..., :kept, :] = values[..., rows:, :]
    return moved


def _columns(width: int, tiling: Tiling) -> Iterator[tuple[slice, Floats]]:
    starts = list(tiling.starts(width))
    for index, left in enumerate(starts):
        right = min(left + tiling.side, width)
        rises = _shared(starts, index, tiling, width)
        falls = _shared(starts, index + 1, tiling, width)
        yield slice(left, right), ramp(right - left, rises=rises, falls=falls)


def _shared(starts: list[int], index: int, tiling: Tiling, length: int) -> int:
    """Pixels that tile ``index`` shares with the one before it; 0 if one of them is none."""
    if index == 0 or index >= len(starts):
        return 0
    return min(starts[index - 1] + tiling.side, length) - starts[index]


def blended(
    image: Pixels,
    tiling: Tiling,
    probabilities: Callable[[Pixels], Floats],
    size: tuple[int, int, int],
) -> Floats:
    """Probabilities [planes, H, W] of a photo that is predicted in tiles."""
    planes, height, width = size
    found = np.empty(size, np.float32)

    def read(rows: slice, columns: slice) -> Pixels:
        return image[rows, columns]

    for rows, band in bands(height, width, tiling, read, probabilities, planes):
        found[:, rows] = band
    return found
