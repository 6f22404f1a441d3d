"""The formats that label images are exported to, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pipeline.base.arrays import LabelImage
from pipeline.formats.coco import CocoWriter
from pipeline.formats.cvat import CvatWriter
from pipeline.formats.instances import Instance
from pipeline.formats.labelstudio import LabelStudioWriter
from pipeline.formats.panoptic import PanopticWriter
from pipeline.formats.photos import Photo
from pipeline.formats.png import PngWriter
from pipeline.formats.yolo import YoloWriter

FORMATS = ("coco", "panoptic", "yolo", "labelstudio", "cvat", "png")
KEEP_VOID = ("panoptic", "png")  # without a class of that name


class Writer(Protocol):
    """Takes label images one by one."""

    def add(self, photo: Photo, labels: LabelImage, objects: Sequence[Instance]) -> None:
        """Add a photo with its label image [H, W] and its objects."""

    def finish(self) -> Path:
        """Write what can only be written at the end; what to open in the tool."""


def writer(
    kind: str, folder: Path, names: Mapping[int, str], split: str, *, polygons: bool = False
) -> Writer:
    """The writer of a format.

    Args:
        kind: One of ``FORMATS``.
        folder: Where files go.
        names: Class names by value, in the order of values.
        split: ``train`` or ``val``.
        polygons: For COCO, polygons in place of run lengths.

    Raises:
        ConfigError: The format cannot hold a class name.
    """
    kinds: dict[str, Callable[[], Writer]] = {
        "coco": lambda: CocoWriter(folder, names, split, polygons=polygons),
        "panoptic": lambda: PanopticWriter(folder, names, split),
        "yolo": lambda: YoloWriter(folder, names, split),
        "labelstudio": lambda: LabelStudioWriter(folder, names, split),
        "cvat": lambda: CvatWriter(folder, names, split),
        "png": lambda: PngWriter(folder, names),
    }
    return kinds[kind]()
