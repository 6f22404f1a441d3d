"""Tensors of pixels: the colour normalisation and the image sizes that the networks need."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of each channel of RGB in [0, 1]
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def normalise_colours(images: Tensor) -> Tensor:
    """RGB uint8 [B, 3, H, W] (or float in [0, 255]) as float32, normalised as for ImageNet.

    Example:
        >>> normalise_colours(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))[0, 0, 0, 0]
        tensor(2.2489)
    """
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(1, 3, 1, 1)
    deviation = torch.tensor(IMAGENET_DEVIATION, device=images.device).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / deviation


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Float [B, C, H, W] resized to ``size`` (height, width), bilinear with antialiasing."""
    if images.shape[-2:] == size:
        return images
    return interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)


def scaled_size(height: int, width: int, longer: float) -> tuple[int, int]:
    """Height and width with the same aspect ratio, rounded to sides of the form 32 k + 1.

    Such sides keep the sampling grid of every stride up to 32 centred in networks with symmetric
    padding, and are what networks trained with TensorFlow's padding expect.

    Args:
        height: Height of the image, px.
        width: Width of the image, px.
        longer: Length of the longer side before rounding, px.

    Example:
        >>> scaled_size(375, 500, 321)
        (225, 321)
    """
    ratio = longer / max(height, width)
    return _nearest_side(height * ratio), _nearest_side(width * ratio)


def _nearest_side(side: float) -> int:
    return max(32 * round((side - 1) / 32) + 1, 33)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Images padded at bottom and right to multiples of ``multiple``; the border is replicated."""
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return torch.nn.functional.pad(images, (0, right, 0, bottom), mode="replicate")
