"""The first layer of a network for images of another number of channels than three.

Pretrained weights are kept by the rule of timm, which segmentation-models-pytorch shares: those of
red, green and blue are repeated over N channels and multiplied by 3 / N, so that outputs keep about
their size; for one channel they are summed.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from timm.models import adapt_input_conv
from torch import Tensor, nn

from pipeline.base.errors import ConfigError


def with_channels(network: nn.Module, channels: int, *, trained: bool) -> nn.Module:
    """A network of torchvision or timm for images of ``channels`` channels.

    Args:
        network: For three channels; it is not changed.
        channels: Number of channels.
        trained: Whether to keep the weights of the first layer; otherwise they are random.

    Raises:
        ConfigError: The network has no convolution of three channels.

    Example:
        >>> with_channels(nn.Sequential(nn.Conv2d(3, 8, 3)), 5, trained=False)[0].weight.shape
        torch.Size([8, 5, 3, 3])
    """
    network = deepcopy(network)
    layer = _first(network)
    if layer is None or layer.in_channels != 3 or layer.groups != 1:
        raise ConfigError(
            f"classifier.backbone: {type(network).__name__} does not begin with a convolution of "
            f"three channels, so that it cannot be made to read {channels}. Choose another one, "
            "such as resnet50."
        )
    layer.in_channels = channels
    layer.weight = nn.Parameter(adapt_input_conv(channels, layer.weight.detach()))
    if not trained:
        layer.reset_parameters()
    return network


def adapted(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], channels: int
) -> dict[str, Tensor]:
    """Tensors of a network of three channels for the same network of ``channels``.

    Args:
        tensors: By name.
        wanted: The tensors of the network that is to have them.
        channels: Number of channels of that network.

    Example:
        >>> import torch
        >>> three, five = nn.Conv2d(3, 1, 1, bias=False), nn.Conv2d(5, 1, 1, bias=False)
        >>> _ = three.weight.data.copy_(torch.tensor([5.0, 10, 15]).view(1, 3, 1, 1))
        >>> adapted(three.state_dict(), five.state_dict(), 5)["weight"].flatten()
        tensor([3., 6., 9., 3., 6.])
    """

    def fitted(name: str, tensor: Tensor) -> Tensor:
        shape = tuple(wanted[name].shape) if name in wanted else tuple(tensor.shape)
        three = (*shape[:1], 3, *shape[2:])
        is_first = len(shape) == 4 and tuple(tensor.shape) == three and shape[1] == channels != 3
        return adapt_input_conv(channels, tensor) if is_first else tensor

    return {name: fitted(name, tensor) for name, tensor in tensors.items()}


def _first(network: nn.Module) -> nn.Conv2d | None:
    """The layer that timm's record names, or else the first convolution."""
    named = (getattr(network, "pretrained_cfg", None) or {}).get("first_conv")
    known = dict(network.named_modules())
    candidates = [known.get(named)] if isinstance(named, str) else known.values()
    return next((layer for layer in candidates if isinstance(layer, nn.Conv2d)), None)
