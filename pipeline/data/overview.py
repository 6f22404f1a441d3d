"""What a run understood of its data: a table for people, and what they should know of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline.data.bands import Bands, Moments
from pipeline.data.catalogue import BACKGROUND, VOID, Catalogue, Item, Split
from pipeline.data.contradictions import Shown, deviations
from pipeline.data.headers import Header

_DARK = 64  # of 255: a quarter of what the format can store
_LISTED = 5  # ids or names in a sentence

HEADER = ("class", "training images", "in masks", "held-out images", "in masks")


@dataclass
class Overview:
    """Plain values, so that they can be stored.

    Attributes:
        rows: Cells under ``HEADER``: a row for each class, images without any, and all images.
        facts: Sizes and values of images and masks.
        notes: What may be a mistake, a sentence or two each.
        bands: The bands of the images, with the statistics of the training images.
    """

    rows: list[list[str]] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bands: Bands | None = None


@dataclass(frozen=True)
class Photo:
    """What was seen of a photo.

    Attributes:
        header: Its size and depth.
        brightest: The largest of its values, 0..255; None for bands, which use any part of theirs.
        values: Type of the values of bands.
        moments: Sums over the pixels of bands.
    """

    header: Header
    brightest: int | None
    values: str = ""
    moments: Moments | None = None


def overview(
    catalogue: Catalogue,
    photos: Mapping[Path, Photo],
    values: Mapping[Path, tuple[int, ...]],
    bands: Bands | None = None,
) -> Overview:
    """The overview of a data set without problems.

    Args:
        catalogue: The data set.
        photos: What was seen of each photo.
        values: Values in each mask, with object values already replaced.
        bands: The bands of the images, measured; None for photos.
    """
    return Overview(
        rows=_rows(catalogue, values),
        facts=[*_facts(catalogue, photos, values), *_of_bands(bands)],
        notes=[
            *catalogue.notes,
            *_unseen_classes(catalogue),
            *_deviating_masks(catalogue, values),
            *_dark(photos),
            *_turned(catalogue, photos),
        ],
        bands=bands,
    )


def shown(items: Sequence[Item], values: Mapping[Path, tuple[int, ...]]) -> list[Shown]:
    """Labels and mask values of the images that have both a mask and an entry in ``values``."""
    return [
        Shown(item.id, item.labels, values[item.mask])
        for item in items
        if item.mask is not None and item.mask in values
    ]


def _rows(catalogue: Catalogue, values: Mapping[Path, tuple[int, ...]]) -> list[list[str]]:
    splits = (catalogue.train, catalogue.val)
    masks = [shown(split.items, values) for split in splits]

    def row(name: str, with_label: Callable[[tuple[int, ...]], bool]) -> list[str]:
        cells = [name]
        for split, seen in zip(splits, masks, strict=True):
            cells.append(str(sum(with_label(item.labels) for item in split.items)))
            cells.append(str(sum(with_label(tuple(s.masked)) for s in seen)) if seen else "-")
        return cells

    rows = [row(name, partial(_is_in, k)) for k, name in enumerate(catalogue.classes)]
    return [*rows, row("(no class)", lambda labels: not labels), row("(all)", lambda _: True)]


def _is_in(index: int, labels: tuple[int, ...]) -> bool:
    return index in labels


def _facts(
    catalogue: Catalogue, photos: Mapping[Path, Photo], values: Mapping[Path, tuple[int, ...]]
) -> list[str]:
    shapes = sorted((photo.header.shape for photo in photos.values()), key=lambda s: s[0] * s[1])
    sizes = [f"{width} x {height}" for height, width in (shapes[0], shapes[-1])] if shapes else []
    depths = Counter(photo.header.bits for photo in photos.values())
    facts = [
        f"images: {' to '.join(dict.fromkeys(sizes))} px, "
        + ", ".join(f"{count} of {bits} bits" for bits, count in sorted(depths.items()))
    ]
    found = sorted({value for seen in values.values() for value in seen})
    if found:
        words = {BACKGROUND: "background", VOID: "void"}
        words |= {k + 1: name for k, name in enumerate(catalogue.classes)}
        facts.append("masks: " + ", ".join(f"{value} {words[value]}" for value in found))
    return facts


def _of_bands(bands: Bands | None) -> list[str]:
    if bands is None:
        return []
    pairs = zip(bands.mean, bands.deviation, strict=True)
    listed = ", ".join(f"{mean:.4g} +- {deviation:.3g}" for mean, deviation in pairs)
    shown = ", ".join(str(band + 1) for band in bands.shown)
    return [f"{bands.words}, mean and deviation: {listed}; pictures show bands {shown}"]


def _unseen_classes(catalogue: Catalogue) -> list[str]:
    learnt, tested = _counts(catalogue.train), _counts(catalogue.val)
    names = dict(enumerate(catalogue.classes))
    tested_only = [name for k, name in names.items() if tested[k] and not learnt[k]]
    never = [name for k, name in names.items() if not tested[k] and not learnt[k]]
    always = [name for k, name in names.items() if learnt[k] == len(catalogue.train.items)]
    sentences = {
        "only held-out images show {}, which the classifier cannot learn": tested_only,
        "no image shows {}": never,
        "every training image shows {}: without images that do not, the classifier cannot learn "
        "what it looks like": always,
    }
    return [text.format(_some(found)) for text, found in sentences.items() if found]


def _counts(split: Split) -> Counter[int]:
    return Counter(label for item in split.items for label in item.labels)


def _deviating_masks(catalogue: Catalogue, values: Mapping[Path, tuple[int, ...]]) -> list[str]:
    splits = (catalogue.train, catalogue.scored, catalogue.val)
    found = [deviations(shown(split.items, values), catalogue.classes) for split in splits]
    named = [f"{split.name}: {text}" for split, text in zip(splits, found, strict=True) if text]
    return list(dict.fromkeys(named))


def _dark(photos: Mapping[Path, Photo]) -> list[str]:
    notes = []
    seen = [(p.header.bits, p.brightest) for p in photos.values() if p.brightest is not None]
    for bits in sorted({bits for bits, _ in seen}):
        brightest = max(value for depth, value in seen if depth == bits)
        if brightest >= _DARK:
            continue
        used = (brightest + 1) * 256 - 1 if bits == 16 else brightest
        notes.append(
            f"the images of {bits} bits are nearly black: no value is above {used} of "
            f"{2**bits - 1}. If that is all the camera gives, multiply the values by "
            f"{2 ** (8 - max(brightest, 1).bit_length())} and save the images again"
        )
    return notes


def _turned(catalogue: Catalogue, photos: Mapping[Path, Photo]) -> list[str]:
    """Photos that EXIF turns or mirrors, with masks that would fit either way."""
    items = dict.fromkeys((*catalogue.train.items, *catalogue.val.items))
    unclear = [item.id for item in items if item.mask is not None and item.image in photos
               and photos[item.image].header.hides_turn]  # fmt: skip
    if not unclear:
        return []
    return [
        f"{len(unclear)} photos with masks are turned or mirrored by their EXIF orientation "
        f"({_some(unclear)}). Their masks are taken as drawn on the photo as it is shown, which "
        "is what labelling tools do; if yours shows the stored pixels, remove the orientation"
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
