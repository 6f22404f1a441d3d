"""Polygons along the edges of pixels, and back to pixels without loss."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import BoolImage
from pipeline.formats.instances import Instance

Ring = NDArray[np.float64]
"""Corners x, y of a closed line, [N, 2]; pixel (row, column) covers [column, column + 1] in x."""

_Point = tuple[int, int]
_AT_ONCE = 2**22  # crossings of edges and rows in memory; a file can have any number
_BLOCK = 1024  # corners that are compared at once
_FARTHEST = 1e7  # from the image, px


def rings(pixels: BoolImage) -> list[Ring]:
    """The outline of an object and those of its holes, along the edges of its pixels.

    Args:
        pixels: One object whose pixels share edges or corners.

    Returns:
        The outline first. Only corners are listed, and a diagonal pair of pixels is one outline.

    Example:
        >>> [ring.astype(int).tolist() for ring in rings(np.array([[True]]))]
        [[[0, 0], [1, 0], [1, 1], [0, 1]]]
    """
    ways = _edges(pixels)
    # The leftmost point that is left is never one where two pixels touch by a corner.
    found = [
        np.array(_corners(_walk(ways, start)), np.float64)
        for start in sorted(ways)
        if start in ways
    ]
    return sorted(found, key=lambda ring: -np.ptp(ring, axis=0).prod())


def _edges(pixels: BoolImage) -> dict[_Point, list[_Point]]:
    """Edges between object and background by their start; the object is on the right of each."""
    padded = np.pad(pixels, 1)
    inside = padded[1:-1, 1:-1]
    ways: dict[_Point, list[_Point]] = defaultdict(list)
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # nothing above: from left to right
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    for beside, (x0, y0), (x1, y1) in sides:
        for y, x in np.argwhere(inside & ~beside).tolist():
            ways[x + x0, y + y0].append((x + x1, y + y1))
    return ways


def _walk(ways: dict[_Point, list[_Point]], start: _Point) -> list[_Point]:
    """Take the edges of the closed line through ``start`` out of ``ways``.

    Where two pixels touch by a corner, the left turn goes on with the other pixel.
    """
    here = start
    came = (0, 0)
    line = []
    while True:
        line.append(here)
        choices = ways[here]
        there = min(choices, key=lambda to: _turn(came, here, to))
        choices.remove(there)
        if not choices:
            del ways[here]
        came, here = (there[0] - here[0], there[1] - here[1]), there
        if here == start and not ways.get(here):
            return line


def _turn(came: _Point, here: _Point, to: _Point) -> int:
    """Negative for a turn to the left, with y downwards."""
    return came[0] * (to[1] - here[1]) - came[1] * (to[0] - here[0])


def _corners(line: list[_Point]) -> list[_Point]:
    """The points at which a line changes its direction."""
    around = zip([line[-1], *line[:-1]], line, [*line[1:], line[0]], strict=True)
    return [
        here
        for before, here, after in around
        if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1])
    ]


def outline(one: Instance) -> Ring:
    """One closed line around an object, in the coordinates of its image."""
    corner = np.array([one.left, one.top], np.float64)
    return np.asarray(bridged(rings(one.pixels)) + corner, np.float64)


def bridged(outlines: Sequence[Ring]) -> Ring:
    """One closed line for an object with holes: each hole is reached by a line there and back.

    The two lines enclose no area. They join the leftmost corner of the hole with the nearest
    corner to the left of it, so that every chain of holes ends at the outline.

    Args:
        outlines: The outline first, then its holes.

    Example:
        >>> ring = np.ones((3, 3), bool)
        >>> ring[1, 1] = False
        >>> bridged(rings(ring)).astype(int).tolist()
        [[0, 0], [1, 1], [1, 2], [2, 2], [2, 1], [1, 1], [0, 0], [3, 0], [3, 3], [0, 3]]
    """
    turned = [np.roll(ring, -int(ring[:, 0].argmin()), axis=0) for ring in outlines]
    corners = np.concatenate(turned)
    ends = np.cumsum([len(ring) for ring in turned]).tolist()
    hanging = defaultdict(list)
    for first, end, at in zip(ends[:-1], ends[1:], _to_the_left(corners, ends[:-1]), strict=True):
        hanging[at].append(range(first, end))
    line, ahead = [], list(reversed(range(ends[0])))
    while ahead:
        here = ahead.pop()
        line.append(here)
        for hole in hanging.pop(here, ()):
            ahead += [here, hole[0], *reversed(hole)]
    return np.asarray(corners[line], np.float64)


def _to_the_left(corners: Ring, places: Sequence[int]) -> Iterator[int]:
    """The place of the corner nearest to each of some corners among those left of it."""
    order = corners[:, 0].argsort()
    left = corners[order]
    for place in places:
        x, y = corners[place]
        best, nearest = math.inf, -1
        end = int(np.searchsorted(left[:, 0], x))
        while end > 0 and x - left[end - 1, 0] < best:
            start = max(end - _BLOCK, 0)
            apart = np.abs(left[start:end] - (x, y)).sum(axis=1)
            if apart.min() < best:
                best, nearest = apart.min(), int(order[start + apart.argmin()])
            end = start
        yield nearest


def checked(numbers: Sequence[float], sides: tuple[float, float] = (1.0, 1.0)) -> Ring:
    """Corners out of a file.

    Args:
        numbers: x, y, x, y...
        sides: What a coordinate of 1 means in x and y, px.

    Raises:
        ValueError: They are no polygon.

    Example:
        >>> checked([0, 0, 1, 0, 1, 0.5], (8, 4)).tolist()
        [[0.0, 0.0], [8.0, 0.0], [8.0, 2.0]]
    """
    ring = np.array(numbers, np.float64).reshape(-1, 2) * sides
    if len(ring) < 3 or not (np.abs(ring) < _FARTHEST).all():
        raise ValueError("a polygon has three corners or more, near its image")
    return np.asarray(ring, np.float64)


def filled(ring: Ring, shape: tuple[int, int]) -> BoolImage:
    """Pixels whose centre is inside of a closed line, by the even-odd rule.

    Args:
        ring: Corners, also outside of the image.
        shape: Height and width of the image.

    Example:
        >>> filled(np.array([[0, 0], [2, 0], [2, 1], [0, 1.0]]), (2, 3)).astype(int).tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    height, width = shape
    flips = np.zeros(height * (width + 1), np.int64)
    ends = np.stack([ring, np.roll(ring, -1, axis=0)], axis=1)
    upwards = ends[:, 0, 1] > ends[:, 1, 1]  # so that a line there and back is the same one twice
    ends[upwards] = ends[upwards, ::-1]
    for start in range(0, len(ends), _AT_ONCE // height + 1):
        crossed = _crossed(ends[start : start + _AT_ONCE // height + 1], shape)
        flips += np.bincount(crossed, minlength=len(flips))
    inside = np.cumsum(flips.reshape(height, width + 1), axis=1) % 2 == 1
    return np.asarray(inside[:, :width], np.bool_)


def _crossed(ends: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Places in rows of width + 1 at which edges [N, 2, 2], each upwards, cross pixel centres."""
    height, width = shape
    (x0, y0), (x1, y1) = ends[:, 0].T, ends[:, 1].T
    first = np.clip(np.ceil(y0 - 0.5), 0, height).astype(np.int64)
    counts = np.clip(np.ceil(y1 - 0.5), 0, height).astype(np.int64) - first
    edge = np.repeat(np.arange(len(ends)), counts)
    rows = np.arange(len(edge)) - np.repeat(counts.cumsum() - counts, counts) + first[edge]
    slope = (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
    crossings = x0[edge] + (rows + 0.5 - y0[edge]) * slope
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)
    return np.asarray(rows * (width + 1) + columns, np.int64)
