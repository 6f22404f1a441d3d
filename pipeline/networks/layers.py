"""The layers of a backbone that saliency methods read, found by the sizes of its maps."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from pipeline.base.errors import ConfigError
from pipeline.networks.backbones import PROBE, build_classifier

_MIDDLE = 16  # stride of a middle layer: finer than that, features say little about classes


def layer_of(library: str, name: str, which: str) -> str:
    """The middle or the last layer of a network of torchvision or timm.

    The middle layer is the last step of the chain of layers with a stride of 16, the last layer the
    one that makes the final feature map. A chain within a chain is followed.

    Args:
        library: ``torchvision`` or ``timm``.
        name: Name of the network there.
        which: ``middle`` or ``last``.

    Returns:
        Its name in a :class:`~pipeline.networks.backbones.ClassifierNet`.

    Raises:
        ConfigError: The network is no such chain, or is unknown; the message says what to set.

    Example:
        >>> layer_of("timm", "tf_efficientnet_lite0", "middle")
        'backbone.blocks.4'
    """
    layers, top = _layers(library, name)
    if which not in layers:
        raise ConfigError(
            f"classifier.{which}_layer: {library}/{name} is not a plain chain of layers, so none "
            f"is found by itself. Set it to a layer; its top layers are {top}."
        )
    return f"backbone.{layers[which]}"


@cache
def _layers(library: str, name: str) -> tuple[dict[str, str], str]:
    """The layers that were found, and the names of all top layers."""
    backbone = build_classifier(library, name, "none", 1).backbone.eval()
    maps = _maps(backbone)
    found = {"middle": _middle(backbone, maps), "last": _last(maps)}
    top = ", ".join(f"backbone.{child}" for child, _ in backbone.named_children())
    return {which: layer for which, layer in found.items() if layer is not None}, top


def _maps(backbone: nn.Module) -> dict[str, tuple[Tensor, bool]]:
    """What each layer gave for one image, in order, and whether the layer has made it itself."""
    found: dict[str, tuple[Tensor, bool]] = {}

    def keep(name: str, given: tuple[object, ...], made: object) -> None:
        if isinstance(made, Tensor) and made.ndim == 4:
            found[name] = made, all(made is not value for value in given)

    handles = [
        layer.register_forward_hook(lambda _, given, made, name=name: keep(name, given, made))
        for name, layer in backbone.named_modules()
    ]
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, 3, *PROBE))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _middle(layer: nn.Module, maps: dict[str, tuple[Tensor, bool]], above: str = "") -> str | None:
    """The last child with the wanted stride, or that of the chain which goes beyond it."""
    rows, found = PROBE[0] // _MIDDLE, None
    for child_name, child in layer.named_children():
        name = above + child_name
        size = maps[name][0].shape[2] if name in maps else None
        if size == rows:
            found = name
        elif size is not None and size < rows:
            chain = isinstance(child, nn.Sequential) and found is None
            return _middle(child, maps, f"{name}.") if chain else found
    return found


def _last(maps: dict[str, tuple[Tensor, bool]]) -> str | None:
    """The outermost layer that makes the features, not one that hands them on."""
    features = maps[""][0]
    names = [name for name, (made, own) in maps.items() if name and made is features and own]
    return min(names, key=lambda name: name.count("."), default=None)
