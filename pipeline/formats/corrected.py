"""Corrected masks: real label images of a few training images, beside image labels for all."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.arrays import LabelImage
from pipeline.base.config import CORRECTED
from pipeline.base.errors import DataError, PipelineError, at_most, failure_of_image
from pipeline.base.files import fingerprint
from pipeline.data.catalogue import BACKGROUND, Catalogue, Item
from pipeline.data.checks import check_mask_shape, header_of
from pipeline.data.contradictions import Shown, contradiction, deviations
from pipeline.formats.masks import Masks
from pipeline.formats.photos import Photos
from pipeline.formats.reading import read_masks

_SETTING = f"data.{CORRECTED}"
_LISTED = 3  # ids in a note


@dataclass(frozen=True)
class Corrected:
    """Real masks of some training images.

    Attributes:
        masks: Label images by the ids that their file uses.
        names: The id in the file of each training image that has one.
        version: Fingerprint of the decoded label images; it is the same for every format.
        notes: What may be a mistake.
    """

    masks: Masks
    names: Mapping[str, str]
    version: str
    notes: tuple[str, ...] = ()

    def read(self, id_: str) -> LabelImage:
        """The label image of a training image, [H, W]."""
        return self.masks[self.names[id_]]


def plus_masks(count: int) -> str:
    """What follows the name of a network, and of each number about it.

    Example:
        >>> f"segmenter{plus_masks(20)}", f"segmenter{plus_masks(0)}"
        ('segmenter +20 masks', 'segmenter')
    """
    return f" +{count} mask{'s' if count != 1 else ''}" if count else ""


def corrected_masks(node: Mapping[str, Any], data: Catalogue) -> Corrected | None:
    """The corrected masks that the settings of the group ``data`` name; None for none.

    Raises:
        DataError: See :func:`read_corrected`.
    """
    place = node.get(CORRECTED)
    return None if place is None else read_corrected(Path(str(place)).expanduser(), data)


def read_corrected(path: Path, data: Catalogue) -> Corrected:
    """The corrected masks in a file or folder that ``read_masks`` reads, checked.

    An id of the file belongs to the image of this id, or else to the only one that has it as the
    end of its path, or is the end of it: ``images/cat1``, ``cat1``, ``garden/cat1``.

    Args:
        path: What a labelling tool exported, or a folder of indexed PNG files.
        data: The images, their labels and their classes.

    Raises:
        DataError: The file is missing or malformed, has other classes, masks of unknown or of
            held-out images only, or of other sizes; or it contradicts the image labels.
    """
    try:
        masks = read_masks(
            path, data.classes, images=_photos(data), max_megapixels=data.max_megapixels
        )
    except PipelineError as error:
        raise DataError(f"{_SETTING}: {error}") from error
    names, notes = _in_training(path, _matched(path, masks, data), data)
    items = [item for item in data.train.items if item.id in names]
    seen, more = _drawn(path, _look(path, masks, names, items))
    notes += [*more, *_against_labels(path, list(seen), data)]
    names = {one.id: names[one.id] for one in seen}
    version = fingerprint([[one.id, content] for one, content in seen.items()])
    return Corrected(masks, names, version, tuple(f"{_SETTING}: {note}" for note in notes))


def _drawn(path: Path, seen: Mapping[Shown, str]) -> tuple[dict[Shown, str], list[str]]:
    """The masks without those that nobody has drawn, and a note about these.

    A tool exports all images; one without any object, although its label names some, was not
    labelled.
    """
    empty = [one for one in seen if one.labels and one.values == (BACKGROUND,)]
    drawn = {one: content for one, content in seen.items() if one not in empty}
    if not drawn:
        raise DataError(
            f"{_SETTING}={path}: none of the {len(seen)} masks shows an object, although the image "
            "labels name some. Export masks that were drawn."
        )
    listed = ", ".join(one.id for one in empty[:_LISTED])
    return drawn, [
        f"{len(empty)} of {len(seen)} masks show no object, although the image labels name some "
        f"({listed}...): taken for images that nobody has labelled, and left out"
    ] if empty else []  # fmt: skip


def _against_labels(path: Path, shown: Sequence[Shown], data: Catalogue) -> list[str]:
    """A note about single masks that show other classes than the labels; refused as a whole."""
    wrong = contradiction(shown, data.classes, setting=_SETTING)
    if wrong:
        raise DataError(f"{_SETTING}={path}: {wrong}")
    differing = deviations(shown, data.classes)
    return [differing] if differing else []


def _endings(id_: str) -> Iterator[str]:
    """An id and what is left of it without its first folders.

    Example:
        >>> list(_endings("a/b/c"))
        ['a/b/c', 'b/c', 'c']
    """
    parts = id_.split("/")
    yield from ("/".join(parts[start:]) for start in range(len(parts)))


def _by_ending(data: Catalogue) -> dict[str, list[Item]]:
    """Images by every ending of their ids."""
    found: dict[str, list[Item]] = defaultdict(list)
    for item in (*data.train.items, *data.val.items):
        for ending in _endings(item.id):
            found[ending].append(item)
    return found


def _photos(data: Catalogue) -> Photos:
    """The images, for formats that do not have their sizes."""
    found = {end: items[0].image for end, items in _by_ending(data).items() if len(items) == 1}
    return Photos({**found, **{i.id: i.image for i in (*data.train.items, *data.val.items)}})


def _matched(path: Path, masks: Masks, data: Catalogue) -> dict[str, str]:
    """The id in the file by the id of the image.

    Raises:
        DataError: Lists masks of no image, of one of several, and second masks of an image.
    """
    ends, names, problems = _by_ending(data), dict[str, str](), []
    ids = {*data.train.ids, *data.val.ids}
    for name in masks:
        longer = {item.id for item in ends.get(name, ())}
        found = {name} if name in ids else longer | (ids & set(_endings(name)))
        if not found:
            problems.append(f"{name}: no image has this id")
        elif len(found) > 1:
            problems.append(f"{name}: one of {', '.join(sorted(found))}?")
        elif (id_ := found.pop()) in names:
            problems.append(f"{name}: a second mask of {id_}, beside {names[id_]}")
        else:
            names[id_] = name
    if problems:
        raise DataError(
            f"{_SETTING}={path}: {len(problems)} of {len(masks)} masks belong to no single image, "
            f"of {len(ids)} such as {min(ids)!r}. Name each mask after its image, with enough of "
            f"its folders.\n{at_most(problems)}"
        )
    return names


def _in_training(
    path: Path, names: dict[str, str], data: Catalogue
) -> tuple[dict[str, str], list[str]]:
    """The masks of training images, and a note about the others: held-out images are scored."""
    held_out = sorted(names.keys() & set(data.val.ids))
    used = {id_: name for id_, name in names.items() if id_ not in held_out}
    if not used:
        raise DataError(
            f"{_SETTING}={path}: all {len(names)} masks are of held-out images, which the network "
            f"is scored on. Correct images of {data.train.name!r} instead, such as "
            f"{data.train.ids[0]}.\n{at_most(held_out)}"
        )
    if not held_out:
        return used, []
    listed = ", ".join(held_out[:_LISTED])
    return used, [
        f"{len(held_out)} of {len(names)} masks are of held-out images ({listed}...) "
        "and are left out, since nothing that is scored may be learned"
    ]


def _look(
    path: Path, masks: Masks, names: Mapping[str, str], items: list[Item]
) -> dict[Shown, str]:
    """What each mask shows, with a hash of it.

    Raises:
        DataError: Lists masks that cannot be read or do not have the size of their image.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = list(pool.map(partial(_look_at, masks, names), items))
    problems = [one for one in found if isinstance(one, str)]
    if problems:
        raise DataError(f"{_SETTING}={path}: {len(problems)} problem(s).\n{at_most(problems)}")
    return dict(one for one in found if not isinstance(one, str))


def _look_at(masks: Masks, names: Mapping[str, str], item: Item) -> tuple[Shown, str] | str:
    name = names[item.id]
    try:
        labels = masks[name]
        header = header_of(item)
        if header is not None:
            check_mask_shape(name, labels.shape, header)
    except Exception as error:
        reason = failure_of_image(error)
        if reason is None:
            raise
        return reason
    values = tuple(np.unique(labels).tolist())
    content = hashlib.sha256(repr(labels.shape).encode() + labels.tobytes()).hexdigest()
    return Shown(item.id, item.labels, values), content
