"""Ground truth of single images: object masks from a label image, or from boxes."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.base.arrays import BoolImage, LabelImage
from pipeline.base.errors import DataError
from pipeline.data.catalogue import BACKGROUND, VOID, Item
from pipeline.data.palette import read_label_image

_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class ObjectMasks:
    """The pixels of every class in one image.

    Attributes:
        objects: True on the class, [H, W], by class index; classes without a pixel are left out.
        void: True where the ground truth is ambiguous, [H, W].
    """

    objects: dict[int, BoolImage]
    void: BoolImage


def ground_truth(item: Item) -> LabelImage:
    """The ground-truth mask of an image, in which class ``k`` has the value ``k + 1``.

    Raises:
        DataError: The image has no mask, or the file cannot be read.
    """
    return with_object_value(read_label_image(item.mask or Path()), item.object_value)


def with_object_value(labels: LabelImage, object_value: int) -> LabelImage:
    """Labels of a file in which the only class has the value ``object_value`` instead of 1.

    Example:
        >>> with_object_value(np.array([[0, 255]], dtype=np.uint8), 255).tolist()
        [[0, 1]]
    """
    return labels if object_value == 1 else np.where(labels == object_value, 1, labels)


def masks_of(item: Item) -> ObjectMasks:
    """The object masks of an image, from its ground-truth mask."""
    labels = ground_truth(item)
    values = [int(value) for value in np.unique(labels) if value not in (BACKGROUND, VOID)]
    return ObjectMasks({value - 1: labels == value for value in values}, labels == VOID)


def boxes_of(path: Path | str, classes: Sequence[str], size: tuple[int, int]) -> ObjectMasks:
    """The union of the boxes of each class in a VOC annotation.

    A class whose boxes are all marked difficult is left out, as in the pointing game; if another
    box of the class is not, the difficult ones count too. Names outside ``classes`` are ignored.

    Args:
        path: XML file in VOC's format.
        classes: Class names in index order.
        size: Height and width of the image, px.

    Raises:
        DataError: The file cannot be read, or a box lacks a number.
    """
    index = {name: k for k, name in enumerate(classes)}
    masks: dict[int, BoolImage] = defaultdict(lambda: np.zeros(size, dtype=np.bool_))
    scored = set()
    for item in _objects(Path(path)):
        label = index.get(item.findtext("name", "").strip())
        if label is None:
            continue
        left, top, right, bottom = _sides(item, Path(path))
        masks[label][top:bottom, left:right] = True
        if item.findtext("difficult", "0").strip() != "1":
            scored.add(label)
    objects = {label: masks[label] for label in sorted(scored) if masks[label].any()}
    return ObjectMasks(objects, np.zeros(size, dtype=np.bool_))


def _objects(path: Path) -> list[ElementTree.Element]:
    try:
        return ElementTree.parse(path).getroot().findall("object")
    except (ElementTree.ParseError, OSError) as error:
        raise DataError(
            f"{path}: the boxes cannot be read ({error}). "
            "Add a whole annotation file, or remove the image from the list."
        ) from error


def _sides(item: ElementTree.Element, path: Path) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, 0-based and exclusive; VOC's are 1-based and inclusive."""
    try:
        numbers = [round(float(item.findtext(f"bndbox/{side}", ""))) for side in _SIDES]
    except ValueError as error:
        raise DataError(
            f"{path}: a box lacks one of {', '.join(_SIDES)} ({error}). Correct the file."
        ) from error
    left, top, right, bottom = (max(number, 0) for number in numbers)
    return max(left - 1, 0), max(top - 1, 0), right, bottom
