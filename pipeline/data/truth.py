"""Where objects are, for scores of single images: from a label image, or from boxes."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.base.arrays import BoolImage
from pipeline.base.errors import DataError
from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.data.palette import read_label_image

_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class ObjectMasks:
    """The pixels of every class in one image.

    Attributes:
        objects: True on the class, [H, W], by class index; classes without a pixel are left out.
        void: True where the ground truth is open, [H, W].
    """

    objects: dict[int, BoolImage]
    void: BoolImage


def masks_of(path: Path | str) -> ObjectMasks:
    """What a label image says; class ``k`` has the value ``k + 1`` there."""
    labels = read_label_image(path)
    values = [int(value) for value in np.unique(labels) if value not in (BACKGROUND, VOID)]
    return ObjectMasks({value - 1: labels == value for value in values}, labels == VOID)


def boxes_of(path: Path | str, classes: Sequence[str], size: tuple[int, int]) -> ObjectMasks:
    """The union of the boxes of each class in a VOC annotation.

    A class whose boxes are all marked difficult is left out, as the pointing game does it; beside
    another box of its class a difficult one counts. Classes outside ``classes`` are left out.

    Args:
        path: XML file of VOC.
        classes: Class names in the order of their indices.
        size: Height and width of the image, px.

    Raises:
        DataError: The file cannot be read, or a box has no four numbers.
    """
    index = {name: k for k, name in enumerate(classes)}
    masks: dict[int, BoolImage] = defaultdict(lambda: np.zeros(size, dtype=np.bool_))
    certain = set()
    for item in _objects(Path(path)):
        label = index.get(item.findtext("name", "").strip())
        if label is None:
            continue
        left, top, right, bottom = _sides(item, Path(path))
        masks[label][top:bottom, left:right] = True
        if item.findtext("difficult", "0").strip() != "1":
            certain.add(label)
    objects = {label: masks[label] for label in sorted(certain) if masks[label].any()}
    return ObjectMasks(objects, np.zeros(size, dtype=np.bool_))


def _objects(path: Path) -> list[ElementTree.Element]:
    try:
        return ElementTree.parse(path).getroot().findall("object")
    except (ElementTree.ParseError, OSError) as error:
        raise DataError(
            f"{path}: the boxes cannot be read ({error}). The image could not be scored. Put a "
            "whole annotation file there, or take the image off the list."
        ) from error


def _sides(item: ElementTree.Element, path: Path) -> tuple[int, int, int, int]:
    """Left, top, right, bottom from 0, without the last pixel; VOC counts from 1 and with it."""
    try:
        numbers = [round(float(item.findtext(f"bndbox/{side}", ""))) for side in _SIDES]
    except ValueError as error:
        raise DataError(
            f"{path}: a box lacks one of {', '.join(_SIDES)} ({error}). Its object would be "
            "missed. Correct the file."
        ) from error
    left, top, right, bottom = (max(number, 0) for number in numbers)
    return max(left - 1, 0), max(top - 1, 0), right, bottom
