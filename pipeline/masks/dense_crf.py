"""Fully connected conditional random field: labels that follow the edges of the image.

Every pixel is tied to every other one by Gaussian kernels of position and colour; mean-field
iterations let them agree. The filter behind the kernels is :mod:`pipeline.masks.permutohedral`.

References:
    Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
    Potentials", NeurIPS 2011, algorithm 1 (their program keeps a pixel's message to itself and
    normalises each kernel symmetrically, and so does this).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.masks.permutohedral import PermutohedralLattice

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

_CACHED_SIZES = 8  # Gaussian lattices kept: about 10 MB for each image size of 500 x 375


@dataclass(frozen=True)
class Gaussian:
    """Near pixels agree, whatever their colours: removes specks.

    Attributes:
        sxy: Standard deviation of the position, pixels, > 0.
        compat: Potts weight, the strength of the kernel, >= 0.

    Raises:
        ConfigError: A value is out of its range.
    """

    sxy: float
    compat: float

    def __post_init__(self) -> None:
        _check_positive(type(self).__name__, sxy=self.sxy)
        _check_weight(type(self).__name__, self.compat)

    def lattice(self, image: Image) -> PermutohedralLattice:
        """The filter of this kernel, the same for all images of one size (and cached)."""
        return _position_lattice(image.shape[0], image.shape[1], self.sxy)


@dataclass(frozen=True)
class Bilateral:
    """Near pixels of like colours agree: moves borders to the edges of the image.

    Attributes:
        sxy: Standard deviation of the position, pixels, > 0.
        srgb: Standard deviation of each colour channel, grey levels of 255, > 0.
        compat: Potts weight, the strength of the kernel, >= 0.

    Raises:
        ConfigError: A value is out of its range.
    """

    sxy: float
    srgb: float
    compat: float

    def __post_init__(self) -> None:
        _check_positive(type(self).__name__, sxy=self.sxy, srgb=self.srgb)
        _check_weight(type(self).__name__, self.compat)

    def lattice(self, image: Image) -> PermutohedralLattice:
        """The filter of this kernel for ``image``, uint8 [H, W, 3]."""
        height, width = image.shape[:2]
        colours = image.reshape(-1, 3).astype(np.float32) / np.float32(self.srgb)
        return PermutohedralLattice(np.hstack([_positions(height, width, self.sxy), colours]))


class PreparedCRF:
    """The CRF of one image, to be used for any number of unaries. Made by ``DenseCRF.prepare``."""

    def __init__(
        self,
        size: tuple[int, int],
        kernels: Sequence[tuple[PermutohedralLattice, float]],
        iterations: int,
    ) -> None:
        self._size = size
        self._kernels = [(lattice, np.float32(weight)) for lattice, weight in kernels]
        self._iterations = iterations

    def infer(self, unary: Floats) -> Floats:
        """Marginal probability of every label at every pixel.

        Args:
            unary: Negative log probabilities, float [L, H, W], L >= 2, finite. A constant added
                to all labels of a pixel changes nothing.

        Returns:
            float32 [L, H, W], sum 1 over the labels.

        Raises:
            DataError: ``unary`` has another size than the image, fewer than two labels, or values
                that are not finite.
        """
        _check_unary(unary, self._size)
        logits = -np.asarray(unary, dtype=np.float32).reshape(len(unary), -1)
        marginals = _softmax(logits.copy())
        for _ in range(self._iterations):
            marginals = _softmax(logits + self._message(marginals))
        return marginals.reshape(unary.shape)

    def _message(self, marginals: Floats) -> Floats:
        pixels_first = np.ascontiguousarray(marginals.T)
        message = np.zeros_like(pixels_first)
        for lattice, weight in self._kernels:
            message += weight * lattice.filter(pixels_first)
        return message.T


class DenseCRF:
    """Mean-field inference with Potts kernels: ``Q = softmax(-unary + sum_k compat_k K_k Q)``.

    Args:
        pairwise: Kernels, at least one.
        iterations: Mean-field steps, >= 0; 0 gives softmax(-unary).

    Raises:
        ConfigError: No kernel, or a negative number of iterations.

    Example:
        >>> crf = DenseCRF([Gaussian(sxy=3, compat=3)], iterations=5)
        >>> image = np.zeros((8, 8, 3), dtype=np.uint8)
        >>> crf(image, np.zeros((2, 8, 8), dtype=np.float32))[:, 0, 0]
        array([0.5, 0.5], dtype=float32)
    """

    def __init__(self, pairwise: Sequence[Gaussian | Bilateral], iterations: int = 10) -> None:
        if not pairwise:
            raise ConfigError(
                "DenseCRF: pairwise is empty. Pixels would not be tied to each other. "
                "Pass at least one Gaussian or Bilateral."
            )
        if iterations < 0:
            raise ConfigError(
                f"DenseCRF: iterations is {iterations}. Steps cannot be undone. Pass 0 or more."
            )
        self._pairwise = tuple(pairwise)
        self._iterations = iterations

    def prepare(self, image: Image) -> PreparedCRF:
        """The part that depends on the image only, to be shared by several unaries.

        Args:
            image: RGB, uint8 [H, W, 3], not empty.

        Raises:
            DataError: ``image`` has another type or shape.
        """
        _check_image(image)
        height, width = image.shape[:2]
        kernels = [(kernel.lattice(image), kernel.compat) for kernel in self._pairwise]
        return PreparedCRF((height, width), kernels, self._iterations)

    def __call__(self, image: Image, unary: Floats) -> Floats:
        """Marginals of one unary: ``prepare(image).infer(unary)``."""
        _check_image(image)
        _check_unary(unary, (image.shape[0], image.shape[1]))  # before the lattices are built
        return self.prepare(image).infer(unary)


def unary_from_probabilities(probabilities: Floats, floor: float = 1e-5) -> Floats:
    """Negative log probabilities, with ``floor`` in place of anything smaller.

    Args:
        probabilities: Any shape, values in [0, 1].
        floor: Smallest probability, in (0, 1); keeps a zero from vetoing its label for good.

    Returns:
        float32, the same shape, in [0, -log(floor)].

    Raises:
        DataError: A probability is NaN or outside [0, 1].

    Example:
        >>> unary_from_probabilities(np.array([1.0, 0.0], dtype=np.float32)).round(2) + 0.0
        array([ 0.  , 11.51], dtype=float32)
    """
    if not (np.all(probabilities >= 0) and np.all(probabilities <= 1 + 1e-5)):
        raise DataError(
            f"unary_from_probabilities: probabilities {probabilities.shape} has values that are "
            "NaN or outside [0, 1]. Their logarithm would be NaN or favour a label without bound. "
            "Normalise first, for example with pipeline.masks.seed.with_background."
        )
    return -np.log(np.clip(probabilities, floor, 1.0, dtype=np.float32))


@lru_cache(maxsize=_CACHED_SIZES)
def _position_lattice(height: int, width: int, sxy: float) -> PermutohedralLattice:
    return PermutohedralLattice(_positions(height, width, sxy))


def _positions(height: int, width: int, sxy: float) -> Floats:
    """Columns x and y of every pixel in units of ``sxy``, row by row, [H * W, 2]."""
    rows, columns = np.indices((height, width), dtype=np.float32)
    return np.stack([columns.ravel(), rows.ravel()], axis=1) / np.float32(sxy)


def _softmax(logits: Floats) -> Floats:
    """Softmax over axis 0, in place."""
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits


def _check_image(image: Image) -> None:
    shape, kind = np.shape(image), getattr(image, "dtype", type(image).__name__)
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise DataError(
            f"DenseCRF: image is {kind} {shape}. Colour differences are measured in grey levels "
            "of 255 on three channels. Pass uint8 [H, W, 3], not empty."
        )


def _check_unary(unary: Floats, size: tuple[int, int]) -> None:
    shape = np.shape(unary)
    if len(shape) != 3 or shape[1:] != size:
        raise DataError(
            f"DenseCRF: unary is {shape} but the image is {size}. Labels and pixels would not "
            f"match. Pass [L, {size[0]}, {size[1]}]."
        )
    if shape[0] < 2:
        raise DataError(
            f"DenseCRF: unary is {shape}, which has {shape[0]} labels. There would be nothing to "
            "decide. Pass at least two, background included."
        )
    if not np.isfinite(unary).all():
        raise DataError(
            f"DenseCRF: {np.count_nonzero(~np.isfinite(unary))} values of unary {shape} are NaN "
            "or infinite. They would spread over the whole image. "
            "Use unary_from_probabilities, which keeps zeros finite."
        )


def _check_positive(kernel: str, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(
                f"{kernel}: {name} is {value}. Distances are divided by it. Pass a number > 0."
            )


def _check_weight(kernel: str, compat: float) -> None:
    if not (math.isfinite(compat) and compat >= 0):
        raise ConfigError(
            f"{kernel}: compat is {compat}. Similar pixels would repel each other. "
            "Pass a number >= 0; 0 switches the kernel off."
        )
