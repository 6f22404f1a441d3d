"""Classifiers of torchvision and timm by name, each with its own preprocessing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsgb._networks import Library, UnknownNetworkError, make_network
from tsgb._optional import optional_package
from tsgb.draw import Picture
from tsgb.errors import TSGBError

_IMAGENET_CLASSES = 1000
_IMAGENET_GROUPS = {  # its classes are breeds and species; these are the words that people use
    "bird": (*range(7, 25), *range(80, 101), *range(127, 147)),
    "cat": tuple(range(281, 286)),
    "dog": tuple(range(151, 269)),
}


class CommandError(TSGBError, ValueError):
    """The command asks for something that does not exist."""


@dataclass(frozen=True)
class Preprocessing:
    """From an image to what a network was trained on.

    Attributes:
        size: Of the network's input, px.
        resize: Shorter side before the middle of ``size`` px is cut out, px.
        mean: Of the colours in [0, 1].
        deviation: Of the colours in [0, 1].
        resampling: Name of Pillow's filter.
    """

    size: int
    resize: int
    mean: Sequence[float]
    deviation: Sequence[float]
    resampling: str

    def view(self, image: Any, size: int | None, *, crop: bool) -> Picture:
        """The part of a Pillow image that the network sees, RGB [H, W, 3].

        Args:
            image: A Pillow image.
            size: Shorter side in px; None is the network's own.
            crop: The middle square at the network's own zoom, not the whole image.
        """
        size = self.size if size is None else size
        side = int(size * self.resize / self.size) if crop else size
        shorter = min(image.size)
        width, height = (side if n == shorter else int(side * n / shorter) for n in image.size)
        pillow = optional_package("PIL.Image", "tsgb explain")
        resized = image.resize((width, height), pillow.Resampling[self.resampling.upper()])
        if crop:
            left, top = round((width - size) / 2), round((height - size) / 2)
            resized = resized.crop((left, top, left + size, top + size))
        return np.asarray(resized, dtype=np.uint8)

    def tensor(self, view: Picture) -> Tensor:
        """The view as the network wants it, [1, 3, H, W]."""
        pixels = torch.from_numpy(view.copy()).permute(2, 0, 1)[None].float() / 255
        mean, deviation = (
            torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.deviation)
        )
        return (pixels - mean) / deviation


@dataclass(frozen=True)
class Classifier:
    """A network in evaluation mode, the names of its classes, and what it expects."""

    network: nn.Module
    classes: Sequence[str]
    preprocessing: Preprocessing


def load_classifier(library: Library, name: str, weights: str) -> Classifier:
    """A classifier in evaluation mode.

    Args:
        library: Where the network is from.
        name: Of the network there, for example ``resnet50``.
        weights: ``download`` (the library's best), ``none`` (random), or the path of a state dict.

    Raises:
        CommandError: There is no such network or file, or the weights do not fit.
        MissingPackageError: The library is not installed.
    """
    describe = _of_torchvision if library == "torchvision" else _of_timm
    try:
        network = make_network(library, name, download=weights == "download")
    except UnknownNetworkError as error:
        raise CommandError(f"--model: {error} Choose one, or another --library.") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise CommandError(
            f"--model: {library} cannot make {name!r} with --weights {weights} ({error}). Without "
            "a connection, or for a network without published weights, give the path of a state "
            "dict: --weights PATH."
        ) from error
    if weights not in ("download", "none"):
        _load_weights(network, Path(weights), name)
    return describe(network.eval(), name)


def _of_torchvision(network: nn.Module, name: str) -> Classifier:
    best = optional_package("torchvision.models", "torchvision").get_model_weights(name).DEFAULT
    preset = best.transforms()
    preprocessing = Preprocessing(
        size=preset.crop_size[0],
        resize=preset.resize_size[0],
        mean=preset.mean,
        deviation=preset.std,
        resampling=preset.interpolation.value,
    )
    return Classifier(network, best.meta["categories"], preprocessing)


def _of_timm(network: nn.Module, _: str) -> Classifier:
    data = optional_package("timm.data", "timm")
    config = data.resolve_model_data_config(network)
    size = config["input_size"][-1]
    preprocessing = Preprocessing(
        size=size,
        resize=int(size / config["crop_pct"]),
        mean=config["mean"],
        deviation=config["std"],
        resampling=config["interpolation"],
    )
    subset = data.infer_imagenet_subset(network)
    described = data.ImageNetInfo(subset).label_descriptions() if subset else []
    return Classifier(network, [name.partition(",")[0] for name in described], preprocessing)


def _load_weights(network: nn.Module, path: Path, name: str) -> None:
    if not path.is_file():
        raise CommandError(
            f"--weights: there is no file {str(path)!r}. Give the path of a state dict, "
            "'download' or 'none'."
        )
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (AttributeError, EOFError, RuntimeError, TypeError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CommandError(
            f"--weights: {str(path)!r} does not hold the weights of {name} ({reason}). Save them "
            "with torch.save(model.state_dict(), path), from the network that --model names."
        ) from error


def fitting(word: str, names: Sequence[str]) -> list[int]:
    """Indices of the classes that a word stands for, empty if there are none.

    The first of these that finds any: the index itself, the whole name, ``dog``, ``cat`` and
    ``bird`` for the 1000 classes of ImageNet, a word in the name, a part of the name.

    Example:
        >>> fitting("Bear", ["bearskin", "brown bear", "polar bear"])
        [1, 2]
    """
    if word.isdecimal() and int(word) < len(names):
        return [int(word)]
    sought = word.casefold()
    whole = [k for k, name in enumerate(names) if name.casefold() == sought]
    if whole:
        return whole
    if len(names) == _IMAGENET_CLASSES and sought in _IMAGENET_GROUPS:
        return list(_IMAGENET_GROUPS[sought])
    found = [k for k, name in enumerate(names) if sought in name.casefold()]
    words = [k for k in found if re.search(rf"\b{re.escape(sought)}\b", names[k].casefold())]
    return words or found
