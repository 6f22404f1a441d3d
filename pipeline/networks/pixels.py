"""Tensors of pixels: the image sizes that the networks need, and how they lie in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

_FEW = 16  # input channels below which the convolutions of `memory_format` crash


def memory_format(network: nn.Module) -> torch.memory_format:
    """Channels last, which is faster; contiguous for a network that could crash in it.

    On some AMD processors the backward pass of a 1 x 1 convolution with a stride over few channels
    writes outside its memory in torch 2.15, with channels last in float32. RepVGG, MobileOne and
    FastViT begin with one.

    Example:
        >>> memory_format(nn.Sequential(nn.Conv2d(3, 8, 1, stride=2)))
        torch.contiguous_format
        >>> memory_format(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2)))
        torch.channels_last
    """
    crashes = any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels < _FEW
        for layer in network.modules()
    )
    return torch.contiguous_format if crashes else torch.channels_last


def constants(values: Sequence[float], device: torch.device) -> Tensor:
    """Numbers as a tensor on ``device``, without waiting for what a GPU still computes."""
    return torch.tensor(values).to(device, non_blocking=True)


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
