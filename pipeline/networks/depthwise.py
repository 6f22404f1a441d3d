"""Depthwise convolutions that train fast in bfloat16 on a CPU, with the same results.

On a CPU the bfloat16 backward pass of a depthwise convolution that is strided, dilated or larger
than 3 x 3 has no fast kernel, and takes two to ten times as long as in float32. On a CPU without
any bfloat16 kernels every depthwise backward pass is slow and accumulates in bfloat16; these layers
then run in float32 too. Measurements: ``docs/lab/training_on_a_cpu.md``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

_FAST = 3  # largest side of a kernel with a fast bfloat16 backward pass
_SMALLEST = 3  # px, side of the sub-images below which splitting an image is slower


def speed_up_depthwise(network: nn.Module) -> None:
    """Replace strided, dilated and large depthwise convolutions by faster ones under autocast.

    Weights and their names stay the same, and so do the results up to rounding. In eval mode, in
    another precision and on a GPU the layers behave as before. Layers with different dilations
    along the axes, and subclasses of ``nn.Conv2d`` other than timm's with TensorFlow's padding, are
    not replaced.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4))
        >>> speed_up_depthwise(network)
        >>> type(network[0]).__name__, list(network.state_dict())
        ('_Dilated', ['0.weight', '0.bias'])
    """
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d) or type(layer) not in _FASTER:
            continue
        if layer.padding_mode != "zeros":
            continue
        if layer.groups != layer.in_channels or layer.groups == 1:
            continue
        if type(layer) is nn.Conv2d and _is_dilated(layer):
            layer.__class__ = _Dilated
        elif max(layer.dilation) == 1 and (max(layer.stride) > 1 or _is_large(layer)):
            layer.__class__ = _FASTER[type(layer)]


def _is_dilated(layer: nn.Conv2d) -> bool:
    """Whether both dilations are equal and above 1, and the output has the size of the input."""
    side, step = layer.kernel_size[0], layer.dilation[0]
    return (
        side % 2 == 1
        and layer.kernel_size == (side, side)
        and layer.dilation == (step, step) != (1, 1)
        and layer.stride == (1, 1)
        and layer.padding == (side // 2 * step, side // 2 * step)
    )


def _is_large(layer: nn.Conv2d) -> bool:
    return max(layer.kernel_size) > _FAST


class _Float32(nn.Conv2d):
    """Runs in float32, which has a fast kernel."""

    def forward(self, images: Tensor) -> Tensor:
        forward = super().forward
        return _in_float32(forward, images) if _is_slow(self, images) else forward(images)


class _Float32Same(Conv2dSame):  # type: ignore[misc]  # timm has no types
    """The same with TensorFlow's padding."""

    def forward(self, images: Tensor) -> Tensor:
        forward = super().forward
        return _in_float32(forward, images) if _is_slow(self, images) else forward(images)


_FASTER: dict[type[nn.Conv2d], type[nn.Conv2d]] = {nn.Conv2d: _Float32, Conv2dSame: _Float32Same}


class _Dilated(nn.Conv2d):
    """A plain convolution of d x d sub-images, each of which has every d-th pixel and row.

    On a CPU without bfloat16 kernels it runs in float32.
    """

    def forward(self, images: Tensor) -> Tensor:
        if not _is_slow(self, images):
            return super().forward(images)
        if not _has_bfloat16_kernels():
            return _in_float32(super().forward, images)
        return _in_float32(self._split, images) if _is_large(self) else self._split(images)

    def _split(self, images: Tensor) -> Tensor:
        step, middle, rows = self.dilation[0], self.kernel_size[0] // 2, images.shape[-2:]
        if step >= max(rows):  # only the centre of the kernel lies inside the image
            centre = self.weight[:, :, middle : middle + 1, middle : middle + 1]
            return conv2d(images, centre, self.bias, groups=self.groups)
        if max(rows) <= step * (_SMALLEST - 1):
            return super().forward(images)
        small = _space_to_batch(images, step)
        return _batch_to_space(
            conv2d(small, self.weight, self.bias, padding=middle, groups=self.groups), step, rows
        )


def _is_slow(layer: nn.Conv2d, images: Tensor) -> bool:
    if not layer.training or images.device.type != "cpu" or layer.weight.dtype != torch.float32:
        return False
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _has_bfloat16_kernels() -> bool:
    """Whether oneDNN has bfloat16 kernels for this CPU; otherwise torch uses its own loops."""
    if not torch.backends.mkldnn.is_available():
        return False
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def _in_float32(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return forward(images.float()).bfloat16()


def _space_to_batch(images: Tensor, step: int) -> Tensor:
    """Sub-images [B * step * step, C, h, w] of every ``step``-th pixel, padded with zeros."""
    height, width = images.shape[-2:]
    filled = pad(images, (0, -width % step, 0, -height % step))
    by_pixel = filled.permute(0, 2, 3, 1)  # the order in channels-last memory
    grid: Tensor = by_pixel.unflatten(2, (-1, step)).unflatten(1, (-1, step))
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)


def _batch_to_space(small: Tensor, step: int, size: torch.Size) -> Tensor:
    """The inverse of :func:`_space_to_batch`, without the padding."""
    grid: Tensor = small.permute(0, 2, 3, 1).unflatten(0, (-1, step, step))
    by_pixel = grid.permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
    return by_pixel.permute(0, 3, 1, 2)[..., : size[0], : size[1]]
