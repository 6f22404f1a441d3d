"""What can be known of predictions without ground truth: do they show what the labels name?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.base.arrays import LabelImage
from pipeline.data.catalogue import Item

Agreement = dict[str, dict[str, int]]


def agreement(
    items: Sequence[Item], classes: Sequence[str], read: Callable[[Item], LabelImage]
) -> Agreement:
    """In how many images each class is named by the label, predicted, and both.

    A class counts as predicted in an image from its first pixel.

    Args:
        items: Images with their labels.
        classes: Class names in index order.
        read: The predicted label image of an image, [H, W].

    Returns:
        ``named``, ``predicted`` and ``both`` by class.

    Example:
        >>> from pathlib import Path
        >>> items = [Item("a", Path("a"), (0,)), Item("b", Path("b"), ())]
        >>> agreement(items, ["cat"], lambda _: np.array([[0, 1]], np.uint8))
        {'cat': {'named': 1, 'predicted': 2, 'both': 1}}
    """
    counts = {name: {"named": 0, "predicted": 0, "both": 0} for name in classes}
    for item in items:
        seen = {int(value) - 1 for value in np.unique(read(item))}
        for k, name in enumerate(classes):
            counts[name]["named"] += k in item.labels
            counts[name]["predicted"] += k in seen
            counts[name]["both"] += k in item.labels and k in seen
    return counts


def added(parts: Sequence[Agreement]) -> Agreement:
    """The counts of several lists of images as those of one list.

    Example:
        >>> one = {"cat": {"named": 1, "predicted": 2, "both": 1}}
        >>> added([one, one])
        {'cat': {'named': 2, 'predicted': 4, 'both': 2}}
    """
    return {
        name: {word: sum(part[name][word] for part in parts) for word in counts}
        for name, counts in parts[0].items()
    }
