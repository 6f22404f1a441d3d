"""Random walk between locations of an image that have similar features in a network.

Probabilities move between locations in proportion to the similarity of their features, regardless
of distance: an animal's body receives the probability of its head. Nothing is trained.

References:
    Ahn and Kwak, "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
    Supervised Semantic Segmentation", CVPR 2018, equations 4 to 6 (the walk; there the affinity is
    learned, connects neighbours only, and the background takes no part in the normalisation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from pipeline.base.arrays import Floats, Pixels
from pipeline.base.errors import ConfigError, DataError
from pipeline.data.images import enlarge
from pipeline.masks.refine import FeatureReader, check_sizes

_MOST_NODES = 128  # along the longer side: the affinity of 128 x 128 locations takes 1 GiB
_TINY = 1e-6  # relative norm below which a feature vector counts as zero


def affinity(features: Sequence[Tensor], size: tuple[int, int], power: float) -> Tensor:
    """The similarity of every pair of locations: ``max(0, cosine)^power``, 1 on the diagonal.

    The cosine is averaged over the layers. The mean feature vector of the image is subtracted
    first; a location whose features equal the mean has a similarity of 0 to all others.

    Args:
        features: Feature maps of the layers, each [C, h, w] of any size.
        size: Rows and columns of the grid of locations; the maps are resized to it, bilinear.
        power: Exponent, > 0; a large one suppresses weak similarities.

    Returns:
        float32 [N, N], symmetric, in [0, 1], with N = rows * columns, row by row.

    Raises:
        DataError: There are no features, or one is not a map of finite numbers.

    Example:
        >>> affinity([torch.tensor([[[1.0, 1.0, -2.0]]])], (1, 3), power=2)
        tensor([[1., 1., 0.],
                [1., 1., 0.],
                [0., 0., 1.]])
    """
    _check_features(features)
    cosines = torch.stack([_cosines(layer, size) for layer in features]).mean(0)
    return (cosines.clamp(0, 1) ** power).fill_diagonal_(1)


def _cosines(layer: Tensor, size: tuple[int, int]) -> Tensor:
    grid = interpolate(layer[None].float(), size, mode="bilinear", align_corners=False)[0]
    vectors = grid.flatten(1).T
    vectors = vectors - vectors.mean(0)
    largest = vectors.norm(dim=1).max()
    directions = normalize(vectors, dim=1, eps=max(_TINY * float(largest), _TINY))
    return directions @ directions.T


def walk(planes: Tensor, weights: Tensor, steps: int) -> Tensor:
    """``planes`` after ``steps`` steps, each of which replaces a location by a weighted mean.

    Args:
        planes: Values of each label at N locations, [L, N].
        weights: Weight of location j (column) in the mean for location i (row), [N, N], >= 0, no
            row of zeros.
        steps: Number of steps, >= 0.

    Returns:
        [L, N]. A sum of 1 over the labels is preserved.

    References:
        Ahn and Kwak, CVPR 2018, equations 5 and 6.

    Example:
        >>> walk(torch.tensor([[4.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]]), steps=1)
        tensor([[2., 0.]])
    """
    transition = weights / weights.sum(1, keepdim=True)
    for _ in range(steps):
        planes = planes @ transition.T
    return planes


class FeatureWalk:
    """Refiner: a random walk on the affinity of the classifier's own features.

    It costs one or two forward passes per image and needs no training. The result is as coarse as
    the grid, so it is best followed by a refiner that finds edges, see
    :class:`pipeline.masks.refine.Chain`.

    Args:
        layers: Names of layers of the network. Early ones represent edges and texture, late ones
            objects. None means the last ones at strides 8, 16 and so on.
        size: Longer side of the image that the network sees, px, before ``scale``.
        scale: Factor on ``size``: features are finer on an enlarged image.
        flip: Average the features of the image and the mirrored image: two forward passes.
        nodes: Locations along the longer side, 2 to 128. Time and memory grow with its 4th power.
        power: Exponent of the affinity, > 0.
        steps: Number of steps of the walk, >= 0.

    Raises:
        ConfigError: A value is out of its range.

    Example:
        >>> class Reader:
        ...     def check(self, layers): pass
        ...     def __call__(self, image, layers, size): return [torch.rand(3, 4, 4)]
        >>> refine = FeatureWalk(["any"], nodes=4).bound(Reader)
        >>> even = np.full((2, 8, 8), 0.5, dtype=np.float32)
        >>> refine(np.zeros((8, 8, 3), np.uint8), [even])[0][:, 0, 0]
        array([0.5, 0.5], dtype=float32)
    """

    reads_network: ClassVar[bool] = True  # the run passes its classifier to ``bound``

    def __init__(
        self,
        layers: Sequence[str] | None = None,
        size: int = 321,
        scale: float = 2.0,
        flip: bool = True,
        nodes: int = 48,
        power: float = 4.0,
        steps: int = 2,
    ) -> None:
        _check_options(layers, size * scale, nodes, power, steps)
        self._layers = list(layers or ())
        self._size = size * scale
        self._flip = flip
        self._nodes = nodes
        self._power = power
        self._steps = steps
        self._reader: FeatureReader | None = None

    def bound(self, reader: Callable[[], FeatureReader]) -> FeatureWalk:
        """The same walk on the features of ``reader()``.

        Raises:
            ConfigError: The network lacks one of the layers.
        """
        ready = copy(self)
        ready._reader = reader()
        ready._reader.check(self._layers)
        return ready

    @torch.no_grad()
    def __call__(self, image: Pixels, probabilities: Sequence[Floats]) -> list[Floats]:
        """Probabilities after the walk; all arrays share one affinity.

        Args:
            image: RGB uint8 [H, W, 3], or bands float32 [H, W, C]; not empty.
            probabilities: Each float32 [L, H, W]. With L = 1 the array is returned unchanged.

        Returns:
            One float32 [L, H, W] for each, sum 1 over the labels.

        Raises:
            ConfigError: ``bound`` was not called.
            DataError: Probabilities have another size, or features are not finite.
        """
        check_sizes("FeatureWalk", image, probabilities)
        if all(len(planes) == 1 for planes in probabilities):
            return list(probabilities)
        size = _grid(image.shape[:2], self._nodes)
        weights = affinity(self._features(image), size, self._power)
        return [
            planes if len(planes) == 1 else self._walked(planes, weights, size)
            for planes in probabilities
        ]

    def _features(self, image: Pixels) -> list[Tensor]:
        if self._reader is None:
            raise ConfigError(
                "FeatureWalk: there is no network to read features from. "
                "Use it as refine= of a run, or pass a reader to bound()."
            )
        features = self._reader(image, self._layers, self._size)
        if not self._flip:
            return features
        mirrored = self._reader(image[:, ::-1], self._layers, self._size)
        return [(a + b.flip(-1)) / 2 for a, b in zip(features, mirrored, strict=True)]

    def _walked(self, planes: Floats, weights: Tensor, size: tuple[int, int]) -> Floats:
        small = np.stack([cv2.resize(p, size[::-1], interpolation=cv2.INTER_AREA) for p in planes])
        start = torch.from_numpy(small).to(weights.device).flatten(1)
        moved = walk(start, weights, self._steps).reshape(small.shape).cpu().numpy()
        large = enlarge(moved, (planes.shape[1], planes.shape[2]))
        return np.asarray(large / large.sum(axis=0), dtype=np.float32)


def _grid(size: tuple[int, int], nodes: int) -> tuple[int, int]:
    """Rows and columns of the grid: ``nodes`` along the longer side, at most one per pixel."""
    share = min(nodes / max(size), 1)
    return max(round(size[0] * share), 1), max(round(size[1] * share), 1)


def _check_features(features: Sequence[Tensor]) -> None:
    if not features:
        raise DataError("affinity: there are no features. Pass the maps of one layer or more.")
    for index, layer in enumerate(features):
        if layer.ndim != 3 or layer.numel() == 0 or not bool(layer.isfinite().all()):
            raise DataError(
                f"affinity: features[{index}] is {tuple(layer.shape)}, or has values that are NaN "
                "or infinite. Pass finite maps [C, h, w], and check the weights of the network."
            )


def _check_options(
    layers: Sequence[str] | None, size: float, nodes: int, power: float, steps: int
) -> None:
    if isinstance(layers, str) or (layers is not None and not layers):
        raise ConfigError(
            f"FeatureWalk: layers is {layers!r}. "
            "Pass a list of one layer name or more, or null for the default layers."
        )
    if not 2 <= nodes <= _MOST_NODES:
        raise ConfigError(
            f"FeatureWalk: nodes is {nodes}. Memory grows with its 4th power. "
            f"Pass 2 to {_MOST_NODES}."
        )
    if not (0 < size < float("inf") and 0 < power < float("inf") and steps >= 0):
        raise ConfigError(
            f"FeatureWalk: size x scale is {size}, power {power}, steps {steps}. "
            "Pass finite size, scale and power > 0 and steps >= 0."
        )
