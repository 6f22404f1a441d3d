"""Refiners: probabilities that know the classes in, probabilities that know the edges out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.masks.dense_crf import Bilateral, DenseCRF, Gaussian, unary_from_probabilities

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
Refinement = Callable[[Image, Sequence[Floats]], list[Floats]]
"""What a refiner is: an image and several unaries of it in, as many refined ones out."""


class NoRefinement:
    """Gives the probabilities back as they came."""

    def __call__(self, image: Image, probabilities: Sequence[Floats]) -> list[Floats]:
        """The same arrays, in a list.

        Args:
            image: uint8 [H, W, 3].
            probabilities: Each float32 [L, H, W].

        Raises:
            DataError: An array has another size than the image.
        """
        _check_sizes("NoRefinement", image, probabilities)
        return list(probabilities)


class CRFRefinement:
    """Dense CRF with the probabilities as soft unaries, one Gaussian and one bilateral kernel.

    The defaults are those of most weakly supervised work (PSA, SEAM and their successors).

    Args:
        gaussian_sxy: Reach of the Gaussian kernel, pixels, > 0.
        gaussian_compat: Its weight, >= 0.
        bilateral_sxy: Reach of the bilateral kernel, pixels, > 0.
        bilateral_srgb: Its reach in colour, grey levels of 255, > 0.
        bilateral_compat: Its weight, >= 0.
        iterations: Mean-field steps, >= 0.

    Raises:
        ConfigError: A value is out of its range.

    Example:
        >>> image = np.zeros((6, 6, 3), dtype=np.uint8)
        >>> even = np.full((2, 6, 6), 0.5, dtype=np.float32)
        >>> CRFRefinement(iterations=2)(image, [even])[0].shape
        (2, 6, 6)
    """

    def __init__(
        self,
        gaussian_sxy: float = 3,
        gaussian_compat: float = 3,
        bilateral_sxy: float = 80,
        bilateral_srgb: float = 13,
        bilateral_compat: float = 10,
        iterations: int = 10,
    ) -> None:
        kernels = (
            Gaussian(gaussian_sxy, gaussian_compat),
            Bilateral(bilateral_sxy, bilateral_srgb, bilateral_compat),
        )
        self._crf = DenseCRF(kernels, iterations)

    def __call__(self, image: Image, probabilities: Sequence[Floats]) -> list[Floats]:
        """Marginals of the CRF for each array of probabilities; all share one lattice.

        Args:
            image: RGB, uint8 [H, W, 3].
            probabilities: Each float32 [L, H, W] in [0, 1], background first. With L = 1 (an
                image without classes) there is nothing to decide and the array comes back.

        Returns:
            One float32 [L, H, W] for each, sum 1 over the labels.

        Raises:
            DataError: Image or probabilities have another type, size or range.
        """
        _check_sizes("CRFRefinement", image, probabilities)
        if all(len(planes) == 1 for planes in probabilities):
            return list(probabilities)
        prepared = self._crf.prepare(image)
        return [
            planes if len(planes) == 1 else prepared.infer(unary_from_probabilities(planes))
            for planes in probabilities
        ]


def _check_sizes(refiner: str, image: Image, probabilities: Sequence[Floats]) -> None:
    for index, planes in enumerate(probabilities):
        if planes.ndim != 3 or planes.shape[1:] != image.shape[:2]:
            raise DataError(
                f"{refiner}: probabilities[{index}] is {planes.shape} but the image is "
                f"{image.shape}. Masks would be shifted against it. "
                "Resize the maps to the image before they become probabilities."
            )
