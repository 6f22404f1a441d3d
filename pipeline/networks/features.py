"""Feature maps and per-location logits of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.base.arrays import Pixels
from pipeline.base.errors import ConfigError
from pipeline.networks.colours import Colours
from pipeline.networks.pixels import resize, scaled_size

_COARSE = 6  # a map more than this many times smaller than the image has a stride of 8 or more


class NetworkFeatures:
    """Reads feature maps of a network by layer name.

    Threads may share it; they take turns. The network is not changed.

    Args:
        network: A network for normalised images, in eval mode.
        colours: The mean and deviation that it was trained with.

    Example:
        >>> from pipeline.networks.colours import IMAGENET
        >>> network = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.ReLU())
        >>> image = np.zeros((100, 200, 3), dtype=np.uint8)
        >>> [maps.shape for maps in NetworkFeatures(network, IMAGENET)(image, ["0", "1"], size=65)]
        [torch.Size([5, 16, 32]), torch.Size([5, 16, 32])]
    """

    def __init__(self, network: nn.Module, colours: Colours) -> None:
        self._network = network
        self._colours = colours
        self._turn = Lock()

    def check(self, layers: Sequence[str]) -> None:
        """Refuse layer names that the network does not have.

        Raises:
            ConfigError: Names the first unknown layer.
        """
        known = dict(self._network.named_modules())
        for layer in layers:
            if not layer or layer not in known:
                top = [name for name in known if 0 < name.count(".") + bool(name) <= 2]
                raise ConfigError(
                    f"layers: the network has no layer {layer!r}. "
                    f"Its top layers are {', '.join(top)}."
                )

    @torch.no_grad()
    def __call__(self, image: Pixels, layers: Sequence[str], size: float) -> list[Tensor]:
        """The feature map [C, h, w] of each layer, on the network's device.

        Args:
            image: RGB uint8 [H, W, 3], or bands float32 [H, W, C]; not empty.
            layers: Names of layers with an output [1, C, h, w]. If empty: of the backbone's
                blocks, the last one at each stride of 8 or more.
            size: Longer side of the image that the network sees, px; sides are rounded to
                32 k + 1.

        Raises:
            ConfigError: A layer is unknown or its output is not a feature map; or ``layers`` is
                empty and the backbone has no block at a stride of 8 or more.
        """
        self.check(layers)
        pixels = self._pixels(image, size)
        with self._turn, _captured(self._network, layers or _parts(self._network)) as outputs:
            self._network(pixels)
        if not layers:
            return _last_of_each_size(list(outputs.values()), max(pixels.shape[-2:]))
        return [_map(layer, outputs.get(layer)) for layer in layers]

    @torch.no_grad()
    def logits(self, image: Pixels, size: float) -> NDArray[np.float32]:
        """Logits at each location, [classes, h, w]; their mean is the logit of the image.

        Args:
            image: RGB uint8 [H, W, 3], or bands float32 [H, W, C]; not empty.
            size: Longer side of the image that the network sees, px; sides are rounded to
                32 k + 1.

        Raises:
            ConfigError: The network does not consist of a ``backbone`` and a linear ``head``.
        """
        backbone = getattr(self._network, "backbone", None)
        head = getattr(self._network, "head", None)
        if not isinstance(backbone, nn.Module) or not isinstance(head, nn.Linear):
            raise ConfigError(
                f"{type(self._network).__name__}: it has no backbone and linear head, which the "
                "competition between classes needs. Use the classifier of a run, or set "
                "seed.competition=0."
            )
        pixels = self._pixels(image, size)
        with self._turn:  # hooks of a call in another thread would record this one's outputs
            features = backbone(pixels)
        bias = 0 if head.bias is None else head.bias[:, None, None]
        planes = torch.einsum("kc,chw->khw", head.weight, features[0]) + bias
        return np.asarray(planes.float().cpu().numpy())

    def _pixels(self, image: Pixels, size: float) -> Tensor:
        device = next(self._network.parameters()).device
        pixels = torch.tensor(image.copy(), device=device).permute(2, 0, 1)[None]
        height, width = image.shape[:2]
        return self._colours.normalise(resize(pixels, scaled_size(height, width, size)))


@contextmanager
def _captured(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Any]]:
    outputs: dict[str, Any] = {}

    def keep(layer: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs[layer] = output  # in the order of execution

    with ExitStack() as stack:
        for layer in dict.fromkeys(layers):
            hook = network.get_submodule(layer).register_forward_hook(partial(keep, layer))
            stack.callback(hook.remove)
        yield outputs


def _parts(network: nn.Module) -> list[str]:
    """Names of the backbone's blocks; an ``nn.Sequential`` is replaced by its children."""
    found = []
    waiting = [("backbone", getattr(network, "backbone", nn.Sequential()))]
    while waiting:
        name, module = waiting.pop()
        if type(module) is nn.Sequential or name == "backbone":
            waiting += [(f"{name}.{child}", part) for child, part in module.named_children()]
        else:
            found.append(name)
    return found


def _last_of_each_size(outputs: list[Any], side: int) -> list[Tensor]:
    maps = [output[0] for output in outputs if isinstance(output, Tensor) and output.ndim == 4]
    last = {tuple(m.shape[-2:]): m for m in maps if side > _COARSE * max(m.shape[-2:])}
    if not last:
        raise ConfigError(
            "layers: the network has no backbone with feature maps of an eighth of the image or "
            "less, so that there are no default layers. Name one or more."
        )
    return list(last.values())


def _map(layer: str, output: Any) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim != 4:
        what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(
            f"layers: {layer!r} returns {what}, not one feature map [1, C, h, w]. "
            "Choose a layer before the pooling."
        )
    return output[0]
