"""Which network is explained: the run's classifier, a checkpoint, or one of a library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights

from pipeline.base.errors import ConfigError
from pipeline.networks.backbones import library_network
from pipeline.networks.pixels import normalise_colours
from pipeline.run.executor import Step, require
from pipeline.run.run import Run
from pipeline.run.table import STAGES
from pipeline.stages.trained import load_classifier
from pipeline.tasks.classifier import ClassifierTask

_USUAL_SIZE = 224  # on which the networks of torchvision were trained, px
_LIBRARIES = ("torchvision", "timm")


@dataclass(frozen=True)
class Explained:
    """A network in eval mode, and how to read what it says.

    Attributes:
        name: For titles.
        network: Gives logits.
        classes: Names of the logits.
        size: Longer side of the image that it is asked about, px.
        probabilities: Of logits.
        colours: Changes images with ImageNet's mean and deviation to what the network wants.
        layer_of: From a layer of the run's classifier to the network's own, None if it has none.
    """

    name: str
    network: nn.Module
    classes: Sequence[str]
    size: int
    probabilities: Callable[[Tensor], Tensor]
    colours: Callable[[Tensor], Tensor]
    layer_of: Callable[[str], str | None]


@dataclass(frozen=True)
class Colours:
    """From ImageNet's mean and deviation to those that a network was trained with."""

    mean: Sequence[float]
    deviation: Sequence[float]

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images in the network's own scale."""
        ends = normalise_colours(torch.tensor([0.0, 255.0]).expand(1, 3, 1, 2)).to(images.device)
        black, white = ends[..., :1], ends[..., 1:]
        mean, deviation = (
            torch.tensor(values, device=images.device).view(1, 3, 1, 1)
            for values in (self.mean, self.deviation)
        )
        return ((images - black) / (white - black) - mean) / deviation


def own_model(run: Run, checkpoint: str | None, who: str) -> Explained:
    """The run's classifier, or the one in a checkpoint.

    Args:
        run: Whose classifier it is, and whose layer names are translated.
        checkpoint: Path of a file that ``stage=classifier`` wrote; None is the run's own.
        who: Group of the setting, for messages.

    Raises:
        ConfigError: There is no such file.
        MissingArtifactError: The run has no classifier yet.
    """
    task = _own(run) if checkpoint is None else _read(checkpoint, who)
    ours, theirs = run.settings.classifier, task.settings
    same = {ours.middle_layer: theirs.middle_layer, ours.last_layer: theirs.last_layer}
    return Explained(
        name=f"{task.settings.library}/{task.settings.backbone}",
        network=task.network,
        classes=task.classes,
        size=task.settings.size,
        probabilities=torch.sigmoid,
        colours=_unchanged,
        layer_of=lambda layer: same.get(layer, layer),
    )


def _own(run: Run) -> ClassifierTask:
    step = Step(run, STAGES["classifier"])
    require(step)
    return load_classifier(step.folder.path)


def _read(checkpoint: str, who: str) -> ClassifierTask:
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"{who}.checkpoint: no file {checkpoint!r}. Give the path of a .ckpt file that "
            "stage=classifier wrote, or leave it out for the run's own."
        )
    return ClassifierTask.from_checkpoint(str(path))


def library_model(run: Run, model: str, weights: str, who: str) -> Explained:
    """A network of torchvision or timm with its own head; the data set is not touched.

    Args:
        run: Whose classifier's layer names are translated.
        model: ``torchvision/NAME`` or ``timm/NAME``.
        weights: download, none, or the path of a state dict.
        who: Group of the settings, for messages.

    Raises:
        ConfigError: There is no such network, or the weights do not fit.
    """
    library, _, name = model.partition("/")
    if library not in _LIBRARIES or not name:
        raise ConfigError(
            f"{who}.model: {model!r} names no network. "
            "Give torchvision/NAME or timm/NAME, for example torchvision/resnet50."
        )
    network = library_network(library, name, weights).eval()
    trained: Mapping[str, Any] = getattr(network, "pretrained_cfg", {})  # timm has it
    return Explained(
        name=model + (" (random weights)" if weights == "none" else ""),
        network=network,
        classes=_imagenet_names(),
        size=trained.get("input_size", (3, _USUAL_SIZE, _USUAL_SIZE))[-1],
        probabilities=_softmax,
        colours=colours_of(trained),
        layer_of=_Translation(run, model, frozenset(dict(network.named_modules()))),
    )


@dataclass(frozen=True)
class _Translation:
    """Layers of the run's classifier in the words of a whole library network.

    ``backbone.13`` is ``features.13`` or ``13`` of the same network before it was cut; of another
    network it is nothing.
    """

    run: Run
    model: str
    known: frozenset[str]

    def __call__(self, layer: str) -> str | None:
        if layer in self.known:
            return layer
        config = self.run.settings.classifier
        if self.model != f"{config.library}/{config.backbone}":
            return None
        own = layer.removeprefix("backbone.")
        return next((name for name in (f"features.{own}", own) if name in self.known), None)


def logits_of(explained: Explained, images: Tensor, who: str) -> Tensor:
    """Logits [B, classes] of normalised images, without gradients.

    Args:
        explained: The network.
        images: [B, 3, H, W], in the colours that the network wants.
        who: The setting to blame, for messages.

    Raises:
        ConfigError: The network cannot take images of this size, or does not give logits.
    """
    try:
        with torch.no_grad():
            logits = explained.network(images)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{who}: {explained.name} cannot take an image of {images.shape[3]} x "
            f"{images.shape[2]} px ({error}). Saliency needs a network for images of any size. "
            "Choose a convolutional one."
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ConfigError(
            f"{who}: {explained.name} does not give logits [images, classes]. There is no class "
            "to explain. Choose an image classifier."
        )
    return logits


def fitted(settings: Mapping[str, Any], explained: Explained) -> dict[str, Any]:
    """The settings of a method with every layer in the words of the network, at any depth.

    A layer that the network does not have becomes None: the method's own default.
    """
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "layer" and value is not None:
            result[key] = explained.layer_of(str(value))
        else:
            result[key] = fitted(value, explained) if isinstance(value, Mapping) else value
    return result


def colours_of(pretrained: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """What timm says about the colours of a network; torchvision's all want ImageNet's."""
    mean, deviation = pretrained.get("mean"), pretrained.get("std")
    return Colours(mean, deviation) if mean and deviation else _unchanged


def _unchanged(images: Tensor) -> Tensor:
    return images


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)


def _imagenet_names() -> list[str]:
    return list(ResNet50_Weights.DEFAULT.meta["categories"])
