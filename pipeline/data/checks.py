"""Checks of every file of a data set, made before any work."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.base.errors import DataError, at_most
from pipeline.data.catalogue import VOID, Catalogue, Item, Split
from pipeline.data.images import read_image
from pipeline.data.palette import read_label_image


def check_catalogue(
    catalogue: Catalogue,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Raise if a run on this data set would fail later, or give a wrong score.

    Every image and every mask is decoded, a few milliseconds per pair on VOC: the header alone
    does not tell a whole file from a truncated one.

    Args:
        catalogue: The data set.
        workers: Number of threads; None means one per core. Decoding releases Python's global
            lock.
        progress: Called after every image with the number done and the total.

    Raises:
        DataError: Lists up to 20 problems, each with the file and the remedy.
    """
    problems = _split_problems(catalogue)
    groups = _by_image(catalogue)
    check = partial(_image_problems, classes=len(catalogue.classes))
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count()) as pool:
        for done, found in enumerate(pool.map(check, groups), start=1):
            problems += found
            if progress is not None:
                progress(done, len(groups))
    if problems:
        raise DataError(
            f"data set {catalogue.name!r}: {len(problems)} problem(s).\n{at_most(problems)}\n"
            "Correct them and start again."
        )


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
    for role, split in _splits(catalogue):
        digest.update(f"\n{role}".encode())
        for item in split.items:
            mask = None if item.mask is None else _size(item.mask)
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


def _image_problems(items: Sequence[Item], classes: int) -> list[str]:
    """What is wrong with one image, its labels and its masks."""
    problems = []
    shape = None
    try:
        shape = read_image(items[0].image).shape[:2]
    except DataError as error:
        problems.append(str(error))
    wrong = sorted({label for item in items for label in item.labels if not 0 <= label < classes})
    problems += [
        f"{items[0].id}: label {label} is not an index of {classes} classes (0..{classes - 1}). "
        "Correct its labels."
        for label in wrong
    ]
    for mask in dict.fromkeys(item.mask for item in items if item.mask is not None):
        problems += _mask_problems(items[0].id, mask, shape, classes)
    return problems


def _mask_problems(id_: str, path: Path, shape: tuple[int, ...] | None, classes: int) -> list[str]:
    """What is wrong with a mask; ``shape`` is the image's, None if the image is unreadable."""
    if not path.is_file():
        return [
            f"{path}: this mask is missing, although other images of the split have one. "
            f"Add it, or remove {id_} from the list."
        ]
    try:
        mask = read_label_image(path)
    except DataError as error:
        return [str(error)]
    problems = []
    if shape is not None and mask.shape != shape:
        problems.append(
            f"{path}: the mask has {_pixels(mask.shape)}, its image {_pixels(shape)}. "
            "Export the mask at the size of the image."
        )
    counts = np.bincount(mask.ravel(), minlength=VOID + 1)
    values = np.flatnonzero(counts[classes + 1 : VOID]) + classes + 1
    if values.size:
        problems.append(
            f"{path}: the mask contains the value(s) {', '.join(map(str, values))}; allowed are "
            f"0..{classes} and {VOID}. Convert it to class indices, or correct the class list."
        )
    return problems


def mask_problems(item: Item, path: Path, classes: int) -> list[str]:
    """What is wrong with a label image of an item: unreadable, another size, unknown values."""
    try:
        with Image.open(item.image) as image:
            shape: tuple[int, ...] | None = image.size[::-1]
    except OSError:
        shape = None
    return _mask_problems(item.id, path, shape, classes)


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"
