"""Fully connected conditional random field: labels that follow the edges of the image.

Gaussian kernels of position and colour connect every pair of pixels; mean-field iterations make
connected pixels agree. The result equals, to float32 accuracy, that of the authors' program, which
most published masks were refined with. The computation is done by an engine in
:mod:`pipeline.masks.crf`.

References:
    Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
    Potentials", NeurIPS 2011, algorithm 1 (as in their program, a pixel also sends a message to
    itself, and each kernel is normalised symmetrically).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from pipeline.base.arrays import Floats, Image
from pipeline.base.errors import ConfigError, DataError
from pipeline.masks.crf.engines import engine_of, installed_engine
from pipeline.masks.crf.unary import unary_from_labels, unary_from_probabilities

__all__ = [
    "Bilateral",
    "DenseCRF",
    "Gaussian",
    "PreparedCRF",
    "unary_from_labels",
    "unary_from_probabilities",
    "warm_up",
]

Reach = float | tuple[float, float]
"""A standard deviation in pixels, or a pair of them along x and y."""

_CACHED_SIZES = 8  # number of image sizes whose Gaussian lattices are cached
_CACHED_PIXELS = 2**20  # largest image whose lattice is cached, about 40 MB
_LARGEST_COMPAT = 1e6  # keeps messages far below the float32 maximum


class Lattice(Protocol):
    """An engine's filter for one kernel on one image."""


@dataclass(frozen=True)
class Gaussian:
    """Nearby pixels agree, regardless of their colours: removes specks.

    Attributes:
        sxy: Standard deviation of the position, pixels, > 0; a pair gives those along x and y.
        compat: Label compatibility. One number >= 0 is a Potts weight, the strength with which
            equal labels attract each other. An array contains penalties, as in the authors'
            program: one for each label with itself, [L], or for each pair of labels, [L, L]
            (only its symmetric part counts). A negative penalty attracts.

    Raises:
        ConfigError: A value is out of its range.
    """

    sxy: Reach
    compat: Any

    def __post_init__(self) -> None:
        _check_positive(type(self).__name__, sxy=self.sxy)
        object.__setattr__(self, "compat", _checked_compat(type(self).__name__, self.compat))

    def lattice(self, image: Image, engine: str) -> Lattice:
        """The filter of this kernel; it depends on the image size only and is cached."""
        height, width = image.shape[:2]
        make = _position_lattice if height * width <= _CACHED_PIXELS else _new_position_lattice
        return make(engine, height, width, *_pair(self.sxy))


@dataclass(frozen=True)
class Bilateral:
    """Nearby pixels of similar colour agree: moves borders to the edges of the image.

    Attributes:
        sxy: Standard deviation of the position, pixels, > 0; a pair gives those along x and y.
        srgb: Standard deviation of each colour channel, grey levels (0 to 255), > 0.
        compat: Label compatibility, as for :class:`Gaussian`.

    Raises:
        ConfigError: A value is out of its range.
    """

    sxy: Reach
    srgb: float
    compat: Any

    def __post_init__(self) -> None:
        _check_positive(type(self).__name__, sxy=self.sxy, srgb=self.srgb)
        object.__setattr__(self, "compat", _checked_compat(type(self).__name__, self.compat))

    def lattice(self, image: Image, engine: str) -> Lattice:
        """The filter of this kernel for ``image``, uint8 [H, W, 3]."""
        height, width = image.shape[:2]
        features = np.empty((5, height, width), dtype=np.float32)
        _write_positions(features[:2], *_pair(self.sxy))
        np.divide(image.transpose(2, 0, 1), np.float32(self.srgb), out=features[2:])
        return _new_lattice(engine, features)


class PreparedCRF:
    """The CRF of one image, for any number of unaries; see ``DenseCRF.prepare``."""

    def __init__(
        self,
        size: tuple[int, int],
        kernels: Sequence[tuple[Lattice, Any]],
        iterations: int,
        engine: str,
    ) -> None:
        self._size = size
        self._kernels = kernels
        self._iterations = iterations
        self._engine = engine

    def infer(self, unary: Floats) -> Floats:
        """Marginal probability of every label at every pixel.

        Args:
            unary: Negative log probabilities, float [L, H, W], L >= 2, finite. A constant added
                to all labels of a pixel changes nothing.

        Returns:
            float32 [L, H, W], sum 1 over the labels.

        Raises:
            DataError: ``unary`` has another size than the image, fewer than two labels, or values
                that are not finite; or the compat of a kernel is for another number of labels.
        """
        planes = _checked_unary(unary, self._size)
        labels = len(planes)
        lattices = [lattice for lattice, _ in self._kernels]
        compats = [_attraction(compat, labels) for _, compat in self._kernels]
        marginals: Floats = engine_of(self._engine).mean_field(
            lattices, compats, planes.reshape(labels, -1), self._iterations
        )
        return marginals.reshape(planes.shape)


class DenseCRF:
    """Mean-field inference: ``Q = softmax(-unary + sum_k compat_k K_k Q)``, from softmax(-unary).

    Args:
        pairwise: Kernels, at least one.
        iterations: Mean-field steps, >= 0; 0 gives softmax(-unary).
        engine: "numba" (fast on CPUs), "torch", "cuda" (torch on a GPU), or "auto": numba if it
            is installed, otherwise torch; see :meth:`on`. Results agree to float32 accuracy:
            marginals of up to 21 labels differ by at most 1e-4.

    Attributes:
        engine: The engine that computes: numba, torch, or a GPU such as cuda:1.

    Raises:
        ConfigError: No kernel, a negative number of iterations, or an engine that is unknown or
            not installed.

    Example:
        >>> crf = DenseCRF([Gaussian(sxy=3, compat=3)], iterations=5)
        >>> image = np.zeros((8, 8, 3), dtype=np.uint8)
        >>> crf(image, np.zeros((2, 8, 8), dtype=np.float32))[:, 0, 0]
        array([0.5, 0.5], dtype=float32)
    """

    def __init__(
        self,
        pairwise: Sequence[Gaussian | Bilateral],
        iterations: int = 10,
        engine: str = "auto",
    ) -> None:
        if not pairwise:
            raise ConfigError(
                "DenseCRF: pairwise is empty. Pass at least one Gaussian or Bilateral."
            )
        if iterations < 0:
            raise ConfigError(f"DenseCRF: iterations is {iterations}. Pass 0 or more.")
        self._pairwise = tuple(pairwise)
        self._iterations = iterations
        self._asked = engine
        self.engine = installed_engine(engine)

    def on(self, device: str) -> DenseCRF:
        """The CRF for a run that computes on ``device``, such as "cpu" or "cuda:1".

        On a GPU "auto" means "cuda", and "cuda" means that GPU. Images and results stay arrays.
        """
        moved = copy(self)
        moved.engine = installed_engine(self._asked, device)
        return moved

    def scaled(self, factor: float) -> DenseCRF:
        """The CRF for images that are smaller by ``factor`` than those it was designed for.

        Each standard deviation in pixels is divided by it; colours and weights stay the same.

        Raises:
            ConfigError: ``factor`` is not a number > 0.
        """
        _check_positive("DenseCRF.scaled", factor=factor)
        kernels = [replace(kernel, sxy=_divided(kernel.sxy, factor)) for kernel in self._pairwise]
        smaller = copy(self)
        smaller._pairwise = tuple(kernels)
        return smaller

    def prepare(self, image: Image) -> PreparedCRF:
        """Build the lattices of one image, to be shared by several unaries.

        Args:
            image: RGB, uint8 [H, W, 3], not empty.

        Raises:
            DataError: ``image`` has another type or shape.
        """
        _check_image(image)
        height, width = image.shape[:2]
        kernels = [(kernel.lattice(image, self.engine), kernel.compat) for kernel in self._pairwise]
        return PreparedCRF((height, width), kernels, self._iterations, self.engine)

    def __call__(self, image: Image, unary: Floats) -> Floats:
        """Marginals of one unary: ``prepare(image).infer(unary)``."""
        _check_image(image)
        _check_size(unary, (image.shape[0], image.shape[1]))  # before the lattices are built
        return self.prepare(image).infer(unary)


def warm_up(labels: int = 21) -> None:
    """Compile the kernels now instead of with the first image.

    Takes about 10 s on a new machine, and almost nothing once the compiled code is on disk.

    Args:
        labels: The largest number of labels that an image will have.
    """
    crf = DenseCRF([Gaussian(3, 1), Bilateral(3, 3, 1)], iterations=1)
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    for count in (2, *range(8, labels + 8, 8)):
        crf(image, np.zeros((count, 4, 4), dtype=np.float32))


def _new_lattice(engine: str, features: Floats) -> Lattice:
    """The lattice of features [d, H, W]."""
    lattice: Lattice = engine_of(engine).Lattice(features.reshape(len(features), -1).T)
    return lattice


def _new_position_lattice(engine: str, height: int, width: int, sx: float, sy: float) -> Lattice:
    features = np.empty((2, height, width), dtype=np.float32)
    _write_positions(features, sx, sy)
    return _new_lattice(engine, features)


_position_lattice = lru_cache(maxsize=_CACHED_SIZES)(_new_position_lattice)


def _write_positions(axes: Floats, sx: float, sy: float) -> None:
    """Write column x and row y of every pixel, each divided by its reach, into [2, H, W]."""
    height, width = axes.shape[1:]
    axes[0] = np.arange(width, dtype=np.float32) / np.float32(sx)
    axes[1] = (np.arange(height, dtype=np.float32) / np.float32(sy))[:, None]


def _pair(reach: Reach) -> tuple[float, float]:
    return (reach[0], reach[1]) if isinstance(reach, Sequence) else (reach, reach)


def _divided(reach: Reach, factor: float) -> Reach:
    x, y = _pair(reach)
    return x / factor, y / factor


def _attraction(compat: Any, labels: int) -> Floats:
    """The matrix [L, L] that turns filtered marginals into messages, which add to the logits."""
    values: Floats = np.asarray(compat, dtype=np.float32)
    if values.ndim == 0:
        return np.float32(compat) * np.eye(labels, dtype=np.float32)
    if len(values) != labels:
        raise DataError(
            f"DenseCRF: a kernel has a compat of shape {values.shape}, but the unary has {labels} "
            f"labels. Pass one number, [{labels}] or [{labels}, {labels}]."
        )
    return -np.diag(values) if values.ndim == 1 else (values + values.T) * np.float32(-0.5)


def _check_image(image: Image) -> None:
    shape, kind = np.shape(image), getattr(image, "dtype", type(image).__name__)
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise DataError(f"DenseCRF: image is {kind} {shape}. Pass uint8 [H, W, 3], not empty.")


def _check_size(unary: Floats, size: tuple[int, int]) -> None:
    shape = np.shape(unary)
    if len(shape) != 3 or shape[1:] != size:
        raise DataError(
            f"DenseCRF: unary is {shape} but the image is {size}. Pass [L, {size[0]}, {size[1]}]."
        )
    if shape[0] < 2:
        raise DataError(
            f"DenseCRF: unary is {shape}, which has {shape[0]} labels. "
            "Pass at least two, background included."
        )


def _checked_unary(unary: Floats, size: tuple[int, int]) -> Floats:
    """``unary`` as contiguous float32."""
    _check_size(unary, size)
    with np.errstate(over="ignore", invalid="ignore"):
        planes = np.ascontiguousarray(unary, dtype=np.float32)
        suspicious = not math.isfinite(planes.sum())  # cheap; may overflow, so check again below
    if suspicious and not np.isfinite(planes).all():
        raise DataError(
            f"DenseCRF: {np.count_nonzero(~np.isfinite(planes))} values of unary {planes.shape} "
            "are NaN or infinite in float32. "
            "Use unary_from_probabilities, which maps zeros to a finite value."
        )
    return planes


def _check_positive(who: str, **values: Any) -> None:
    for name, value in values.items():
        if not all(math.isfinite(number) and number > 0 for number in _pair(value)):
            raise ConfigError(f"{who}: {name} is {value}. Pass a number > 0.")


def _checked_compat(kernel: str, compat: Any) -> Any:
    """``compat`` as a number or as (nested) tuples, so that kernels can be compared."""
    values = np.asarray(compat, dtype=np.float64)
    square = values.ndim < 2 or (values.ndim == 2 and values.shape[0] == values.shape[1])
    if not square or not np.all(np.abs(values) <= _LARGEST_COMPAT):
        raise ConfigError(
            f"{kernel}: compat is {compat}. Pass one number, [L] or [L, L]; each value must be "
            f"finite and at most {_LARGEST_COMPAT:g} in magnitude."
        )
    if values.ndim == 0 and values < 0:
        raise ConfigError(
            f"{kernel}: compat is {compat}, so that similar pixels would repel each other. "
            "Pass a number >= 0; 0 switches the kernel off."
        )
    if values.ndim == 2:
        return tuple(map(tuple, values.tolist()))
    return tuple(values.tolist()) if values.ndim else float(values)
