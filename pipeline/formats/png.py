"""Indexed PNG files, one for each photo, and a list of the class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import LabelImage
from pipeline.base.errors import DataError
from pipeline.base.files import write_bytes
from pipeline.data.catalogue import VOID
from pipeline.data.class_names import read_lines
from pipeline.data.found_files import files_by_id
from pipeline.data.headers import check_size
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.formats.instances import Instance
from pipeline.formats.masks import Masks, Values, safe_id
from pipeline.formats.photos import Photo

NAMES = "classes.txt"
_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")


class PngWriter:
    """Writes ``<id>.png`` and ``classes.txt``; void is kept.

    Args:
        folder: Where the files go.
        names: Class names by value.
    """

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        self._folder = folder
        self._names = [name for value, name in names.items() if value != VOID]

    def add(self, photo: Photo, labels: LabelImage, objects: Sequence[Instance]) -> None:
        """Write the label image [H, W] of a photo."""
        del objects  # a label image has none
        write_bytes(self._folder / f"{photo.id}.png", encode_label_image(labels))

    def finish(self) -> Path:
        """Write the list of the names."""
        write_bytes(self._folder / NAMES, "".join(f"{n}\n" for n in self._names).encode())
        return self._folder


def read_png(folder: Path, classes: Sequence[str] | None, max_megapixels: float) -> Masks:
    """The label images in a folder.

    Args:
        folder: With ``classes.txt``, or without: then values are kept as they are.
        classes: Names of the values 1, 2, 3...; None takes those of the list.
        max_megapixels: Larger files are refused before they are decoded.

    Raises:
        DataError: There is no label image, or the list has other classes. Damaged files are found
            when they are decoded.
    """
    found = files_by_id(folder.rglob("*"), folder, _SUFFIXES)
    if not found:
        raise DataError(
            f"{folder}: no label image ({', '.join(_SUFFIXES)}), nor a file that a labelling tool "
            "exports."
        )
    known, table = tuple(classes or ()), np.arange(256)
    if (folder / NAMES).is_file():
        names = read_lines(folder / NAMES, "class names, one per line")
        values = Values(folder / NAMES, names, classes)
        known, table = values.classes, _table([values[name] for name in names])
    elif known:
        table = _table(range(1, len(known) + 1))
    readers = {
        safe_id(path, id_): partial(_read, path, table, max_megapixels)
        for id_, path in found.items()
    }
    return Masks(known, readers)


def _table(values: Sequence[int]) -> NDArray[np.int64]:
    """The new value of each old one; -1 for none."""
    table = np.full(256, -1)
    table[0], table[VOID] = 0, VOID
    table[1 : len(values) + 1] = values
    return table


def _read(path: Path, table: NDArray[np.int64], most: float) -> LabelImage:
    check_size(path, most, "--megapixels N")
    stored = read_label_image(path)
    labels = table[stored]
    if (labels < 0).any():
        raise DataError(
            f"{path}: has the value {stored[labels < 0][0]}, which no class has. Write 0 for "
            "background, class index + 1, and 255 for void."
        )
    return labels.astype(np.uint8)
