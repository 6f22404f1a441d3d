"""Mean-field inference over permutohedral lattices, on the CPU.

One iteration takes every pixel from its row of logits to its row of marginals and on to the
vertices of the lattices. Done one after the other, each splat, slice and softmax is a walk
through memory. Here all lattices together form one table of vertices, a pixel has the corners of
all its simplices in one list, and a single walk over the pixels slices the messages of the last
iteration, takes the softmax, and splats the new marginals, which are not written down before the
end. Between two walks the vertices are blurred where they lie.

References:
    Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
    Potentials", NeurIPS 2011, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.base.arrays import Floats
from pipeline.masks.crf.channels import Channels, at_least_one_block, talking_at_first
from pipeline.masks.crf.compilation import kernel, vector_kernel
from pipeline.masks.crf.lattice import Lattice
from pipeline.masks.crf.vectors import all_max, all_sum, exp, load, maximum, spread, store
from pipeline.masks.crf.workspace import Workspace

_BLOCK = 8  # pixels from slice to splat: their rows stay in the nearest cache
_QUIET = 3e-4  # a label with marginals below is muted
_HARMLESS = 1.2e-6  # change of a marginal by muting, see pipeline.masks.crf.channels
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_workspace = Workspace()


def mean_field(
    lattices: Sequence[Lattice], compats: Sequence[Floats], unary: Floats, iterations: int
) -> Floats:
    """Marginals after ``iterations`` of ``Q = softmax(-unary + sum_k compat_k (K_k Q))``.

    The start is ``Q = softmax(-unary)``: one more step, without messages.

    Args:
        lattices: One filter ``K_k`` for each kernel, all of the same N points.
        compats: For each kernel float32 [L, L].
        unary: float32 [L, N], finite.
        iterations: 0 or more.

    Returns:
        float32 [L, N], sum 1 over the labels.
    """
    points = unary.shape[1]
    unary = at_least_one_block(np.ascontiguousarray(unary, dtype=np.float32))
    graph = _join(lattices, compats)
    channels = talking_at_first(unary, _quiet_below(compats))
    logits, rest = channels.pack(unary)
    messages = _workspace.array("messages", (graph.ends[-1], channels.size), np.float32)
    sums = _workspace.array("sums", messages.shape, np.float32)
    messages.fill(_ZERO)
    for left in range(iterations, -1, -1):
        sums.fill(_ZERO)
        peaks = np.zeros(channels.size, dtype=np.float32)
        _walk(
            *(logits, graph.corners, graph.weights, messages, sums, channels.voices, peaks),
            *(left == 0, channels.shape, (0,) * graph.corners.shape[1]),
        )
        if left == 0:
            break
        fewer = channels.without(peaks <= channels.eps)
        if fewer is not None:
            messages, sums = _narrowed(messages, sums, channels, fewer)
            channels = fewer
            logits, rest = channels.pack(unary)
        messages, sums = sums, messages
        _blur(messages, graph.chains, channels.shape)
        _mix(messages, graph, channels)
    return channels.unpack(logits, rest, unary)[:, :points]


class _Graph(NamedTuple):
    """All lattices as one: their vertices are numbered through, lattice after lattice."""

    corners: NDArray[np.int32]  # [N, C], of all simplices of a pixel
    weights: Floats  # [N, C]; splat and slice both apply it, so a compat is in it as its root
    chains: NDArray[np.int32]
    ends: list[int]  # vertices before the first lattice, up to its end, up to the end of the next
    mixing: list[Floats | None]  # for each lattice the compat that is not in the weights


def _join(lattices: Sequence[Lattice], compats: Sequence[Floats]) -> _Graph:
    columns = np.cumsum([0, *(lattice.weights.shape[1] for lattice in lattices)])
    ends = np.cumsum([0, *(lattice.vertices for lattice in lattices)])
    corners = _workspace.array("corners", (lattices[0].points, columns[-1]), np.int32)
    weights = _workspace.array("weights", corners.shape, np.float32)
    chains: list[NDArray[np.int32]] = []
    mixing: list[Floats | None] = []
    for k, (lattice, compat) in enumerate(zip(lattices, compats, strict=True)):
        root = _root(compat)
        mixing.append(compat if root is None else None)
        first, column = np.int32(ends[k]), columns[k]
        scale = np.float32(1 if root is None else root)
        _gather(
            *(lattice.simplex, lattice.corners, lattice.weights, lattice.norms * scale, first),
            *(corners, weights, column, (0,) * lattice.weights.shape[1]),
        )
        chains.append(lattice.chains + np.where(lattice.chains < 0, -first, first))
    return _Graph(corners, weights, np.concatenate(chains), ends.tolist(), mixing)


def _root(compat: Floats) -> float | None:
    """The root of a Potts weight >= 0; None for any other compat."""
    weight = float(compat[0, 0])
    potts = weight >= 0 and np.array_equal(compat, weight * np.eye(len(compat), dtype=np.float32))
    return math.sqrt(weight) if potts else None


def _quiet_below(compats: Sequence[Floats]) -> float:
    """The marginal below which muting is harmless; 0 where a label listens to other ones."""
    if any(np.count_nonzero(compat - np.diag(np.diag(compat))) for compat in compats):
        return 0.0
    total = sum(float(np.abs(compat).max()) for compat in compats)
    return min(_QUIET, math.sqrt(_HARMLESS / total)) if total > 0 else _QUIET


def _narrowed(
    messages: Floats, sums: Floats, channels: Channels, fewer: Channels
) -> tuple[Floats, Floats]:
    """The same memory with the shorter rows of ``fewer``, and what ``sums`` holds moved there."""
    kept = np.flatnonzero(np.isin(channels.talking, fewer.talking))
    shape = (len(sums), fewer.size)
    _narrow(sums.reshape(-1), channels.size, kept, fewer.size)
    return np.ndarray(shape, np.float32, messages), np.ndarray(shape, np.float32, sums)


def _mix(messages: Floats, graph: _Graph, channels: Channels) -> None:
    """Apply those compats that are not in the weights, vertex by vertex."""
    for k, compat in enumerate(graph.mixing):
        if compat is not None:
            talking, matrix = channels.talking, np.zeros((channels.size,) * 2, np.float32)
            matrix[: len(talking), : len(talking)] = compat[np.ix_(talking, talking)].T
            _multiply(messages[graph.ends[k] : graph.ends[k + 1]], matrix, channels.shape)


@kernel
def _gather(
    simplex: Any,
    vertices: Any,
    shares: Any,
    scales: Any,
    first: Any,
    corners: Any,
    weights: Any,
    column: Any,
    sides: Any,
) -> None:
    """Write the corners of each point and their scaled weights, from ``column`` on."""
    for point in range(len(simplex)):
        for r in range(len(sides)):
            corners[point, column + r] = vertices[simplex[point], r] + first
            weights[point, column + r] = shares[point, r] * scales[point]


@njit(inline="always")
def _softmax(row: Any) -> Any:
    powers = exp(row - all_max(row))
    return powers * (spread(_ONE, row) / all_sum(powers))


@vector_kernel
def _walk(
    logits: Any,
    corners: Any,
    weights: Any,
    messages: Any,
    sums: Any,
    voices: Any,
    peaks: Any,
    last: Any,
    shape: Any,
    sides: Any,
) -> None:
    """One step of the mean field at every pixel.

    Slice ``messages`` onto the logits, take the softmax, and splat it to ``sums``; or, in the last
    step, put it in the place of the logits. ``peaks`` becomes the largest marginal of each
    channel. A row times ``voices`` is what is sent. ``sides`` counts the corners of a pixel by its
    length, so that the loops over them are unrolled.
    """
    size, count = len(shape) * len(shape[0]), len(sides)
    corner, weight = corners.reshape(-1), weights.reshape(-1)
    block = np.empty(_BLOCK * size, np.float32)
    peak, voice = load(peaks, 0, shape), load(voices, 0, shape)
    for start in range(0, len(corners), _BLOCK):
        width = min(_BLOCK, len(corners) - start)
        for p in range(width):
            row = load(logits, (start + p) * size, shape)
            for k in range(count):
                i = (start + p) * count + k
                vertex = load(messages, np.intp(corner[i]) * size, shape)
                row = row + spread(weight[i], shape) * vertex
            store(block, p * size, row)
        for p in range(width):
            row = _softmax(load(block, p * size, shape))
            peak = maximum(peak, row)
            store(block, p * size, row)
        for p in range(width):
            row = load(block, p * size, shape)
            if last:
                store(logits, (start + p) * size, row)
                continue
            row = row * voice
            for k in range(count):
                i = (start + p) * count + k
                at = np.intp(corner[i]) * size
                store(sums, at, load(sums, at, shape) + spread(weight[i], shape) * row)
    store(peaks, 0, peak)


@vector_kernel
def _blur(values: Any, chains: Any, shape: Any) -> None:
    """To each vertex half of its two neighbours, direction after direction, in place.

    Along a line every row is read once, as the neighbour ahead, and written once, after which its
    old value is still at hand as the neighbour behind.
    """
    size = len(shape) * len(shape[0])
    nothing, half = spread(_ZERO, shape), spread(_HALF, shape)
    vertex = ~np.intp(chains[0])
    behind, old = nothing, load(values, vertex * size, shape)
    for i in range(1, len(chains)):
        following = np.intp(chains[i])
        if following >= 0:
            ahead = load(values, following * size, shape)
            store(values, vertex * size, old + half * (behind + ahead))
            behind, old, vertex = old, ahead, following
        else:  # the first of the next line
            store(values, vertex * size, old + half * behind)
            vertex = ~following
            behind, old = nothing, load(values, vertex * size, shape)


@vector_kernel
def _multiply(values: Any, transposed: Any, shape: Any) -> None:
    """Each row of ``values`` becomes a matrix times that row."""
    size = len(shape) * len(shape[0])
    for vertex in range(len(values)):
        row = spread(_ZERO, shape)
        for i in range(size):
            column = load(transposed, i * size, shape)
            row = row + spread(values[vertex, i], shape) * column
        store(values, vertex * size, row)


@kernel
def _narrow(values: Any, size: Any, kept: Any, narrow: Any) -> None:
    """Rows of ``size`` become rows of ``narrow``, in place: the channels ``kept``, then zeros."""
    for vertex in range(len(values) // size):
        for i in range(len(kept)):
            values[vertex * narrow + i] = values[vertex * size + kept[i]]
        for i in range(len(kept), narrow):
            values[vertex * narrow + i] = _ZERO
