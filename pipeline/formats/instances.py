"""Connected components of a label image: the objects that labelling tools know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from pipeline.base.arrays import BoolImage, LabelImage
from pipeline.data.catalogue import BACKGROUND, VOID

_CONNECTIVITY = 8  # pixels that share a corner are one object


@dataclass(frozen=True)
class Instance:
    """One connected component.

    Attributes:
        value: Its value in the label image.
        top: First row.
        left: First column.
        pixels: True on the object, within its bounding box.
    """

    value: int
    top: int
    left: int
    pixels: BoolImage

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.pixels.sum())

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the bounding box."""
        height, width = self.pixels.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def within(self, shape: tuple[int, int]) -> BoolImage:
        """The pixels within the whole image [H, W]."""
        whole = np.zeros(shape, np.bool_)
        whole[self.window] = self.pixels
        return whole


@dataclass
class Counts:
    """What an export wrote and what it left out, summed over images."""

    images: int = 0
    instances: int = 0
    dropped: int = 0
    dropped_pixels: int = 0
    void_pixels: int = 0
    pixels: int = 0


@dataclass(frozen=True)
class Splitter:
    """Takes label images apart.

    Attributes:
        min_pixels: Smaller objects are dropped; they become background.
        void: Whether void is an object like any other; it is left out otherwise.
        counts: Numbers of objects and pixels, summed over the images so far.
    """

    min_pixels: int = 0
    void: bool = False
    counts: Counts = field(default_factory=Counts)

    def split(self, labels: LabelImage) -> tuple[LabelImage, list[Instance]]:
        """The label image without what is dropped, and the objects that are left.

        Objects are in the order of their values. Void stays in the label image.

        Args:
            labels: uint8 [H, W].

        Example:
            >>> labels = np.array([[1, 0, 2], [0, 1, 255]], np.uint8)
            >>> kept, objects = Splitter(min_pixels=2).split(labels)
            >>> kept.tolist(), [(one.value, one.area) for one in objects]
            ([[1, 0, 0], [0, 1, 255]], [(1, 2)])
        """
        kept, found = labels.copy(), []
        for instance in instances(labels):
            if instance.value == VOID and not self.void:
                continue
            if instance.area < self.min_pixels and instance.value != VOID:
                kept[instance.window][instance.pixels] = BACKGROUND
                self.counts.dropped += 1
                self.counts.dropped_pixels += instance.area
                continue
            found.append(instance)
        self.counts.images += 1
        self.counts.instances += len(found)
        self.counts.pixels += labels.size
        self.counts.void_pixels += int((labels == VOID).sum())
        return kept, found


def instances(labels: LabelImage) -> Iterator[Instance]:
    """Connected components of all values but the background; corners connect."""
    for value in np.unique(labels[labels != BACKGROUND]):
        own = (labels == value).astype(np.uint8)
        count, numbered, boxes, _ = cv2.connectedComponentsWithStats(
            own, connectivity=_CONNECTIVITY
        )
        for number in range(1, count):
            left, top, width, height = map(int, boxes[number, :4])
            box = numbered[top : top + height, left : left + width]
            yield Instance(int(value), top, left, box == number)
