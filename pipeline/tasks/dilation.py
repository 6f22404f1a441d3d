"""Finer feature maps from a network with the weights it has: strides become dilations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError

_SIDE = 256  # px of the image that shows at which stride each layer works
OUTPUT_STRIDES = (8, 16, 32)
_Stepping = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d


def dilate(network: nn.Module, output_stride: int, name: str) -> None:
    """Have no layer of a network work at a stride above ``output_stride``; in place.

    A convolution that would go beyond it takes every pixel, and those behind it look as far apart
    as before, with a dilation: what was computed is computed still, at more places (but for means
    over the whole map, as in squeeze and excitation). A network that stays below anyway is left as
    it is.

    Args:
        network: Takes images; its layers are convolutions, or work at every place by itself.
        output_stride: Pixels of the image for a pixel of the last feature map, a power of two.
        name: Of the network, for errors.

    Raises:
        ConfigError: A layer cannot be dilated: a pooling, or a convolution with a kernel of even
            sides or without padding.

    Example:
        >>> network = nn.Sequential(
        ...     nn.Conv2d(3, 4, 3, stride=16, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)
        ... )
        >>> dilate(network, 16, "an example")
        >>> network(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 4, 4, 4])
    """
    names = {layer: path for path, layer in network.named_modules()}
    for layer, stride in _strides(network).items():
        if not _is_beyond(layer, stride, output_stride):
            continue
        if not (isinstance(layer, nn.Conv2d) and _keeps_size(layer)):
            raise ConfigError(
                f"classifier.output_stride: {output_stride}, but {names[layer]} of {name} works "
                f"beyond it and is {layer}. Only a convolution with odd sides and as much padding "
                "can be dilated. Choose a larger stride or another backbone."
            )
        _dilate(layer, stride, output_stride)


@torch.no_grad()
def _strides(network: nn.Module) -> dict[_Stepping, int]:
    """Pixels of the image for a pixel of what each layer sees, in the order of the data."""
    strides: dict[_Stepping, int] = {}

    def note(layer: _Stepping, inputs: tuple[Tensor, ...]) -> None:
        # The next power of two: layers without padding make a map a little smaller.
        strides.setdefault(layer, 2 ** round(math.log2(_SIDE / inputs[0].shape[-1])))

    layers = [layer for layer in network.modules() if isinstance(layer, _Stepping)]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    training = network.training
    try:
        network.eval()(torch.zeros(1, 3, _SIDE, _SIDE))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return strides


def _is_beyond(layer: _Stepping, stride: int, output_stride: int) -> bool:
    """Whether a layer goes beyond the stride, or looks at neighbours beyond it."""
    own, side = _largest(layer.stride), _largest(layer.kernel_size)
    return stride * own > output_stride and (own > 1 or side > 1)


def _largest(pair: int | tuple[int, ...]) -> int:
    return pair if isinstance(pair, int) else max(pair)


def _keeps_size(layer: nn.Conv2d) -> bool:
    """Whether it gives a pixel for each that it steps on, at the borders too."""
    middle = tuple(
        side // 2 * step for side, step in zip(layer.kernel_size, layer.dilation, strict=True)
    )
    odd = all(side % 2 for side in layer.kernel_size)
    return odd and layer.padding == middle and layer.padding_mode == "zeros"


def _dilate(layer: nn.Conv2d, stride: int, output_stride: int) -> None:
    """Change a layer that sees a map of ``stride`` in the network as it was."""
    apart = max(stride // output_stride, 1)
    step = max(output_stride // stride, 1)
    layer.stride = tuple(min(own, step) for own in layer.stride)
    layer.dilation = tuple(own * apart for own in layer.dilation)
    layer.padding = tuple(own * apart for own in layer.padding)  # type: ignore[misc]
