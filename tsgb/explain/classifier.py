"""A classifier that can be explained: network, class names and preprocessing in one record."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsgb._optional import optional_package
from tsgb.draw import Picture
from tsgb.errors import TSGBError
from tsgb.explain.networks import load_network


class ClassifierError(TSGBError, ValueError):
    """The network cannot take an image of this size, or does not return logits."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a network, as when the network was trained.

    Attributes:
        size: Side of the network's input in px.
        resize: Length in px to which the shorter side of an image is resized before the middle
            square of ``size`` px is cut out.
        mean: Mean of each channel of RGB in [0, 1].
        deviation: Standard deviation of each channel of RGB in [0, 1].
        resampling: Name of Pillow's filter for resizing.

    Example:
        >>> half = Preprocessing(2, 2, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")
        >>> half.tensor(np.full((1, 2, 3), 255, np.uint8)).shape
        torch.Size([1, 3, 1, 2])
    """

    size: int
    resize: int
    mean: Sequence[float]
    deviation: Sequence[float]
    resampling: str

    def view(self, image: Any, size: int | None = None, *, crop: bool = False) -> Picture:
        """The part of an image that the network sees, RGB [H, W, 3].

        Args:
            image: A Pillow image in RGB.
            size: Length of the shorter side in px (for a network that the pipeline trained, of the
                longer side); None takes that of the network's input.
            crop: Cut out the middle square, at the zoom at which the network was tested; else the
                whole image is kept.
        """
        size = self.size if size is None else size
        if not crop:
            return np.asarray(self._resized(image, self.whole(image.size, size)), dtype=np.uint8)
        width, height = _by_shorter_side(image.size, int(size * self.resize / self.size))
        left, top = round((width - size) / 2), round((height - size) / 2)
        square = self._resized(image, (width, height)).crop((left, top, left + size, top + size))
        return np.asarray(square, dtype=np.uint8)

    def whole(self, sides: tuple[int, int], size: int) -> tuple[int, int]:
        """Sides in px, width first, at which the network sees the whole of an image."""
        return _by_shorter_side(sides, size)

    def _resized(self, image: Any, sides: tuple[int, int]) -> Any:
        pillow = optional_package("PIL.Image", "tsgb explain")
        return image.resize(sides, pillow.Resampling[self.resampling.upper()])

    def tensor(self, view: Picture) -> Tensor:
        """The input of the network, [1, 3, H, W], for a picture RGB [H, W, 3]."""
        return self.normalise(torch.from_numpy(view.copy()).permute(2, 0, 1)[None])

    def normalise(self, pixels: Tensor) -> Tensor:
        """RGB [B, 3, H, W] in [0, 255], of any type, as float32 with the network's statistics."""
        mean, deviation = (
            torch.tensor(values, device=pixels.device).view(1, 3, 1, 1)
            for values in (self.mean, self.deviation)
        )
        return (pixels.float() / 255 - mean) / deviation


def _by_shorter_side(sides: tuple[int, int], shorter: int) -> tuple[int, int]:
    least = min(sides)
    width, height = (shorter if n == least else int(shorter * n / least) for n in sides)
    return width, height


def softmax(logits: Tensor) -> Tensor:
    """Probabilities of classes of which an image shows one, [B, classes]."""
    return logits.softmax(-1)


@dataclass(frozen=True)
class Classifier:
    """A network that can be explained, and how to read its answer.

    Attributes:
        name: Name for titles, such as ``torchvision/resnet50``.
        network: Network in evaluation mode that returns logits [B, classes].
        classes: Names of the classes; empty if they are not known.
        preprocessing: How an image becomes its input.
        probabilities: Turns logits [B, classes] into probabilities: :func:`softmax`, or
            ``torch.sigmoid`` for a network with an independent answer for each class.
    """

    name: str
    network: nn.Module
    classes: Sequence[str]
    preprocessing: Preprocessing
    probabilities: Callable[[Tensor], Tensor] = softmax

    def logits(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of normalised images [B, 3, H, W], without gradients.

        Raises:
            ClassifierError: The network cannot take images of this size, or its answer is not
                [B, classes].
        """
        try:
            with torch.no_grad():
                logits = self.network(images)
        except (AssertionError, RuntimeError, ValueError) as error:
            height, width = images.shape[-2:]
            raise ClassifierError(
                f"{self.name} cannot take an image of {width} x {height} px ({error}). Choose "
                "another size, or a network for images of any size."
            ) from error
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            raise ClassifierError(
                f"{self.name} does not return logits [images, classes]. Choose an image classifier."
            )
        return logits

    def class_names(self, count: int) -> Sequence[str]:
        """Names of ``count`` classes: indices as text if the names are not known."""
        known = len(self.classes) == count
        return self.classes if known else [str(index) for index in range(count)]


def library_classifier(library: str, name: str, weights: str) -> Classifier:
    """A classifier of torchvision or timm with its own class names and preprocessing.

    Args:
        library: ``torchvision`` or ``timm``.
        name: Name of the network there, for example ``resnet50``.
        weights: ``download`` (the library's best), ``none`` (random), or the path of a state dict.

    Raises:
        MissingPackageError: The library is not installed.
        NetworkError: The library cannot make the network; :class:`UnknownNetworkError` if it has
            none of that name.
        WeightsError: The file cannot be read, or does not fit the network.

    Example:
        >>> found = library_classifier("torchvision", "squeezenet1_1", "none")
        >>> found.name, found.classes[207], found.preprocessing.size
        ('torchvision/squeezenet1_1 (random weights)', 'golden retriever', 224)
    """
    network = load_network(library, name, weights).eval()
    describe = _of_torchvision if library == "torchvision" else _of_timm
    classes, preprocessing = describe(network, name)
    title = f"{library}/{name}" + (" (random weights)" if weights == "none" else "")
    return Classifier(title, network, classes, preprocessing)


def _of_torchvision(_: nn.Module, name: str) -> tuple[Sequence[str], Preprocessing]:
    best = optional_package("torchvision.models", "torchvision").get_model_weights(name).DEFAULT
    preset = best.transforms()
    preprocessing = Preprocessing(
        size=preset.crop_size[0],
        resize=preset.resize_size[0],
        mean=preset.mean,
        deviation=preset.std,
        resampling=preset.interpolation.value,
    )
    return best.meta["categories"], preprocessing


def _of_timm(network: nn.Module, _: str) -> tuple[Sequence[str], Preprocessing]:
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
    return [name.partition(",")[0] for name in described], preprocessing
