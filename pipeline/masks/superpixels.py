"""A vote of superpixels: patches of one colour get one answer.

References:
    Achanta et al., "SLIC Superpixels Compared to State-of-the-art Superpixel Methods", TPAMI 2012
    (the patches).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.masks.refine import check_sizes

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]


def vote(patches: NDArray[np.integer[Any]], planes: Floats) -> Floats:
    """Each value becomes the mean over its patch.

    Args:
        patches: Number of the patch of each pixel, [H, W], from 0.
        planes: [L, H, W].

    Returns:
        float32 [L, H, W].

    Raises:
        DataError: The two differ in size, or a number is negative.

    Example:
        >>> vote(np.array([[0, 0, 1]]), np.array([[[0.0, 1.0, 0.25]]]))
        array([[[0.5 , 0.5 , 0.25]]], dtype=float32)
    """
    if patches.shape != planes.shape[1:] or (patches.size and patches.min() < 0):
        raise DataError(
            f"vote: patches is {patches.shape} for planes {planes.shape}, or has negative numbers. "
            "Pixels would vote elsewhere. Pass one number >= 0 for each pixel."
        )
    flat = patches.ravel()
    counts = np.maximum(np.bincount(flat), 1)
    means = [np.bincount(flat, weights=plane.ravel()) / counts for plane in planes]
    return np.array([mean[patches] for mean in means], dtype=np.float32).reshape(planes.shape)


class SuperpixelVote:
    """Refiner: the mean of the probabilities over each superpixel of the image.

    Args:
        segments: Superpixels that are aimed at, >= 2. An object's outline is as fine as they are.
        compactness: The greater, the squarer they are, > 0.

    Raises:
        ConfigError: A value is out of its range, or scikit-image is not installed.

    Example:
        >>> even = np.full((2, 8, 8), 0.5, dtype=np.float32)
        >>> SuperpixelVote(segments=4)(np.zeros((8, 8, 3), np.uint8), [even])[0][:, 0, 0]
        array([0.5, 0.5], dtype=float32)
    """

    def __init__(self, segments: int = 400, compactness: float = 10) -> None:
        if segments < 2 or not 0 < compactness < math.inf:
            raise ConfigError(
                f"SuperpixelVote: segments is {segments} and compactness {compactness}. The image "
                "would be one patch, or patches nothing but points. "
                "Pass segments >= 2 and compactness > 0."
            )
        self._slic = _slic()
        self._segments = segments
        self._compactness = compactness

    def __call__(self, image: Image, probabilities: Sequence[Floats]) -> list[Floats]:
        """The mean over superpixels for each array; all share the superpixels.

        Args:
            image: RGB, uint8 [H, W, 3], not empty.
            probabilities: Each float32 [L, H, W].

        Returns:
            One float32 [L, H, W] for each.

        Raises:
            DataError: Image or probabilities have another type or size.
        """
        check_sizes("SuperpixelVote", image, probabilities)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise DataError(
                f"SuperpixelVote: image is {image.dtype} {image.shape}. Its colours are grouped. "
                "Pass uint8 [H, W, 3], not empty."
            )
        patches = self._slic(
            image, n_segments=self._segments, compactness=self._compactness, start_label=0
        )
        return [vote(patches, planes) for planes in probabilities]


def _slic() -> Any:
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise ConfigError(
            "SuperpixelVote: scikit-image is not installed. It makes the superpixels. "
            "Run pip install scikit-image, or choose another option of refine."
        ) from error
    return slic
