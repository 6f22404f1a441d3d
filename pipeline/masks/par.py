"""Pixel-adaptive refinement: probabilities flow between neighbours of similar colour.

Unlike the dense CRF it connects a pixel with only 8 neighbours at each of a few distances, and it
smooths each label separately: labels do not compete. It is plain tensor arithmetic, well suited to
a GPU.

References:
    Ru et al., "Learning Affinity from Attention: End-to-End Weakly-Supervised Semantic Segmentation
    with Transformers", CVPR 2022, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.base.arrays import Floats, Image
from pipeline.base.errors import ConfigError, DataError
from pipeline.masks.refine import check_sizes, turn_on

_TINY = 1e-8  # added to the deviation of a flat neighbourhood, as in the authors' program
_AROUND = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


class PixelAdaptiveRefinement:
    """Each pixel becomes a mean of its neighbours, weighted by colour and distance.

    With N the 8 neighbours of a pixel at every dilation (clamped at the border of the image)::

        colour_n   = -mean over channels of (|I_n - I| / (w1 * std of I over N))^2
        position_n = -(|P_n - P| / (w1 * std of |P_n - P| over N))^2
        weight_n   = (softmax(colour)_n + w2 softmax(position)_n) / (1 + w2)

    The authors omit the division by ``1 + w2``, which scales all labels equally; with it
    probabilities stay probabilities.

    Args:
        dilations: Distances of the neighbours, pixels, each >= 1.
        iterations: Number of iterations, >= 0. The authors use 10, others 20.
        w1: Width of the kernels in standard deviations, > 0. The smaller, the more the most
            similar neighbours dominate.
        w2: Weight of the position term relative to the colour term, >= 0.
        device: Where to compute, for example "cpu" or "cuda"; "auto": the CPU, or see :meth:`on`.

    Raises:
        ConfigError: A value is out of its range.

    Example:
        >>> image = np.zeros((6, 6, 3), dtype=np.uint8)
        >>> even = np.full((2, 6, 6), 0.5, dtype=np.float32)
        >>> PixelAdaptiveRefinement(iterations=2)(image, [even])[0][:, 0, 0].round(3)
        array([0.5, 0.5], dtype=float32)
    """

    def __init__(
        self,
        dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
        iterations: int = 10,
        w1: float = 0.3,
        w2: float = 0.01,
        device: str = "auto",
    ) -> None:
        _check_options(dilations, iterations, w1, w2)
        self._steps = [(d * down, d * right) for d in dilations for down, right in _AROUND]
        self._reach = max(dilations)
        self._iterations = iterations
        self._w1, self._w2 = w1, w2
        self._chooses = device == "auto"
        self._device = "cpu" if self._chooses else device

    def on(self, device: str) -> PixelAdaptiveRefinement:
        """The same refinement for a run on ``device``, which "auto" then means."""
        moved = copy(self)
        moved._device = device if self._chooses else self._device
        return moved

    @torch.no_grad()
    def __call__(self, image: Image, probabilities: Sequence[Floats]) -> list[Floats]:
        """Refined probabilities; all arrays share one set of weights.

        Args:
            image: RGB, uint8 [H, W, 3], not empty.
            probabilities: Each float32 [L, H, W].

        Returns:
            One float32 [L, H, W] for each; its sum over the labels is preserved.

        Raises:
            DataError: Image or probabilities have another type or size.
        """
        check_sizes("PixelAdaptiveRefinement", image, probabilities)
        _check_image(image)
        if not probabilities:
            return []
        with turn_on(self._device):
            return self._refined(image, probabilities)

    def _refined(self, image: Image, probabilities: Sequence[Floats]) -> list[Floats]:
        weights = self._weights(torch.tensor(image, device=self._device).permute(2, 0, 1).float())
        planes = torch.tensor(np.concatenate(probabilities), device=self._device).float()
        for _ in range(self._iterations):
            refined = torch.zeros_like(planes)
            for weight, neighbour in zip(weights, self._neighbours(planes), strict=True):
                refined.addcmul_(weight, neighbour)
            planes = refined
        return [part.cpu().numpy() for part in planes.split([len(p) for p in probabilities])]

    def _weights(self, image: Tensor) -> Tensor:
        """The weights [neighbours, H, W] of each pixel's neighbours in ``image`` [3, H, W]."""
        logits = image.new_zeros(len(self._steps), *image.shape[1:])
        for channel in image:
            neighbours = torch.cat(list(self._neighbours(channel[None])))
            width = self._w1 * (neighbours.std(0) + _TINY)
            logits -= ((neighbours - channel) / width).square() / len(image)
        lengths = torch.tensor([math.hypot(*step) for step in self._steps])
        distances = lengths.to(image.device, non_blocking=True)
        position = -(distances / (self._w1 * (distances.std() + _TINY))).square()
        nearness = self._w2 * position.softmax(0)[:, None, None]
        return (logits.softmax(0) + nearness) / (1 + self._w2)

    def _neighbours(self, planes: Tensor) -> Iterator[Tensor]:
        """``planes`` [C, H, W] shifted by each neighbour's offset; the border is replicated."""
        height, width = planes.shape[1:]
        reach = self._reach
        padded = functional.pad(planes[None], [reach] * 4, mode="replicate")[0]
        for down, right in self._steps:
            top, left = reach + down, reach + right
            yield padded[:, top : top + height, left : left + width]


def _check_image(image: Image) -> None:
    shape = np.shape(image)
    if image.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise DataError(
            f"PixelAdaptiveRefinement: image is {image.dtype} {shape}. "
            "Pass uint8 [H, W, 3], not empty."
        )


def _check_options(dilations: Sequence[int], iterations: int, w1: float, w2: float) -> None:
    if not dilations or min(dilations) < 1:
        raise ConfigError(
            f"PixelAdaptiveRefinement: dilations is {list(dilations)}. "
            "Pass at least one distance, each of 1 or more."
        )
    if iterations < 0:
        raise ConfigError(f"PixelAdaptiveRefinement: iterations is {iterations}. Pass 0 or more.")
    if not (math.isfinite(w1) and w1 > 0 and math.isfinite(w2) and w2 >= 0):
        raise ConfigError(
            f"PixelAdaptiveRefinement: w1 is {w1} and w2 is {w2}. Pass w1 > 0 and w2 >= 0."
        )
