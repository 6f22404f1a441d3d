"""Mean-field inference over permutohedral lattices, on the CPU.

One iteration computes the marginals of every pixel from its logits and adds them to the vertices
of the lattices. If splat, slice and softmax are separate passes, each one reads and writes the
whole memory. Here the vertices of all lattices form one table, and a pixel has the corners of all
its simplices in one list. A single pass over the pixels slices the messages of the last
iteration, takes the softmax, and splats the new marginals, which are stored only in the last
iteration. Between two passes the vertices are blurred in place.

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
from pipeline.masks.crf.channels import Channels, at_least_one_block, initial_channels
from pipeline.masks.crf.compilation import kernel, vector_kernel
from pipeline.masks.crf.lattice import Lattice
from pipeline.masks.crf.normalization import NormalizationType
from pipeline.masks.crf.vectors import all_max, all_sum, exp, load, maximum, spread, store
from pipeline.masks.crf.workspace import Workspace

_BLOCK = 8  # pixels processed from slice to splat, so that their rows stay in the L1 cache
_LARGEST_MUTED = 3e-4  # upper limit of the marginals of a muted label
_TOLERANCE = 1.2e-6  # accepted change of a marginal by muting, see pipeline.masks.crf.channels
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_workspace = Workspace()


def mean_field(
    lattices: Sequence[Lattice], compats: Sequence[Floats], unary: Floats, iterations: int
) -> Floats:
    """Marginals after ``iterations`` of ``Q = softmax(-unary + sum_k compat_k (K_k Q))``.

    The start is ``Q = softmax(-unary)``: an additional step without messages.

    Args:
        lattices: One filter ``K_k`` for each kernel, all over the same N points.
        compats: One matrix float32 [L, L] for each kernel.
        unary: float32 [L, N], finite.
        iterations: 0 or more.

    Returns:
        float32 [L, N], sum 1 over the labels.
    """
    points = unary.shape[1]
    unary = at_least_one_block(np.ascontiguousarray(unary, dtype=np.float32))
    graph = _join(lattices, compats)
    bounded = all(_is_symmetric(lattice) for lattice in lattices)  # each message, by its compat
    channels = initial_channels(unary, _muting_threshold(compats) if bounded else 0.0)
    logits, rest = channels.pack(unary)
    messages = _workspace.array("messages", (graph.ends[-1], channels.size), np.float32)
    sums = _workspace.array("sums", messages.shape, np.float32)
    messages.fill(_ZERO)
    for left in range(iterations, -1, -1):
        sums.fill(_ZERO)
        peaks = np.zeros(channels.size, dtype=np.float32)
        _walk(
            *(
                logits,
                graph.corners,
                graph.splat,
                graph.slice,
                messages,
                sums,
                channels.sending,
                peaks,
            ),
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
    """All lattices as one: their vertices are numbered consecutively, lattice after lattice."""

    corners: NDArray[np.int32]  # [N, C], the corners of all simplices of a pixel
    splat: Floats  # [N, C], weights including the square root of compat
    slice: Floats  # [N, C], likewise; the same array if all lattices are normalised symmetrically
    chains: NDArray[np.int32]
    ends: list[int]  # 0, and the cumulative number of vertices after each lattice
    mixing: list[Floats | None]  # the compat of each lattice, or None if the weights include it


def _join(lattices: Sequence[Lattice], compats: Sequence[Floats]) -> _Graph:
    columns = np.cumsum([0, *(lattice.weights.shape[1] for lattice in lattices)])
    ends = np.cumsum([0, *(lattice.vertices for lattice in lattices)])
    corners = _workspace.array("corners", (lattices[0].points, columns[-1]), np.int32)
    names = ("splat",) if all(map(_is_symmetric, lattices)) else ("splat", "slice")
    weights = [_workspace.array(name, corners.shape, np.float32) for name in names]
    chains: list[NDArray[np.int32]] = []
    mixing: list[Floats | None] = []
    for k, (lattice, compat) in enumerate(zip(lattices, compats, strict=True)):
        root = _root(compat)
        mixing.append(compat if root is None else None)
        first, column = np.int32(ends[k]), columns[k]
        scale = np.float32(1 if root is None else root)
        for factors, table in zip((lattice.before, lattice.after), weights, strict=False):
            _gather(
                *(lattice.simplex, lattice.corners, lattice.weights, factors * scale, first),
                *(corners, table, column, (0,) * lattice.weights.shape[1]),
            )
        chains.append(lattice.chains + np.where(lattice.chains < 0, -first, first))
    return _Graph(corners, weights[0], weights[-1], np.concatenate(chains), ends.tolist(), mixing)


def _is_symmetric(lattice: Lattice) -> bool:
    return lattice.normalization is NormalizationType.NORMALIZE_SYMMETRIC


def _root(compat: Floats) -> float | None:
    """The square root of a Potts weight >= 0; None for any other compat."""
    weight = float(compat[0, 0])
    potts = weight >= 0 and np.array_equal(compat, weight * np.eye(len(compat), dtype=np.float32))
    return math.sqrt(weight) if potts else None


def _muting_threshold(compats: Sequence[Floats]) -> float:
    """The largest marginal of a label that may be muted; 0 if labels influence each other."""
    if any(np.count_nonzero(compat - np.diag(np.diag(compat))) for compat in compats):
        return 0.0
    total = sum(float(np.abs(compat).max()) for compat in compats)
    return min(_LARGEST_MUTED, math.sqrt(_TOLERANCE / total)) if total > 0 else _LARGEST_MUTED


def _narrowed(
    messages: Floats, sums: Floats, channels: Channels, fewer: Channels
) -> tuple[Floats, Floats]:
    """Both arrays with the shorter rows of ``fewer``, in the same memory; ``sums`` is kept."""
    kept = np.flatnonzero(np.isin(channels.active, fewer.active))
    shape = (len(sums), fewer.size)
    _narrow(sums.reshape(-1), channels.size, kept, fewer.size)
    return np.ndarray(shape, np.float32, messages), np.ndarray(shape, np.float32, sums)


def _mix(messages: Floats, graph: _Graph, channels: Channels) -> None:
    """Apply the compats that the weights do not include, vertex by vertex."""
    for k, compat in enumerate(graph.mixing):
        if compat is not None:
            active, matrix = channels.active, np.zeros((channels.size,) * 2, np.float32)
            matrix[: len(active), : len(active)] = compat[np.ix_(active, active)].T
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
    """Write the corners of each point and their scaled weights, starting at ``column``."""
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
    splat: Any,
    slices: Any,
    messages: Any,
    sums: Any,
    sending: Any,
    peaks: Any,
    last: Any,
    shape: Any,
    sides: Any,
) -> None:
    """One step of the mean field at every pixel.

    Slice ``messages``, add the logits, take the softmax and splat it into ``sums``; in the last
    step it replaces the logits instead. ``peaks`` receives the largest marginal of each channel.
    Rows are multiplied by ``sending`` before the splat. The length of ``sides`` is the number of
    corners of a pixel, a constant at compile time, so that loops over them are unrolled.
    """
    size, count = len(shape) * len(shape[0]), len(sides)
    corner, giving, taking = corners.reshape(-1), splat.reshape(-1), slices.reshape(-1)
    block = np.empty(_BLOCK * size, np.float32)
    peak, mask = load(peaks, 0, shape), load(sending, 0, shape)
    for start in range(0, len(corners), _BLOCK):
        width = min(_BLOCK, len(corners) - start)
        for p in range(width):
            row = load(logits, (start + p) * size, shape)
            for k in range(count):
                i = (start + p) * count + k
                vertex = load(messages, np.intp(corner[i]) * size, shape)
                row = row + spread(taking[i], shape) * vertex
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
            row = row * mask
            for k in range(count):
                i = (start + p) * count + k
                at = np.intp(corner[i]) * size
                store(sums, at, load(sums, at, shape) + spread(giving[i], shape) * row)
    store(peaks, 0, peak)


@vector_kernel
def _blur(values: Any, chains: Any, shape: Any) -> None:
    """Add half of both neighbours to each vertex, direction after direction, in place.

    Along a line every row is read once, as the next neighbour, and written once; its old value is
    kept in registers, as the previous neighbour of the row after it.
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
        else:  # the first vertex of the next line
            store(values, vertex * size, old + half * behind)
            vertex = ~following
            behind, old = nothing, load(values, vertex * size, shape)


@vector_kernel
def _multiply(values: Any, transposed: Any, shape: Any) -> None:
    """Multiply each row of ``values`` by a matrix."""
    size = len(shape) * len(shape[0])
    for vertex in range(len(values)):
        row = spread(_ZERO, shape)
        for i in range(size):
            column = load(transposed, i * size, shape)
            row = row + spread(values[vertex, i], shape) * column
        store(values, vertex * size, row)


@kernel
def _narrow(values: Any, size: Any, kept: Any, narrow: Any) -> None:
    """Shorten rows from ``size`` to ``narrow`` in place: the channels ``kept``, then zeros."""
    for vertex in range(len(values) // size):
        for i in range(len(kept)):
            values[vertex * narrow + i] = values[vertex * size + kept[i]]
        for i in range(len(kept), narrow):
            values[vertex * narrow + i] = _ZERO
