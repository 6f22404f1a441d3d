"""Layers that learn nothing: the first ones of a network that was trained before."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from pipeline.base.errors import ConfigError


def layers_before(network: nn.Module, layer: str, setting: str) -> list[nn.Module]:
    """Everything of a network that comes before ``layer``, without what holds it.

    What comes before is told by the order in which layers were made, which in encoders of
    torchvision, timm and segmentation-models-pytorch is that of the data. Without gradients of
    these layers' weights none are worked out below ``layer``, which is where the time is saved.

    Args:
        network: Takes images.
        layer: Dotted name in it.
        setting: Where a person gave the name, for the error.

    Raises:
        ConfigError: There is no such layer.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 5))
        >>> layers_before(network, "1", "freeze_until")
        [Linear(in_features=2, out_features=3, bias=True)]
    """
    if layer not in dict(network.named_modules()) or not layer:
        names = ", ".join(name for name, _ in _top(network))
        raise ConfigError(
            f"{setting}: {layer!r} is no layer of {type(network).__name__}. More or less than was "
            f"meant would be frozen. Choose the first layer that is to learn, among them {names}."
        )
    found = []
    for name, module in network.named_modules():
        if name == layer:
            break
        if name and not layer.startswith(f"{name}."):  # else it holds the layer
            found.append(module)
    return found


def _top(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers of a network, those of its longest chain if it has but a few."""
    children = list(network.named_children())
    for name, child in children:
        if len(children) <= 2 and len(list(child.children())) > 2:
            yield from ((f"{name}.{inner}", module) for inner, module in child.named_children())
        else:
            yield name, child
