"""Checks of every file of a data set, made before any work."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.arrays import LabelImage
from pipeline.base.errors import DataError, at_most
from pipeline.data.band_checks import header_of_bands, known_bands, photo_of_bands
from pipeline.data.catalogue import VOID, Catalogue, Item, Split
from pipeline.data.contradictions import contradiction
from pipeline.data.headers import Header, check_size, read_header
from pipeline.data.ids import id_problem
from pipeline.data.images import not_whole, read_bytes, read_image
from pipeline.data.jpeg_damage import jpeg_damage
from pipeline.data.overview import Overview, Photo, overview, shown
from pipeline.data.truth import ground_truth


def check_catalogue(
    catalogue: Catalogue,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Overview:
    """Raise if a run on this data set would fail later, or give a wrong score.

    Every image and every mask is decoded, a few milliseconds per pair on VOC: the header alone
    does not tell a whole file from a truncated one.

    Args:
        catalogue: The data set.
        workers: Number of threads; None means one per core. Decoding releases Python's global
            lock.
        progress: Called after every image with the number done and the total.

    Returns:
        What was understood, for people.

    Raises:
        DataError: Lists up to 20 problems, each with the file and the remedy.
    """
    problems = _split_problems(catalogue)
    groups = _by_image(catalogue)
    photos: dict[Path, Photo] = {}
    values: dict[Path, tuple[int, ...]] = {}
    check = partial(_look, catalogue=catalogue)
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count()) as pool:
        for done, found in enumerate(pool.map(check, groups), start=1):
            problems += found.problems
            photos |= found.photos
            values |= found.values
            if progress is not None:
                progress(done, len(groups))
    bands, mixed = known_bands(catalogue, photos)
    problems = (problems + mixed) or _contradictions(catalogue, values)
    if problems:
        raise DataError(
            f"data set {catalogue.name!r}: {len(problems)} problem(s).\n{at_most(problems)}\n"
            "Correct them and start again."
        )
    return overview(catalogue, photos, values, bands)


def require_labels(split: Split, setting: str) -> None:
    """Refuse a split without image labels for a setting that needs them.

    Raises:
        DataError: No image of the split has a label.
    """
    if not any(item.labels for item in split.items):
        raise DataError(
            f"{setting}: none of the {len(split.items)} images of {split.name!r} has an image "
            "label, so that each would count as pure background. Add the labels to data.labels, "
            "or leave this setting out."
        )


def describe(catalogue: Catalogue) -> dict[str, Any]:
    """Numbers of images, masks and images per class of every split, for the log and the report.

    Example:
        >>> empty = Split("none", ())
        >>> one = Split("train", (Item("a", Path("a.jpg"), (0,)),))
        >>> describe(Catalogue("toy", ("cat",), one, empty, empty))["train"]
        {'name': 'train', 'images': 1, 'with_mask': 0, 'images_per_class': {'cat': 1}}
    """
    summary: dict[str, Any] = {"name": catalogue.name, "classes": len(catalogue.classes)}
    for role, split in _splits(catalogue):
        counts = Counter(label for item in split.items for label in item.labels)
        summary[role] = {
            "name": split.name,
            "images": len(split.items),
            "with_mask": sum(item.mask is not None for item in split.items),
            "images_per_class": {name: counts[k] for k, name in enumerate(catalogue.classes)},
        }
    return summary


def data_fingerprint(catalogue: Catalogue) -> str:
    """SHA-256 of the classes and of the ids, labels and file sizes of every split.

    Paths and dates do not count, so that a copied data set keeps its results. An edit that does
    not change the size of a file is not noticed.
    """
    digest = hashlib.sha256(json.dumps(catalogue.classes).encode())
    if catalogue.bands is not None:  # what is measured of them follows from the files
        digest.update(json.dumps([catalogue.bands.channels, catalogue.bands.shown]).encode())
    for role, split in _splits(catalogue):
        digest.update(f"\n{role}".encode())
        for item in split.items:
            mask = None if item.mask is None else [_size(item.mask), item.object_value]
            entry = [item.id, list(item.labels), _size(item.image), mask]
            digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


def _splits(catalogue: Catalogue) -> Iterable[tuple[str, Split]]:
    return (("train", catalogue.train), ("scored", catalogue.scored), ("val", catalogue.val))


def _size(path: Path) -> int:
    """Size of a file in bytes, -1 if it is missing."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _split_problems(catalogue: Catalogue) -> list[str]:
    problems = [
        f"split {role} ({split.name}): has no images. List at least one."
        for role, split in _splits(catalogue)
        if role != "scored" and not split.items
    ]
    if catalogue.train.items and not any(item.labels for item in catalogue.train.items):
        problems.append(
            f"train ({catalogue.train.name}): none of the {len(catalogue.train.items)} images has "
            "a class. Add their labels, or correct data.classes."
        )
    ids = dict.fromkeys(id_ for _, split in _splits(catalogue) for id_ in split.ids)
    problems += [
        f"{id_}: this id {reason}. Files are named after it. Give the image another name."
        for id_ in ids
        if (reason := id_problem(id_))
    ]
    for role, split in _splits(catalogue):
        problems += [
            f"{id_}: is {count} times in {role} ({split.name}). List it once."
            for id_, count in Counter(split.ids).items()
            if count > 1
        ]
    train = set(catalogue.train.ids)
    problems += [
        f"{id_}: is in train ({catalogue.train.name}) and in val ({catalogue.val.name}). "
        "Remove it from one of the lists."
        for id_ in catalogue.val.ids
        if id_ in train
    ]
    problems += [
        f"{id_}: is in scored ({catalogue.scored.name}), but not in train "
        f"({catalogue.train.name}). Choose scored images from train."
        for id_ in catalogue.scored.ids
        if id_ not in train
    ]
    return problems


def _by_image(catalogue: Catalogue) -> list[list[Item]]:
    """Distinct items, grouped by image: ``scored`` may give an image another mask."""
    groups: dict[Path, list[Item]] = {}
    for item in dict.fromkeys(item for _, split in _splits(catalogue) for item in split.items):
        groups.setdefault(item.image, []).append(item)
    return list(groups.values())


def _contradictions(catalogue: Catalogue, values: Mapping[Path, tuple[int, ...]]) -> list[str]:
    """What labels say against the reading of the masks, all together or of one split."""
    groups = {
        f"masks of {split.name}": split.items
        for _, split in _splits(catalogue)
        if any(item.labels for item in split.items)  # a test split has no labels
    }
    together = tuple(dict.fromkeys(item for items in groups.values() for item in items))
    for name, items in ({"all masks": together} | groups).items():
        found = contradiction(shown(items, values), catalogue.classes)
        if found:
            return [f"{name}: {found}"]
    return []


@dataclass
class _Found:
    """What was found of one image, its labels and its masks."""

    problems: list[str] = field(default_factory=list)
    photos: dict[Path, Photo] = field(default_factory=dict)
    values: dict[Path, tuple[int, ...]] = field(default_factory=dict)


def _look(items: Sequence[Item], catalogue: Catalogue) -> _Found:
    """Decode one image and its masks."""
    first, found = items[0], _Found()
    header = None
    try:
        found.photos[first.image] = _photo(first, catalogue.max_megapixels)
        header = found.photos[first.image].header
    except DataError as error:
        found.problems.append(str(error))
    classes = len(catalogue.classes)
    wrong = sorted({label for item in items for label in item.labels if not 0 <= label < classes})
    found.problems += [
        f"{first.id}: label {label} is not an index of {classes} classes (0..{classes - 1}). "
        "Correct its labels."
        for label in wrong
    ]
    for item in {item.mask: item for item in items if item.mask is not None}.values():
        seen = _look_at_mask(item, catalogue, header)
        found.problems += seen.problems
        found.values |= seen.values
    return found


def _photo(item: Item, max_megapixels: float) -> Photo:
    """Decode a photo after a look at its header.

    Raises:
        DataError: It is too large, cannot be read, or is damaged.
    """
    path = item.image
    if item.bands is not None:
        return photo_of_bands(path, item.bands, max_megapixels)
    check_size(path, max_megapixels)
    data = read_bytes(path)
    header, damage = read_header(data), jpeg_damage(data)
    if header is None or damage:  # before a decoder fills it up, or believes an unknown format
        raise not_whole(path, data, damage)
    return Photo(header, int(read_image(path).max()))


def _mask(item: Item, header: Header | None, max_megapixels: float) -> LabelImage:
    """The mask of an item; ``header`` is the image's, None if the image is unreadable.

    Raises:
        DataError: It is missing, unreadable, or does not have the size of the image.
    """
    path = item.mask or Path()
    if not path.is_file():
        raise DataError(
            f"{path}: this mask is missing, although other images of the split have one. "
            f"Add it, or remove {item.id} from the list."
        )
    check_size(path, max_megapixels)
    labels = ground_truth(item)
    if header is not None:
        check_mask_shape(path, labels.shape, header)
    return labels


def check_mask_shape(mask: Path | str, shape: tuple[int, ...], header: Header) -> None:
    """Refuse a mask that does not have the size of its photo.

    Args:
        mask: Names the mask.
        shape: Its height and width.
        header: That of the photo.

    Raises:
        DataError: Names both sizes.
    """
    if shape == header.shape:
        return
    if shape == (header.height, header.width):
        raise DataError(
            f"{mask}: the mask has {_pixels(shape)}, as the photo is stored, but its EXIF "
            f"orientation {header.orientation} turns the photo to {_pixels(header.shape)}. Photos "
            "are read as they are shown. Turn the mask too, or remove the orientation from the "
            "photo."
        )
    raise DataError(
        f"{mask}: the mask has {_pixels(shape)}, its image {_pixels(header.shape)}. "
        "Export the mask at the size of the image."
    )


def _value_problems(item: Item, found: Sequence[int], classes: int) -> list[str]:
    values = [value for value in found if classes < value < VOID]
    if not values:
        return []
    remedy = "Convert it to class indices, or correct the class list."
    if classes == 1 and len(values) == 1 and item.object_value == 1:
        remedy = f"If that is the object, set data.object_value={values[0]}."
    return [
        f"{item.mask}: the mask contains the value(s) {', '.join(map(str, values))}; allowed are "
        f"0..{classes} and {VOID}. {remedy}"
    ]


def look_at_label_images(
    items: Sequence[Item], catalogue: Catalogue
) -> tuple[list[str], str | None]:
    """What is wrong with label images that are not ground truth.

    Args:
        items: Images, each with its label image as ``mask``.
        catalogue: The data set that they belong to.

    Returns:
        Problems of single files: unreadable, another size, values that are no classes; and why
        the others are read wrongly as a whole, see ``contradiction``.
    """
    problems: list[str] = []
    values: dict[Path, tuple[int, ...]] = {}
    look = partial(_look_at_label_image, catalogue=catalogue)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for item, found in zip(items, pool.map(look, items), strict=True):
            problems += found.problems
            if item.mask is not None and not found.problems:
                values |= found.values
    return problems, contradiction(shown(items, values), catalogue.classes, truth=False)


def _look_at_label_image(item: Item, catalogue: Catalogue) -> _Found:
    return _look_at_mask(item, catalogue, header_of(item))


def header_of(item: Item) -> Header | None:
    """The header of an image; None if it is unreadable, which the check of the data set reports."""
    try:
        return header_of_bands(item.image) if item.bands else read_header(read_bytes(item.image))
    except DataError:
        return None


def _look_at_mask(item: Item, catalogue: Catalogue, header: Header | None) -> _Found:
    """Decode a mask; ``header`` is that of its image, None if the image is unreadable."""
    found, path = _Found(), item.mask or Path()
    try:
        labels = _mask(item, header, catalogue.max_megapixels)
    except DataError as error:
        return _Found([str(error)])
    found.values[path] = tuple(np.unique(labels).tolist())
    found.problems += _value_problems(item, found.values[path], len(catalogue.classes))
    return found


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"
