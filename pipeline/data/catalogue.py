"""What a data set is to the pipeline: named classes and three lists of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

BACKGROUND = 0
VOID = 255


@dataclass(frozen=True)
class Item:
    """One image with the classes that it shows, and its ground truth where there is one.

    ``labels`` are class indices from 0; class ``k`` has the value ``k + 1`` in every label image,
    because 0 is the background. ``mask`` is for scores and for the fully supervised twin only.
    """

    id: str
    image: Path
    labels: tuple[int, ...]
    mask: Path | None = None


@dataclass(frozen=True)
class Split:
    """A named list of images, for example ``train_aug``."""

    name: str
    items: tuple[Item, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in the order of the list."""
        return tuple(item.id for item in self.items)

    @property
    def has_masks(self) -> bool:
        """True if there are images and every one has a ground-truth mask."""
        return bool(self.items) and all(item.mask is not None for item in self.items)


@dataclass(frozen=True)
class Catalogue:
    """A data set, read but not loaded.

    Attributes:
        name: Short name for folders and the report.
        classes: Class names without the background.
        train: What classifier, pseudo-masks and segmenter learn from.
        scored: The images of ``train`` on which pseudo-masks are scored (on VOC ``train``, whose
            masks are the official ones, inside ``train_aug``). Empty where there are no masks.
        val: Held-out images: classifier AP and the mIoU of the network. Never trained on.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    scored: Split
    val: Split

    def without_truth(self) -> Catalogue:
        """The same data as someone without masks has it."""
        return Catalogue(
            name=self.name,
            classes=self.classes,
            train=_without_masks(self.train),
            scored=Split(self.scored.name, ()),
            val=_without_masks(self.val),
        )


def _without_masks(split: Split) -> Split:
    return Split(split.name, tuple(replace(item, mask=None) for item in split.items))


def spaced(items: Sequence[Item], count: int | None) -> list[Item]:
    """So many items, evenly spaced over the list; all for None.

    Example:
        >>> [item.id for item in spaced([Item(c, Path(c), ()) for c in "abcdef"], 3)]
        ['a', 'c', 'e']
    """
    if count is None or count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]
