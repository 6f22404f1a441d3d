"""Classifiers of torchvision and timm by name, each with its own preprocessing."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from tsgb.draw import Picture, optional_package
from tsgb.errors import TSGBError

Library: TypeAlias = Literal["torchvision", "timm"]

_LISTED = 8  # names in a message


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
    load = _from_torchvision if library == "torchvision" else _from_timm
    try:
        classifier = load(name, weights == "download")
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, TSGBError):
            raise
        raise CommandError(
            f"--model: {library} cannot make {name!r} with --weights {weights} ({error}). Without "
            "a connection, or for a network without published weights, give the path of a state "
            "dict: --weights PATH."
        ) from error
    if weights not in ("download", "none"):
        _load_weights(classifier.network, Path(weights), name)
    classifier.network.eval()
    return classifier


def _from_torchvision(name: str, download: bool) -> Classifier:
    models = optional_package("torchvision.models", "--library torchvision")
    _check_model(name, name, models.list_models(module=models))
    best = models.get_model_weights(name).DEFAULT
    options: dict[str, Any] = {"weights": best if download else None}
    if name in ("googlenet", "inception_v3") and not download:
        # The published weights of these two expect it, and torchvision sets it with them only.
        options |= {"transform_input": True, "init_weights": False}
    preset = best.transforms()
    preprocessing = Preprocessing(
        size=preset.crop_size[0],
        resize=preset.resize_size[0],
        mean=preset.mean,
        deviation=preset.std,
        resampling=preset.interpolation.value,
    )
    return Classifier(models.get_model(name, **options), best.meta["categories"], preprocessing)


def _from_timm(name: str, download: bool) -> Classifier:
    timm = optional_package("timm", "--library timm")
    data = optional_package("timm.data", "--library timm")
    _check_model(name, name.partition(".")[0], timm.list_models())
    network = timm.create_model(name, pretrained=download)
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


def _check_model(name: str, architecture: str, known: Sequence[str]) -> None:
    if architecture not in known:
        raise CommandError(
            f"--model: there is no classifier {name!r}. {similar(architecture, known)} "
            "Choose one, or another --library."
        )


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


def similar(name: str, known: Sequence[str]) -> str:
    """A sentence for a message: the known names that are like ``name``, or the first ones."""
    lowered = {value.casefold(): value for value in known}
    close = get_close_matches(name.casefold(), lowered, n=_LISTED, cutoff=0.5)
    if close:
        return f"Similar are: {', '.join(lowered[match] for match in close)}."
    return f"The first of {len(known)} are: {', '.join(known[:_LISTED])}."
