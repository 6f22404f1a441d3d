"""``pydensecrf.densecrf``: the CRF as an object to which energies are added."""
# ruff: noqa: N802, N803 - the names are those of pydensecrf

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.base.arrays import Floats
from pipeline.base.errors import DataError
from pipeline.masks.crf.engines import engine_of
from pipeline.masks.crf.normalization import NormalizationType
from pipeline.masks.pydensecrf.utils import ArgumentError, deviations

Compat = float | ArrayLike
"""A Potts weight; or energies: one for each label with itself, or one for each pair of labels."""

_IMPOSSIBLE = np.float32(1e9)  # stands for an infinite energy


class KernelType(IntEnum):
    """Parametrisations of a kernel for learning. Without learning they are equivalent."""

    CONST_KERNEL = 0
    DIAG_KERNEL = 1
    FULL_KERNEL = 2


CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = KernelType
NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = NormalizationType


class DenseCRF:
    """A CRF over ``nvars`` points of any kind and ``nlabels`` labels.

    Args:
        nvars: Number of points, >= 1.
        nlabels: Number of labels, >= 1.

    Raises:
        ArgumentError: A number is less than 1.

    Example:
        >>> crf = DenseCRF(3, 2)
        >>> crf.setUnaryEnergy(np.array([[1, 0, 1], [0, 1, 0]], dtype=np.float32))
        >>> crf.addPairwiseEnergy(np.zeros((1, 3), dtype=np.float32), compat=5)
        >>> crf.inference(5).argmax(axis=0)
        array([1, 1, 1])
    """

    def __init__(self, nvars: int, nlabels: int) -> None:
        if nvars < 1 or nlabels < 1:
            raise ArgumentError(
                f"DenseCRF: {nvars} points and {nlabels} labels. Pass at least one of both."
            )
        self._points, self._labels = int(nvars), int(nlabels)
        self._unary = np.zeros((self._labels, self._points), dtype=np.float32)
        self._lattices: list[Any] = []
        self._compats: list[Floats] = []

    def setUnary(self, unary: object) -> None:
        """Not supported: unary objects are for learning.

        Raises:
            ArgumentError: Always.
        """
        raise ArgumentError(
            f"DenseCRF.setUnary: {type(unary).__name__} is an energy that can be learned, and "
            "learning is not supported. Pass an array of energies to setUnaryEnergy."
        )

    def setUnaryEnergy(self, u: ArrayLike, f: ArrayLike | None = None) -> None:
        """Set the negative log probabilities of the labels.

        Args:
            u: Float [nlabels, nvars]. Infinity makes a label impossible.
            f: Must be None.

        Raises:
            ArgumentError: ``f`` is given (a logistic energy to be learned), or ``u`` has another
                shape, NaN, or minus infinity.
        """
        if f is not None:
            raise ArgumentError(
                "DenseCRF.setUnaryEnergy: f is given, which makes the energy a logistic regression "
                "to be learned, and learning is not supported. Pass u @ f alone."
            )
        energies = np.array(u, dtype=np.float32)
        wrong = np.count_nonzero(np.isnan(energies) | np.isneginf(energies))
        if energies.shape != self._unary.shape or wrong:
            raise ArgumentError(
                f"DenseCRF.setUnaryEnergy: u is {energies.shape} with {wrong} values that are NaN "
                "or minus infinity. "
                f"Pass numbers of shape {self._unary.shape}, for example reshape(nlabels, -1)."
            )
        self._unary = np.clip(energies, -_IMPOSSIBLE, _IMPOSSIBLE)

    def addPairwiseEnergy(
        self,
        features: ArrayLike,
        compat: Compat,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a Gaussian kernel over arbitrary features.

        Args:
            features: Float [d, nvars], already divided by the standard deviations.
            compat: A number w lowers the energy of equal labels by w. A vector [nlabels] or a
                matrix [nlabels, nlabels] is the energy itself: negative values attract.
            kernel: Has no effect without learning.
            normalization: See :class:`NormalizationType`.

        Raises:
            ArgumentError: ``features`` or ``compat`` has another shape, or features are not finite.
        """
        del kernel
        points = np.array(features, dtype=np.float32)
        if points.ndim != 2 or points.shape[1] != self._points:
            raise ArgumentError(
                f"DenseCRF.addPairwiseEnergy: features is {points.shape} but there are "
                f"{self._points} points. Pass [dimensions, {self._points}]."
            )
        matrix = _compat_matrix(compat, self._labels)
        self._lattices.append(_lattice(points, NormalizationType(normalization)))
        self._compats.append(matrix)

    def inference(self, niter: int) -> Floats:
        """Marginals after ``niter`` mean-field steps, float32 [nlabels, nvars].

        Args:
            niter: Number of steps, >= 0.

        Raises:
            ArgumentError: ``niter`` is negative.
        """
        if niter < 0:
            raise ArgumentError(f"DenseCRF.inference: niter is {niter}. Pass 0 or more steps.")
        if not self._lattices:
            return self.startInference()[0]
        marginals: Floats = _engine().mean_field(self._lattices, self._compats, self._unary, niter)
        return marginals

    def startInference(self) -> tuple[Floats, Floats, Floats]:
        """Marginals before the first step, and two arrays for :meth:`stepInference`."""
        marginals = _softmax(-self._unary)
        return marginals, np.empty_like(marginals), np.empty_like(marginals)

    def stepInference(self, Q: Floats, tmp1: Floats, tmp2: Floats) -> None:
        """One mean-field step on ``Q``, in place.

        Args:
            Q: Marginals from :meth:`startInference`.
            tmp1: Unused; scratch memory in pydensecrf.
            tmp2: Unused.
        """
        del tmp1, tmp2
        Q[...] = _softmax(self._message(Q) - self._unary)

    def klDivergence(self, Q: Floats) -> float:
        """The KL divergence of the marginals ``Q`` from the CRF, up to a constant of the CRF.

        Args:
            Q: Marginals, float [nlabels, nvars].
        """
        entropy = np.log(np.maximum(Q, 1e-20))
        return float(np.sum(Q * (entropy + self._unary - self._message(Q)), dtype=np.float64))

    def _message(self, marginals: Floats) -> Floats:
        message = np.zeros_like(self._unary)
        rows = np.ascontiguousarray(marginals.T)
        for lattice, compat in zip(self._lattices, self._compats, strict=True):
            message += compat @ lattice.filter(rows).T
        return message


class DenseCRF2D(DenseCRF):
    """A CRF over the pixels of an image, row by row.

    Args:
        w: Width of the image (first, as in pydensecrf).
        h: Height of the image.
        nlabels: Number of labels, >= 1.

    Raises:
        ArgumentError: A number is less than 1.

    Example:
        >>> image = np.zeros((4, 6, 3), dtype=np.uint8)
        >>> crf = DenseCRF2D(6, 4, 2)
        >>> crf.setUnaryEnergy(np.zeros((2, 24)))
        >>> crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
        >>> np.array(crf.inference(5)).reshape(2, 4, 6)[:, 0, 0]
        array([0.5, 0.5], dtype=float32)
    """

    def __init__(self, w: int, h: int, nlabels: int) -> None:
        super().__init__(w * h, nlabels)
        self._size = (int(h), int(w))

    def addPairwiseGaussian(
        self,
        sxy: float | Sequence[float],
        compat: Compat,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a Gaussian kernel over position.

        Args:
            sxy: Standard deviation in pixels, or a pair of them along x and y.
            compat: As in :meth:`addPairwiseEnergy`.
            kernel: Has no effect without learning.
            normalization: See :class:`NormalizationType`.

        Raises:
            ArgumentError: A standard deviation is not positive.
        """
        self.addPairwiseEnergy(self._positions(sxy), compat, kernel, normalization)

    def addPairwiseBilateral(
        self,
        sxy: float | Sequence[float],
        srgb: float | Sequence[float],
        rgbim: NDArray[np.uint8],
        compat: Compat,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a Gaussian kernel over position and colour.

        Args:
            sxy: Standard deviation of the position in pixels, or a pair of them along x and y.
            srgb: Standard deviation of the colour in grey levels, or three of them, one for each
                channel.
            rgbim: uint8 [h, w, 3].
            compat: As in :meth:`addPairwiseEnergy`.
            kernel: Has no effect without learning.
            normalization: See :class:`NormalizationType`.

        Raises:
            ArgumentError: A standard deviation is not positive, or ``rgbim`` has another type or
                size.
        """
        image = np.asarray(rgbim)
        if image.dtype != np.uint8 or image.shape != (*self._size, 3):
            raise ArgumentError(
                f"DenseCRF2D.addPairwiseBilateral: rgbim is {image.dtype} {image.shape} but the "
                f"CRF is over {self._size}. "
                f"Pass uint8 {(*self._size, 3)}; the constructor takes the width first."
            )
        colours = image.reshape(-1, 3).T.astype(np.float32) / deviations("srgb", srgb, 3)
        features = np.concatenate([self._positions(sxy), colours])
        self.addPairwiseEnergy(features, compat, kernel, normalization)

    def _positions(self, sxy: float | Sequence[float]) -> Floats:
        rows, columns = np.indices(self._size, dtype=np.float32)
        return np.stack([columns.ravel(), rows.ravel()]) / deviations("sxy", sxy, 2)


@cache
def _engine() -> Any:
    """The numba engine if numba is installed, otherwise the torch engine."""
    return engine_of("numba" if find_spec("numba") else "torch")


def _lattice(points: Floats, normalization: NormalizationType) -> Any:
    try:
        return _engine().Lattice(points.T, normalization=normalization)
    except DataError as error:
        raise ArgumentError(f"DenseCRF.addPairwiseEnergy: {error}") from error


def _compat_matrix(compat: Compat, labels: int) -> Floats:
    """The matrix [labels, labels] of a kernel's messages, from a weight or from energies."""
    given: Floats = np.array(compat, dtype=np.float32)
    if given.ndim == 0:
        return np.diag(np.full(labels, given, dtype=np.float32))
    if given.shape == (labels,):
        return np.diag(-given)
    if given.shape == (labels, labels):
        return np.float32(-0.5) * (given + given.T)
    raise ArgumentError(
        f"DenseCRF: compat is {given.shape} but there are {labels} labels. "
        f"Pass a number, [{labels}] or [{labels}, {labels}]."
    )


def _softmax(logits: Floats) -> Floats:
    powers: Floats = np.exp(logits - logits.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0))
