"""Frozen layers: the first ones of a pretrained network."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from pipeline.base.errors import ConfigError


def layers_before(network: nn.Module, layer: str, setting: str) -> list[nn.Module]:
    """All modules of a network before ``layer``, without the modules that contain it.

    "Before" refers to the order of definition, which in encoders of torchvision, timm and
    segmentation-models-pytorch is the order of execution. If these layers are frozen, the backward
    pass ends at ``layer``, which saves time.

    Args:
        network: The network.
        layer: Dotted name of a layer in it.
        setting: Name of the setting, for the error.

    Raises:
        ConfigError: The layer does not exist.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 5))
        >>> layers_before(network, "1", "freeze_until")
        [Linear(in_features=2, out_features=3, bias=True)]
    """
    if layer not in dict(network.named_modules()) or not layer:
        names = ", ".join(name for name, _ in _top(network))
        raise ConfigError(
            f"{setting}: {layer!r} is not a layer of {type(network).__name__}. "
            f"Choose the first layer that is to learn, for example one of {names}."
        )
    found = []
    for name, module in network.named_modules():
        if name == layer:
            break
        if name and not layer.startswith(f"{name}."):  # otherwise the module contains the layer
            found.append(module)
    return found


def _top(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The children of a network; of up to two children, a long one is replaced by its own."""
    children = list(network.named_children())
    for name, child in children:
        if len(children) <= 2 and len(list(child.children())) > 2:
            yield from ((f"{name}.{inner}", module) for inner, module in child.named_children())
        else:
            yield name, child
