"""One image, some classes, one picture of what the classifier looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights

from pipeline.artifacts import write_bytes
from pipeline.data.datasets import to_tensor
from pipeline.data.images import read_image
from pipeline.errors import ConfigError
from pipeline.report.pictures import explain_picture
from pipeline.stages import classifier
from pipeline.stages.context import Run, build
from pipeline.tasks.backbones import library_network
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.pixels import normalise_colours, resize, scaled_size
from pipeline.tasks.pseudo_labeler import PseudoLabeler, SaliencyMethod
from tsgb.errors import TSGBError

_MOST_PROBABLE = 3  # classes that are explained if none is named
_USUAL_SIZE = 224  # on which the networks of torchvision were trained, px
_LIBRARIES = ("torchvision", "timm")


@dataclass(frozen=True)
class _Colours:
    """From ImageNet's mean and deviation to those that a network was trained with."""

    mean: Sequence[float]
    deviation: Sequence[float]

    def __call__(self, images: Tensor) -> Tensor:
        black = normalise_colours(torch.zeros(1, 3, 1, 1))
        white = normalise_colours(torch.full((1, 3, 1, 1), 255.0))
        mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.deviation))
        return ((images - black) / (white - black) - mean) / deviation


@dataclass(frozen=True)
class _Explained:
    """A network in eval mode, and how to read what it says.

    Attributes:
        name: For the title.
        network: Gives logits.
        method: Settings of the saliency method, with a layer that the network has.
        classes: Names of the logits.
        size: Longer side of the image that it is asked about, px.
        probabilities: Of logits.
        colours: Changes images with ImageNet's mean and deviation to what the network wants.
    """

    name: str
    network: nn.Module
    method: dict[str, Any]
    classes: Sequence[str]
    size: int
    probabilities: Callable[[Tensor], Tensor]
    colours: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Recoloured:
    """A saliency method on images whose colours are changed first."""

    method: SaliencyMethod
    colours: Callable[[Tensor], Tensor]

    def attribute(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.method.attribute(self.colours(images), targets)


def run(run: Run) -> None:
    """Write the picture; without ``explain.classes`` of the three most probable classes."""
    path, output = _image_path(run), _output_path(run)
    image = read_image(path)
    pixels = to_tensor(image)[None]
    explained = _library_model(run) if run.config.explain.model else _own_model(run)
    probabilities = _probabilities(explained, pixels)
    classes = _names(explained, len(probabilities))
    targets = _targets(run.config.explain.classes, classes, probabilities)
    maps = _maps(run, explained, pixels, targets)
    shares = [f"{100 * float(probabilities[k]):.1f} %" for k in targets]
    names = [classes[k] for k in targets]
    titles = [f"{name}\n{share}" for name, share in zip(names, shares, strict=True)]
    title = f"{path.name}: {_short_name(explained.method)} of {explained.name}"
    write_bytes(output, explain_picture(image, maps, titles, title))
    for name, share in zip(names, shares, strict=True):
        run.say(f"probability of {name}", share)
    run.say("picture", str(output))


def _image_path(run: Run) -> Path:
    image = run.config.explain.image
    if image is None:
        raise ConfigError(
            "explain.image: not given. There is nothing to explain. Add explain.image=PATH, the "
            "path of a JPEG, PNG, BMP or WebP file."
        )
    return Path(image).expanduser()


def _output_path(run: Run) -> Path:
    output = run.config.explain.output
    if output is None:
        return run.folder / "explain" / f"{_image_path(run).stem}.png"
    path = Path(output).expanduser()
    if path.suffix.lower() != ".png":
        raise ConfigError(
            f"explain.output: {output!r} does not end in .png. The picture is a PNG file and "
            "programs would take it for something else. Give a name like explain.output=dog.png."
        )
    return path


def _own_model(run: Run) -> _Explained:
    """The run's classifier, or the one in ``explain.checkpoint``."""
    checkpoint = run.config.explain.checkpoint
    if checkpoint is None:
        task = classifier.load(run)
    elif Path(checkpoint).expanduser().is_file():
        task = ClassifierTask.from_checkpoint(str(Path(checkpoint).expanduser()))
    else:
        raise ConfigError(
            f"explain.checkpoint: no file {checkpoint!r}. Give the path of a .ckpt file that "
            "stage=classifier wrote, or leave it out for the run's own."
        )
    return _Explained(
        name=f"{task.settings.library}/{task.settings.backbone}",
        network=task.network,
        method=_method_for(run, task),
        classes=task.classes,
        size=task.settings.size,
        probabilities=torch.sigmoid,
        colours=_unchanged,
    )


def _method_for(run: Run, task: ClassifierTask) -> dict[str, Any]:
    """The configured method, at the checkpoint's own middle or last layer."""
    ours, theirs = run.config.classifier, task.settings
    same = {ours.middle_layer: theirs.middle_layer, ours.last_layer: theirs.last_layer}
    method = dict(run.config.saliency.method)
    if "layer" in method:
        method["layer"] = same.get(method["layer"], method["layer"])
    return method


def _library_model(run: Run) -> _Explained:
    """``explain.model`` with its own head; the data set is not touched."""
    config = run.config.explain
    library, _, name = str(config.model).partition("/")
    if library not in _LIBRARIES or not name:
        raise ConfigError(
            f"explain.model: {config.model!r} names no network. "
            "Give torchvision/NAME or timm/NAME, for example torchvision/resnet50."
        )
    network = library_network(library, name, config.model_weights).eval()
    trained: Mapping[str, Any] = getattr(network, "pretrained_cfg", {})  # timm has it
    return _Explained(
        name=f"{library}/{name}" + (" (random weights)" if config.model_weights == "none" else ""),
        network=network,
        method=_fitting(run, network),
        classes=_imagenet_names(),
        size=trained.get("input_size", (3, _USUAL_SIZE, _USUAL_SIZE))[-1],
        probabilities=_softmax,
        colours=_colours_of(trained),
    )


def _fitting(run: Run, network: nn.Module) -> dict[str, Any]:
    """The configured method without its layer, unless the network has that layer."""
    method = dict(run.config.saliency.method)
    layer = method.get("layer")
    if layer is not None and layer not in dict(network.named_modules()):
        method["layer"] = None
        run.console.print(
            f"saliency.method.layer={layer} is a layer of the run's classifier, not of "
            f"{run.config.explain.model}; the method's own default is read instead.",
            markup=False,
        )
    return method


def _colours_of(pretrained: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """What timm says about the colours of a network; torchvision's all want ImageNet's."""
    mean, deviation = pretrained.get("mean"), pretrained.get("std")
    return _Colours(mean, deviation) if mean and deviation else _unchanged


def _unchanged(images: Tensor) -> Tensor:
    return images


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)


def _imagenet_names() -> list[str]:
    return list(ResNet50_Weights.DEFAULT.meta["categories"])


def _probabilities(explained: _Explained, pixels: Tensor) -> Tensor:
    """Of the whole image at the size that the network was trained on, [classes]."""
    size = scaled_size(pixels.shape[-2], pixels.shape[-1], explained.size)
    colours = explained.colours(normalise_colours(resize(pixels.float(), size)))
    try:
        with torch.no_grad():
            logits = explained.network(colours)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"explain.model: {explained.name} cannot take an image of {size[1]} x {size[0]} px "
            f"({error}). Saliency needs a network for images of any size. Choose a convolutional "
            "one."
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ConfigError(
            f"explain.model: {explained.name} does not give logits [images, classes]. There is no "
            "class to explain. Choose an image classifier."
        )
    return explained.probabilities(logits.float())[0]


def _names(explained: _Explained, count: int) -> Sequence[str]:
    """The class names, or indices in their place where a library knows no names."""
    known = explained.classes
    return known if len(known) == count else [str(index) for index in range(count)]


def _targets(
    wanted: Sequence[str] | None, classes: Sequence[str], probabilities: Tensor
) -> list[int]:
    """Indices of the wanted classes, or of the most probable ones."""
    if not wanted:
        return probabilities.topk(min(_MOST_PROBABLE, len(probabilities))).indices.tolist()
    return [_index_of(name, classes) for name in wanted]


def _index_of(name: str, classes: Sequence[str]) -> int:
    lowered = [known.casefold() for known in classes]
    found = [index for index, known in enumerate(lowered) if known == name.casefold()]
    if len(found) == 1:
        return found[0]
    if not found and name.isdecimal() and int(name) < len(classes):
        return int(name)
    if found:
        raise ConfigError(
            f"explain.classes: {name!r} is the name of {len(found)} classes. "
            f"Give the index of one instead: {', '.join(map(str, found))}."
        )
    close = get_close_matches(name.casefold(), lowered, n=5, cutoff=0.5)
    similar = [classes[lowered.index(match)] for match in close] or list(classes[:10])
    raise ConfigError(
        f"explain.classes: the network has no class {name!r} among its {len(classes)}. "
        f"{'Similar are' if close else 'The first are'}: {', '.join(similar)}. "
        "Give one of its names, or an index from 0."
    )


def _maps(
    run: Run, explained: _Explained, pixels: Tensor, targets: Sequence[int]
) -> NDArray[np.float32]:
    """Maps [K, h, w] in [0, 1], made as those of the saliency stage."""
    config = run.config.saliency
    try:
        method = build({**explained.method, "model": explained.network}, "saliency.method")
        labeler = PseudoLabeler(
            explained.network,
            _Recoloured(method, explained.colours),
            size=config.size,
            scales=config.scales,
            flip=config.flip,
        )
        maps = labeler.predict_step((pixels, torch.tensor([list(targets)])), 0)
    except TSGBError as error:
        raise ConfigError(f"explain: {explained.name}: {error}") from error
    return np.asarray(maps, dtype=np.float32)


def _short_name(method: Mapping[str, Any]) -> str:
    return str(method.get("_target_", "")).rpartition(".")[2]
