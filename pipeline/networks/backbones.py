"""Classification networks by name: a backbone, global average pooling and one linear layer."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
import torchvision
from torch import Tensor, nn

from pipeline.base.errors import ConfigError, reason
from pipeline.networks.first_layer import with_channels
from tsgb.explain.networks import DownloadError, NetworkError, load_network
from tsgb.explain.state_dicts import WeightsError

PROBE = (128, 256)  # px, height and width: features whose channels come last are wider than that


class ClassifierNet(nn.Module):
    """Backbone, global average pooling, linear layer.

    Layers of the backbone are called ``backbone.<name in the library>``. For torchvision networks
    with a module ``features``, that word is omitted (``backbone.13`` for MobileNetV2).
    """

    def __init__(self, backbone: nn.Module, channels: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of normalised images [B, C, H, W]."""
        return self.logits(self.backbone(images))

    def logits(self, features: Tensor) -> Tensor:
        """Logits [B, classes] of the backbone's feature map [B, C, h, w]."""
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def build_classifier(
    library: str, name: str, weights: str, classes: int, channels: int = 3
) -> ClassifierNet:
    """A classifier for ``classes`` classes on a backbone of torchvision or timm.

    Args:
        library: ``torchvision`` or ``timm``.
        name: Name of the network in the library, for example ``resnet50``.
        weights: Weights of the backbone: ``none``, ``download`` (from the library), or the path
            of a state dict of the whole network, whose head is dropped.
        classes: Number of outputs.
        channels: Number of channels of the images. Weights of three are adapted, see
            :mod:`pipeline.networks.first_layer`.

    Raises:
        ConfigError: The library or the name is unknown, the weights do not fit, or the network
            has no feature map [B, C, h, w] before its classifier.
    """
    network = library_network(library, name, weights)
    if channels != 3:
        network = with_channels(network, channels, trained=weights != "none")
    backbone = _cut(library, name, network)
    return ClassifierNet(backbone, _channels(backbone, f"{library}/{name}", channels), classes)


def library_network(library: str, name: str, weights: str) -> nn.Module:
    """A network of torchvision or timm with its own head.

    Args:
        library: ``torchvision`` or ``timm``.
        name: Name of the network in the library.
        weights: ``none``, ``download``, or the path of a state dict of the whole network.

    Raises:
        ConfigError: The name is unknown, or the weights do not fit.
    """
    try:
        return load_network(library, name, weights)
    except DownloadError as error:
        raise ConfigError(f"{error.args[0].removesuffix('.')}: classifier.weights=FILE.") from error
    except NetworkError as error:
        raise ConfigError(f"classifier.backbone: {error}") from error
    except WeightsError as error:
        raise ConfigError(f"classifier.weights: {error}") from error


def _cut(library: str, name: str, network: nn.Module) -> nn.Module:
    if library == "timm":
        network.reset_classifier(0, "")  # type: ignore[operator]  # returns its feature map now
        return network
    if isinstance(network, torchvision.models.DenseNet):
        return nn.Sequential(*network.features, nn.ReLU())
    if hasattr(network, "features"):
        return cast(nn.Module, network.features)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for child_name, child in network.named_children():
        if child_name in ("avgpool", "fc"):
            return nn.Sequential(layers)
        if child_name.startswith("aux"):
            break
        layers[child_name] = child
    raise ConfigError(
        f"classifier.backbone: torchvision/{name} is not a plain chain of layers before its "
        "classifier, so its feature map cannot be found. Use the same network from timm "
        "(classifier.library=timm)."
    )


def _channels(backbone: nn.Module, name: str, inputs: int) -> int:
    """Number of channels of the features, which are asked for with a wide image."""
    training, (height, width) = backbone.training, PROBE
    try:
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(1, inputs, height, width))
    except Exception as error:  # libraries raise what they like, bare assertions included
        raise ConfigError(
            f"classifier.backbone: {name} cannot take an image of {width} x {height} px: "
            f"{reason(error)} Choose a convolutional network, which takes images of any size."
        ) from error
    backbone.train(training)
    if features.ndim != 4 or not features.shape[2] < features.shape[3] <= width // 2:
        raise ConfigError(
            f"classifier.backbone: {name} returns features of shape {tuple(features.shape)} for an "
            f"image of {width} x {height} px, not [B, C, h, w]. Choose a convolutional network."
        )
    return int(features.shape[1])
