"""Gaussian filtering and mean-field inference of the dense CRF in plain torch, on any device.

Every point is added to the d + 1 corners of the lattice simplex that contains it (splat), the
vertices are blurred along the d + 1 lattice directions, and every point is interpolated from its
corners (slice). Each of the three is a product with a sparse matrix, which ``embedding_bag``
computes. It adds in a fixed order on every device, so that the same input gives the same
marginals; atomic additions would not.

One lattice can hold several images: ``images`` keeps their vertices apart.

References:
    Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
    Eurographics 2010. Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with
    Gaussian Edge Potentials", NeurIPS 2011, algorithm 1; the order of the single-precision
    operations and the normalisations are those of their program.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.base.errors import DataError
from pipeline.masks.crf.normalization import NormalizationType, factors

Floats = TypeVar("Floats", NDArray[np.float32], Tensor)
"""A result is of the type of the argument: an array or a tensor."""

_GROUP = 4  # the authors' program processes points in fours and pads the last group with zeros
_KEY_LIMIT = 2**62  # packed vertex keys are int64
_INDEX_LIMIT = 2**31  # entries of a sparse matrix that 32-bit indices can number


class Lattice:
    """The normalised Gaussian filter of one set of points, for any number of signals.

    The filter is ``a * (G (b * signal))`` with ``G[i, j] ~ exp(-|f_i - f_j|^2 / 2)``, including
    ``i = j``. Normalised symmetrically, ``a = b = 1 / sqrt(G 1)``. It records no gradients.

    Args:
        features: Positions of the points, float32 [N, d], already divided by the standard
            deviations of the Gaussian. N >= 1, d >= 1, finite.
        images: Index of each point's image, int64 [N], 0 or more. Points of different images do
            not influence each other. None: all points belong to one image.
        device: Where to filter; None means the device of ``features`` (arrays: the CPU).
        normalization: Decides the factors ``a`` and ``b``.

    Raises:
        DataError: ``features`` has another shape or type, is empty or not finite, or spans so many
            standard deviations that vertices cannot be numbered; ``images`` is not one index for
            each point.

    Example:
        >>> points = np.array([[0.0], [0.5], [9.0]], dtype=np.float32)
        >>> Lattice(points).filter(np.ones((3, 1), dtype=np.float32)).round(1).ravel()
        array([1., 1., 1.], dtype=float32)
    """

    @torch.no_grad()
    def __init__(
        self,
        features: NDArray[np.float32] | Tensor,
        images: NDArray[np.int64] | Tensor | None = None,
        device: torch.device | str | None = None,
        normalization: NormalizationType = NormalizationType.NORMALIZE_SYMMETRIC,
    ) -> None:
        place = _tensor(features, device)
        _check_features(place)
        self.points = len(place)
        """Number of points."""
        self.device = place.device
        given = torch.zeros(self.points, dtype=torch.int64) if images is None else images
        image = _checked_images(_tensor(given, self.device), self.points)
        place, image = _filled_up(place, image)
        simplices = _enclosing_simplices(place.T.contiguous())
        simplices.weights[:, self.points :] = 0.0
        keys, strides = _pack(simplices, image)
        sides = len(keys)
        # Point by point, so that a vertex sums its points in the order of the authors' program.
        entries, order = keys.T.flatten().sort(stable=True)
        vertices, corners, lengths = entries.unique_consecutive(
            return_inverse=True, return_counts=True
        )
        self.vertices = len(vertices)
        """Number of lattice vertices that are a corner of a simplex with a point in it."""
        weights = simplices.weights.T.flatten()
        writers = (order // sides).clamp_(max=self.points - 1)
        self._splat = _Rows(writers, lengths, weights[order])
        self._blurs = [_blur(vertices, step) for step in _directions(strides)]
        self._slice = _Rows(
            torch.empty_like(corners).index_put_((order,), corners)[: self.points * sides],
            torch.full((self.points,), sides, device=self.device),
            weights[: self.points * sides],
        )
        self._normalise(normalization)

    @torch.no_grad()
    def filter(self, signal: Floats) -> Floats:
        """The filtered signal.

        Args:
            signal: float32 [N, channels], one row per point.

        Returns:
            float32 [N, channels]; a tensor is on the device of the lattice.

        Raises:
            DataError: ``signal`` does not have one row per point.
        """
        if signal.ndim != 2 or signal.shape[0] != self.points:
            raise DataError(
                f"Lattice.filter: signal is {tuple(signal.shape)} but the lattice has "
                f"{self.points} points. Pass [points, channels], in the order of the features."
            )
        return _like(signal, self._slice @ self._gathered(_tensor(signal, self.device)))

    def message(self, marginals: Tensor, compat: Tensor) -> Tensor:
        """``(K marginals) compat``; the product is taken on the vertices, where it is cheaper.

        Args:
            marginals: [N, L], on the device of the lattice.
            compat: One number for a Potts weight, or [L, L], multiplied from the right.
        """
        values = self._gathered(marginals)
        return self._slice @ (values @ compat if compat.ndim else values * compat)

    def _gathered(self, signal: Tensor) -> Tensor:
        values = self._splat @ signal
        for blur in self._blurs:
            values = blur @ values
        return values

    def _normalise(self, kind: NormalizationType) -> None:
        """Fold the factors into the weights of splat and slice."""
        sums = self._slice @ self._gathered(torch.ones(self.points, 1, device=self.device))
        before, after = factors(sums, kind, len(self._blurs) - 1)
        self._splat.weights.mul_(before[self._splat.columns.long(), 0])
        self._slice.weights.view(self.points, -1).mul_(after)


@torch.no_grad()
def mean_field(
    lattices: Sequence[Lattice],
    compats: Sequence[NDArray[np.float32] | Tensor],
    unary: Floats,
    iterations: int,
) -> Floats:
    """Marginals of a CRF: ``Q = softmax(-unary + sum_k compat_k K_k Q)``, from softmax(-unary).

    Args:
        lattices: Kernels K_k, all over the same points and on one device.
        compats: One matrix [L, L] for each kernel: the change of a label's logit (row) per unit
            of another label's filtered marginal (column). A Potts weight w is w times the
            identity.
        unary: Negative log probabilities, finite: [L, N], or [B, L, N] for a lattice over B images
            of N points each, in that order.
        iterations: Number of steps; 0 gives softmax(-unary).

    Returns:
        float32 of the shape of ``unary``, sum 1 over the labels.

    Raises:
        DataError: ``unary`` has another number of points than a lattice, or ``compats`` another
            number of labels or of kernels.

    Example:
        >>> lattice = Lattice(np.zeros((2, 1), dtype=np.float32))
        >>> unary = np.array([[0, 3], [0, 0]], dtype=np.float32)
        >>> mean_field([lattice], [9 * np.eye(2, dtype=np.float32)], unary, 5).round(2) + 0.0
        array([[0., 0.],
               [1., 1.]], dtype=float32)
    """
    _check_sizes(lattices, compats, unary)
    labels, points = unary.shape[-2:]
    device = lattices[0].device
    logits = -_tensor(unary, device).float().transpose(-2, -1).reshape(-1, labels)
    weights = [_factor(_tensor(compat, device)) for compat in compats]
    marginals = logits.softmax(1)
    for _ in range(iterations):
        total = logits
        for lattice, compat in zip(lattices, weights, strict=True):
            total = total + lattice.message(marginals, compat)
        marginals = total.softmax(1)
    shape = (*unary.shape[:-2], points, labels)
    return _like(unary, marginals.view(shape).transpose(-2, -1).contiguous())


class _Rows:
    """A sparse matrix by rows: the columns of each row and their weights."""

    def __init__(self, columns: Tensor, lengths: Tensor, weights: Tensor) -> None:
        kind = torch.int32 if len(columns) < _INDEX_LIMIT else torch.int64
        self.columns = columns.to(kind)
        self.pointers = functional.pad(lengths.cumsum(0), (1, 0)).to(kind)
        self.weights = weights.contiguous()

    def __matmul__(self, values: Tensor) -> Tensor:
        return functional.embedding_bag(
            self.columns,
            values.contiguous(),
            self.pointers,
            mode="sum",
            per_sample_weights=self.weights,
            include_last_offset=True,
        )


def _filled_up(features: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Append a zero point for each image whose number of points is not a multiple of four.

    It has no weight, but the vertices around it exist, and the blur passes through them.
    """
    numbers, counts = images.unique(return_counts=True)
    short = numbers[counts % _GROUP != 0]
    zeros = features.new_zeros(len(short), features.shape[1])
    return torch.cat([features, zeros]), torch.cat([images, short])


class _Simplices(NamedTuple):
    """The simplex that contains each point; the last axis is the point."""

    base: Tensor  # float32 [d + 1, N], corner of remainder 0, integer multiples of d + 1
    coordinate_of_rank: Tensor  # int64 [d + 1, N], coordinates in order of falling residual
    weights: Tensor  # float32 [d + 1, N], barycentric weights of the corners of remainder 0 to d


def _enclosing_simplices(features: Tensor) -> _Simplices:
    elevated = _elevate(features)
    sides = len(elevated)
    inverse = float(np.float32(1.0 / sides))
    rounded = (elevated * inverse).round()
    base = rounded * sides
    ranks = _ranks(elevated - base)
    # If the rounded point is off the plane sum = 0, the coordinates with the largest rounding
    # error are corrected.
    ranks += rounded.sum(0).long()
    wrap = sides * ((ranks < 0).long() - (ranks >= sides).long())
    ranks += wrap
    base += wrap
    coordinates = torch.arange(sides, device=base.device)[:, None].expand_as(ranks)
    order = torch.empty_like(ranks).scatter_(0, ranks, coordinates)
    residuals = ((elevated - base) * inverse).gather(0, order)
    return _Simplices(base, order, _barycentric(residuals))


def _elevate(features: Tensor) -> Tensor:
    """Map points [d, N] onto the hyperplane ``sum = 0`` of d + 1 dimensions, [d + 1, N].

    Each product and each sum is a call of its own, so that torch rounds after each.
    """
    dimensions, points = features.shape
    spread = float(np.float32(math.sqrt(2.0 / 3.0) * (dimensions + 1)))
    elevated = features.new_empty(dimensions + 1, points)
    total = features.new_zeros(points)
    for axis in range(dimensions, 0, -1):
        scale = float(np.float32(spread / math.sqrt(axis * (axis + 1))))
        scaled = features[axis - 1] * scale
        multiple = scaled * axis
        elevated[axis] = total - multiple
        total = total + scaled
    elevated[0] = total
    return elevated


def _ranks(residuals: Tensor) -> Tensor:
    """The rank of each coordinate, 0 for the largest residual; ties keep their order."""
    ranks = torch.zeros(residuals.shape, dtype=torch.int8, device=residuals.device)
    for first in range(len(residuals)):
        for second in range(first + 1, len(residuals)):
            smaller = residuals[first] < residuals[second]
            ranks[first] += smaller
            ranks[second] += ~smaller
    return ranks.long()


def _barycentric(residuals: Tensor) -> Tensor:
    """Weights of the corners 0 to d from the residuals in falling order, in units of d + 1."""
    rising = residuals.flip(0)
    first = rising[:1] + (1.0 - rising[-1:])
    return torch.cat([first, rising[1:] - rising[:-1]])


def _pack(simplices: _Simplices, image: Tensor) -> tuple[Tensor, Tensor]:
    """One integer key per corner, [d + 1, N], and the stride of each coordinate in the key.

    The key is a mixed-radix number of the first d coordinates (the last follows from ``sum = 0``)
    and the image. A margin on both sides keeps every neighbour in range and in its image, so that
    a step in space adds a constant to the key.
    """
    sides = len(simplices.base)
    coordinates = simplices.base[:-1].long()
    lowest = coordinates.amin(1, keepdim=True) - 3 * sides
    extents = (coordinates.amax(1, keepdim=True) + 3 * sides - lowest + 1).flatten().tolist()
    if math.prod(extents) * (int(image.max()) + 1) >= _KEY_LIMIT:
        raise DataError(
            f"Lattice: features of {int(image.max()) + 1} images span {extents} lattice units, "
            "more than 64-bit keys can number. Use larger standard deviations or fewer images."
        )
    radices = [math.prod(extents[:axis]) for axis in range(sides)]
    strides = torch.tensor([*radices[:-1], 0], device=coordinates.device)
    base = ((coordinates - lowest) * strides[:-1, None]).sum(0) + image * radices[-1]
    # From one corner to the next every coordinate gains 1, and one of them loses d + 1.
    steps = strides.sum() - sides * strides
    walked = steps[simplices.coordinate_of_rank[1:].flip(0)].cumsum(0)
    return torch.cat([base[None], base + walked]), strides


def _directions(strides: Tensor) -> list[int]:
    """The change of a key by a step along each lattice direction."""
    steps: list[int] = (len(strides) * strides - strides.sum()).tolist()
    return steps


def _blur(vertices: Tensor, step: int) -> _Rows:
    """The matrix that adds half of both neighbours to each vertex; missing ones weigh 0."""
    count = len(vertices)
    own = torch.arange(count, device=vertices.device)
    columns = own[:, None].repeat(1, 3)
    weights = torch.tensor([0.0, 1.0, 0.0], device=vertices.device).repeat(count, 1)
    found = torch.searchsorted(vertices, vertices + step).clamp_(max=count - 1)
    here = (vertices[found] == vertices + step).nonzero().flatten()
    there = found[here]
    columns[here, 2], columns[there, 0] = there, here
    weights[here, 2] = weights[there, 0] = 0.5
    return _Rows(columns.flatten(), torch.full_like(own, 3), weights.flatten())


def _factor(compat: Tensor) -> Tensor:
    """The weight of a Potts matrix, which is cheaper and exact in any matmul precision."""
    potts = compat[0, 0]
    identity = torch.eye(len(compat), device=compat.device)
    return potts if torch.equal(compat, potts * identity) else compat.T


def _tensor(values: NDArray[Any] | Tensor, device: torch.device | str | None) -> Tensor:
    if isinstance(values, np.ndarray):
        return torch.tensor(values, device=device)  # a copy: torch warns of read-only arrays
    return values.to(device)


def _like(given: Floats, result: Tensor) -> Floats:
    """``result`` as an array if ``given`` is one."""
    if isinstance(given, np.ndarray):
        return result.cpu().numpy()
    return result


def _check_features(features: Tensor) -> None:
    shape = tuple(features.shape)
    if features.dtype != torch.float32 or features.ndim != 2 or 0 in shape:
        raise DataError(
            f"Lattice: features is {str(features.dtype).removeprefix('torch.')} {shape}. "
            "Pass float32 [points, dimensions], not empty."
        )
    if not (finite := features.isfinite()).all():
        raise DataError(
            f"Lattice: {int((~finite).sum())} values of features {shape} are NaN or infinite. "
            "Check the standard deviations that they were divided by."
        )


def _checked_images(images: Tensor, points: int) -> Tensor:
    if images.dtype != torch.int64 or images.shape != (points,) or images.min() < 0:
        raise DataError(
            f"Lattice: images is {str(images.dtype).removeprefix('torch.')} "
            f"{tuple(images.shape)} for {points} points. "
            f"Pass int64 [{points}] of indices 0 or more."
        )
    return images


def _check_sizes(
    lattices: Sequence[Lattice],
    compats: Sequence[NDArray[np.float32] | Tensor],
    unary: NDArray[np.float32] | Tensor,
) -> None:
    shape, sizes = tuple(unary.shape), [lattice.points for lattice in lattices]
    if len(shape) not in (2, 3) or {math.prod(shape) // shape[-2]} != set(sizes):
        raise DataError(
            f"mean_field: unary is {shape} but the lattices have {sizes} points. "
            "Pass [labels, points] or [images, labels, points]."
        )
    wanted = [(shape[-2], shape[-2])] * len(lattices)
    if [tuple(compat.shape) for compat in compats] != wanted:
        raise DataError(
            f"mean_field: compats have shapes {[tuple(compat.shape) for compat in compats]} for "
            f"{len(lattices)} lattices and {shape[-2]} labels. "
            f"Pass one {wanted[0]} matrix for each lattice."
        )
