"""Depthwise convolutions that are quick to train in bfloat16 on a CPU, with the same results.

There the backward pass of a strided or dilated depthwise convolution has no quick kernel, and takes
up to ten times as long as that of a plain one. Where a CPU has no kernels for bfloat16 at all,
every depthwise backward pass is slow and adds up in bfloat16; strided and dilated ones then run in
float32. Numbers: ``docs/lab/training_on_a_cpu.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

_SMALLEST = 3  # sides of images below which many small ones take longer than a few large ones


def quicken_depthwise(network: nn.Module) -> None:
    """Have strided and dilated depthwise convolutions train quickly under bfloat16 autocast.

    Weights, their names and the results stay, up to rounding. In eval mode, in another precision
    and on a GPU nothing changes; nor do layers of other classes, or of uneven dilations.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4))
        >>> quicken_depthwise(network)
        >>> type(network[0]).__name__, list(network.state_dict())
        ('_Dilated', ['0.weight', '0.bias'])
    """
    for layer in network.modules():
        if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros":
            continue
        if layer.groups != layer.in_channels or layer.groups == 1:
            continue
        if _is_dilated(layer):
            layer.__class__ = _Dilated
        elif max(layer.stride) > 1 and max(layer.dilation) == 1:
            layer.__class__ = _Strided


def _is_dilated(layer: nn.Conv2d) -> bool:
    """Whether it has one dilation above 1 and gives as many pixels as it gets."""
    side, step = layer.kernel_size[0], layer.dilation[0]
    return (
        side % 2 == 1
        and layer.kernel_size == (side, side)
        and layer.dilation == (step, step) != (1, 1)
        and layer.stride == (1, 1)
        and layer.padding == (side // 2 * step, side // 2 * step)
    )


class _Strided(nn.Conv2d):
    """In float32, which has a quick kernel."""

    def forward(self, images: Tensor) -> Tensor:
        return _in_float32(self, images) if _is_slow(self, images) else super().forward(images)


class _Dilated(nn.Conv2d):
    """As a plain one of d x d smaller images, each of every d-th pixel of every d-th row.

    In float32 where a CPU has no kernels for bfloat16.
    """

    def forward(self, images: Tensor) -> Tensor:
        if not _is_slow(self, images):
            return super().forward(images)
        if not _has_bfloat16_kernels():
            return _in_float32(self, images)
        step, middle, rows = self.dilation[0], self.kernel_size[0] // 2, images.shape[-2:]
        if step >= max(rows):  # all but the middle of the kernel is outside of the image
            centre = self.weight[:, :, middle : middle + 1, middle : middle + 1]
            return conv2d(images, centre, self.bias, groups=self.groups)
        if max(rows) <= step * (_SMALLEST - 1):
            return super().forward(images)
        small = _apart(images, step)
        return _together(
            conv2d(small, self.weight, self.bias, padding=middle, groups=self.groups), step, rows
        )


def _is_slow(layer: nn.Conv2d, images: Tensor) -> bool:
    if not layer.training or images.device.type != "cpu" or layer.weight.dtype != torch.float32:
        return False
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _has_bfloat16_kernels() -> bool:
    """Whether oneDNN computes in bfloat16 here; torch's own loops do the work where not."""
    if not torch.backends.mkldnn.is_available():  # nor is there anything to ask
        return False
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def _in_float32(layer: nn.Conv2d, images: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return nn.Conv2d.forward(layer, images.float()).bfloat16()


def _apart(images: Tensor, step: int) -> Tensor:
    """Images [B * step * step, C, h, w] of every ``step``-th pixel, filled up with zeros."""
    height, width = images.shape[-2:]
    filled = pad(images, (0, -width % step, 0, -height % step))
    by_pixel = filled.permute(0, 2, 3, 1)  # as channels-last memory has them
    grid: Tensor = by_pixel.unflatten(2, (-1, step)).unflatten(1, (-1, step))
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)


def _together(small: Tensor, step: int, size: torch.Size) -> Tensor:
    """What :func:`_apart` took apart, without the zeros that filled it up."""
    grid: Tensor = small.permute(0, 2, 3, 1).unflatten(0, (-1, step, step))
    by_pixel = grid.permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
    return by_pixel.permute(0, 3, 1, 2)[..., : size[0], : size[1]]
