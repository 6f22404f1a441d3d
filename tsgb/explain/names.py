"""Names that people type: what they mean, and what they may have meant."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor

from tsgb.errors import TSGBError

_LISTED = 8  # names in a message
_MOST_PROBABLE = 3  # classes that are chosen if none is named
_IMAGENET_CLASSES = 1000
_IMAGENET_GROUPS = {  # words that people use, and the breeds and species that ImageNet has for them
    "bird": (*range(7, 25), *range(80, 101), *range(127, 147)),
    "cat": tuple(range(281, 286)),
    "dog": tuple(range(151, 269)),
}


class UnknownClassError(TSGBError, ValueError):
    """The network has no class of that name."""


@dataclass(frozen=True)
class ChosenClass:
    """A class of a network, and why it was chosen.

    Attributes:
        index: Index of its logit.
        name: Name of the class.
        probability: Probability that the network gives it, in [0, 1].
        note: Says so if several classes fit the word that was given; else empty.

    Example:
        >>> str(ChosenClass(281, "tabby", 0.514, "the most probable of 5 that 'cat' fits"))
        "tabby [281] 51.4 % (the most probable of 5 that 'cat' fits)"
    """

    index: int
    name: str
    probability: float
    note: str = ""

    @property
    def percent(self) -> str:
        """The probability as text, such as ``51.4 %``."""
        return f"{100 * self.probability:.1f} %"

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.name} [{self.index}] {self.percent}{note}"


def choose_classes(
    words: Sequence[str] | None, names: Sequence[str], probabilities: Tensor
) -> list[ChosenClass]:
    """The class that each word means; without words the three most probable classes.

    If several classes fit a word, the most probable of them is chosen.

    Args:
        words: Names, parts of names, or indices, see :func:`matching_classes`.
        names: Names of all classes.
        probabilities: Probabilities of all classes, [classes].

    Raises:
        UnknownClassError: No class fits a word; the message lists similar names.

    Example:
        >>> import torch
        >>> names = ["bearskin", "brown bear", "polar bear"]
        >>> print(*choose_classes(["bear"], names, torch.tensor([0.1, 0.2, 0.7])))
        polar bear [2] 70.0 % (the most probable of 2 that 'bear' fits)
    """
    if words:
        found = [_chosen(word, names, probabilities) for word in words]
    else:
        best = probabilities.topk(min(_MOST_PROBABLE, len(probabilities))).indices.tolist()
        found = [(index, "") for index in best]
    return [
        ChosenClass(index, names[index], float(probabilities[index]), note) for index, note in found
    ]


def _chosen(word: str, names: Sequence[str], probabilities: Tensor) -> tuple[int, str]:
    """The index, and a note if several classes fit."""
    found = matching_classes(word, names)
    if not found:
        raise UnknownClassError(
            f"the network has no class {word!r}. {similar(word, names)} "
            f"Give a name, a part of one, or an index from 0 to {len(names) - 1}."
        )
    best = max(found, key=lambda index: float(probabilities[index]))
    several = f"the most probable of {len(found)} that {word!r} fits"
    return best, several if len(found) > 1 else ""


def matching_classes(word: str, names: Sequence[str]) -> list[int]:
    """Indices of the classes that a word means, empty if there are none.

    The word is compared, without regard to case, in this order; the first kind that fits any class
    decides: a whole name, an index, ``dog``, ``cat`` and ``bird`` for the 1000 classes of ImageNet,
    a whole word of a name, a part of a name.

    Example:
        >>> matching_classes("Bear", ["bearskin", "brown bear", "polar bear"])
        [1, 2]
    """
    sought, lowered = word.casefold(), [name.casefold() for name in names]
    whole = [index for index, name in enumerate(lowered) if name == sought]
    if whole:
        return whole
    if word.isdecimal() and int(word) < len(names):
        return [int(word)]
    if len(names) == _IMAGENET_CLASSES and sought in _IMAGENET_GROUPS:
        return list(_IMAGENET_GROUPS[sought])
    parts = [index for index, name in enumerate(lowered) if sought in name]
    words = [index for index in parts if re.search(rf"\b{re.escape(sought)}\b", lowered[index])]
    return words or parts


def similar(name: str, known: Sequence[str]) -> str:
    """A sentence for a message: the known names that resemble ``name``, or the first ones.

    Example:
        >>> similar("resnet19", ["resnet18", "vgg16"])
        'Similar are: resnet18.'
    """
    lowered = {value.casefold(): value for value in known}
    close = get_close_matches(name.casefold(), lowered, n=_LISTED, cutoff=0.5)
    if close:
        return f"Similar are: {', '.join(lowered[match] for match in close)}."
    return f"The first of {len(known)} are: {', '.join(known[:_LISTED])}."
