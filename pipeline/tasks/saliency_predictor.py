"""Computation of saliency maps for the classes of an image, as a Lightning module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from pipeline.base.config import SaliencyConfig
from pipeline.networks.pixels import constants, resize, scaled_size
from pipeline.tasks.predictor import ImagePredictor


class SaliencyMethod(Protocol):
    """The interface of a method of ``tsgb``."""

    def attribute(self, images: Tensor, targets: Tensor) -> Tensor:
        """Raw maps [B, K, h, w] of classes [B, K]."""


class SaliencyPredictor(ImagePredictor):
    """Maps of every class in an image's label, with one forward pass per scale.

    Batches hold one image: ``(image [1, C, H, W], targets [1, K], id)``.

    Args:
        classifier: A network that maps normalised images to logits.
        method: A saliency method of that network.
        size: Longer side of the image at scale 1, px.
        scales: Factors on the longer side; maps are averaged over them.
        flip: Average over the mirrored image too; both are in one batch.
        normalise: Turns pixels [B, C, H, W] into the input of the classifier.
    """

    def __init__(
        self,
        classifier: torch.nn.Module,
        method: SaliencyMethod,
        *,
        size: int,
        scales: Sequence[float],
        flip: bool,
        normalise: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.method = method
        self.size = size
        self.scales = scales
        self.flip = flip
        self.normalise = normalise

    @classmethod
    def from_config(
        cls,
        classifier: torch.nn.Module,
        method: SaliencyMethod,
        config: SaliencyConfig,
        normalise: Callable[[Tensor], Tensor],
    ) -> SaliencyPredictor:
        """A predictor with the settings of the group ``saliency``."""
        return cls(
            classifier,
            method,
            size=config.size,
            scales=config.scales,
            flip=config.flip,
            normalise=normalise,
        )

    @torch.enable_grad()
    def predict_image(self, image: Tensor, targets: Tensor) -> Tensor:
        """Maps in [0, 1], [K, h, w], at a quarter of the image's sides.

        The map of each scale and flip is clamped at zero and divided by its maximum, so that all
        have equal weight; the sum is again divided by its maximum.
        """
        height, width = image.shape[-2:]
        stored = (-(-height // 4), -(-width // 4))
        total = torch.zeros(targets.shape[1], *stored, device=image.device)
        if targets.numel() == 0:  # an image without any of the classes
            return total
        for scale in self.scales:
            pixels = resize(image, scaled_size(height, width, self.size * scale))
            total += self._maps_at(self.normalise(pixels), targets, stored)
        return _normalise(total)

    def _maps_at(self, pixels: Tensor, targets: Tensor, stored: tuple[int, int]) -> Tensor:
        views = torch.cat([pixels, pixels.flip(-1)]) if self.flip else pixels
        raw = torch.cat([
            self.method.attribute(some, targets.expand(len(some), -1))
            for some in views.split(self.at_once)
        ])  # fmt: skip
        maps = resize(smooth(raw), stored)
        if self.flip:
            maps = torch.stack([maps[0], maps[1].flip(-1)])
        return _normalise(maps).sum(0)


def smooth(maps: Tensor) -> Tensor:
    """Maps [B, K, h, w] after the binomial filter (1, 2, 1) / 4 along both axes.

    A convolution with stride 2 and kernel size 3 reads every other input once and the rest twice,
    so relevance propagated through it alternates from pixel to pixel. This filter is zero at
    exactly that frequency.
    """
    taps = constants((1.0, 2.0, 1.0), maps.device) / 4
    kernel = (taps[:, None] * taps).expand(maps.shape[1], 1, 3, 3)
    return conv2d(pad(maps.float(), (1, 1, 1, 1), mode="replicate"), kernel, groups=len(kernel))


def _normalise(maps: Tensor) -> Tensor:
    """Each map clamped at zero, with a maximum of 1; a map without positive values becomes 0."""
    positive = maps.clamp(min=0)
    return positive / positive.amax((-2, -1), keepdim=True).clamp(min=1e-20)
