"""One image and some classes: the maps that explain them, in one picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tsgb.draw import Picture, colours, grid, overlay
from tsgb.explain.classifier import Classifier
from tsgb.explain.names import ChosenClass, choose_classes

_BAR = 16  # height of the colour scale in px


@dataclass(frozen=True)
class Explanation:
    """The picture, RGB uint8 [H, W, 3], and the classes in it from left to right."""

    picture: Picture
    classes: Sequence[ChosenClass]


def explain(
    view: Picture,
    classifier: Classifier,
    attribute: Callable[[Tensor, Tensor], Tensor],
    *,
    words: Sequence[str] | None = None,
    title: str = "",
) -> Explanation:
    """The image, and for each class its map and the map over the image.

    Args:
        view: What the network is asked about and what is drawn, RGB uint8 [H, W, 3].
        classifier: Network that is explained.
        attribute: Makes maps [1, K, h, w] of a normalised image [1, 3, H, W] and class indices
            [1, K]: ``attribute`` of a method, or a function that computes its maps in another way
            (at several scales, say). Maps of any size are stretched over the image.
        words: Classes to explain: names, parts of names, or indices. None takes the three most
            probable ones.
        title: Line above the picture.

    Raises:
        ClassifierError: The network cannot take an image of this size.
        MissingPackageError: matplotlib is not installed.
        TSGBError: The method cannot explain the network.
        UnknownClassError: No class fits one of the words.

    Example:
        >>> import numpy as np
        >>> from tsgb import TSGB
        >>> from tsgb.explain.classifier import library_classifier
        >>> found = library_classifier("torchvision", "squeezenet1_1", "none")
        >>> view = np.zeros((64, 80, 3), np.uint8)
        >>> explanation = explain(view, found, TSGB(found.network).attribute, words=["tabby", "7"])
        >>> [chosen.name for chosen in explanation.classes]
        ['tabby', 'cock']
    """
    images = classifier.preprocessing.tensor(view)
    probabilities = classifier.probabilities(classifier.logits(images).float())[0]
    names = classifier.class_names(len(probabilities))
    classes = choose_classes(words, names, probabilities)
    maps = attribute(images, torch.tensor([[chosen.index for chosen in classes]]))[0]
    captions = [f"{chosen.name}\n{chosen.percent}" for chosen in classes]
    return Explanation(_picture(view, maps, captions, title), classes)


def _picture(view: Picture, maps: Tensor, captions: Sequence[str], title: str) -> Picture:
    """The image over its colour scale, and beside them each map over its overlay."""
    signed = bool((maps < 0).any())
    ends = torch.linspace(-1.0 if signed else 0.0, 1.0, view.shape[1])
    scale = colours(ends.expand(_BAR, -1), signed=signed, smoothing=0)
    legend = "against ... for the class" if signed else "zero ... maximum"
    size = (view.shape[0], view.shape[1])
    drawn = [colours(one, signed=signed, size=size) for one in maps]
    upper = [("image", view), *zip(captions, drawn, strict=True)]
    lower = [(legend, scale), *(("", overlay(view, one)) for one in maps)]
    return grid([*upper, *lower], columns=len(upper), title=title)
