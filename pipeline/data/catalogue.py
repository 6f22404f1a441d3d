"""The pipeline's view of a data set: named classes and three lists of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.base.errors import ConfigError
from pipeline.data.bands import Bands
from pipeline.data.headers import MAX_MEGAPIXELS

BACKGROUND = 0
VOID = 255


@dataclass(frozen=True)
class Item:
    """One image with its image labels and, if there is one, its ground-truth mask.

    ``labels`` are class indices from 0; class ``k`` has the value ``k + 1`` in every label image,
    because 0 is the background. ``mask`` is used by scores and by the fully supervised twin only.
    In a data set of one class, the file may have another value for it: ``object_value``. ``bands``
    is None for a photo.
    """

    id: str
    image: Path
    labels: tuple[int, ...]
    mask: Path | None = None
    object_value: int = 1
    bands: Bands | None = None


@dataclass(frozen=True)
class Split:
    """A named list of images, for example ``train_aug``."""

    name: str
    items: tuple[Item, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids in the order of the list."""
        return tuple(item.id for item in self.items)

    @property
    def has_masks(self) -> bool:
        """Whether there are images and all of them have a ground-truth mask."""
        return bool(self.items) and all(item.mask is not None for item in self.items)


@dataclass(frozen=True)
class Catalogue:
    """A data set as lists of paths and labels; no image is loaded.

    Attributes:
        name: Short name for folders and the report.
        classes: Class names without the background.
        train: Images to learn from.
        scored: The images of ``train`` on which pseudo-masks are scored (on VOC the list
            ``train``, a part of ``train_aug`` with official masks). Empty without masks.
        val: Held-out images, on which the classifier and the segmenter are scored.
        max_megapixels: Larger images and masks are refused before they are decoded.
        notes: What a person should know of how the data set was read.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    scored: Split
    val: Split
    max_megapixels: float = MAX_MEGAPIXELS
    notes: tuple[str, ...] = ()

    @property
    def bands(self) -> Bands | None:
        """The bands of the images; None for photos."""
        return next((item.bands for item in (*self.train.items, *self.val.items)), None)

    def with_bands(self, bands: Bands | None) -> Catalogue:
        """The same data with what is known of the bands."""
        return replace(
            self,
            train=_with_bands(self.train, bands),
            scored=_with_bands(self.scored, bands),
            val=_with_bands(self.val, bands),
        )

    def without_truth(self) -> Catalogue:
        """The same data without any ground-truth masks."""
        return replace(
            self,
            train=_without_masks(self.train),
            scored=Split(self.scored.name, ()),
            val=_without_masks(self.val),
        )


def check_object_value(value: int, classes: Sequence[str]) -> None:
    """Refuse a value that no object in a mask can have.

    Raises:
        ConfigError: It is not in 1..255, or is not 1 although there are several classes.
    """
    if not 1 <= value <= VOID or (value != 1 and len(classes) > 1):
        raise ConfigError(
            f"data.object_value={value} with {len(classes)} classes: it is the value of the only "
            f"class in its masks, 1 to {VOID}. In masks of several classes, class k of "
            "data.classes has the value k, from 1."
        )


def _with_bands(split: Split, bands: Bands | None) -> Split:
    return Split(split.name, tuple(replace(item, bands=bands) for item in split.items))


def _without_masks(split: Split) -> Split:
    return Split(split.name, tuple(replace(item, mask=None) for item in split.items))


def spaced(items: Sequence[Item], count: int | None) -> list[Item]:
    """``count`` items, evenly spaced over the list; all of them for None.

    Example:
        >>> [item.id for item in spaced([Item(c, Path(c), ()) for c in "abcdef"], 3)]
        ['a', 'c', 'e']
    """
    if count is None or count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]
