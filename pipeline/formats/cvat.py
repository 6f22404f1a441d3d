"""CVAT's "segmentation mask 1.1": coloured PNG files and a list of the colours."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import LabelImage
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.files import atomic_path
from pipeline.data.palette import PALETTE, encode_label_image
from pipeline.formats.instances import Instance
from pipeline.formats.masks import (
    Masks,
    Reader,
    Values,
    by_id,
    check_bytes,
    explained,
    safe_id,
)  # fmt: skip
from pipeline.formats.photos import Photo
from pipeline.formats.pictures import Colours, decoded, encoded

LABEL_MAP = "labelmap.txt"
_CLASSES, _OBJECTS = "SegmentationClass", "SegmentationObject"
_LIST = "ImageSets/Segmentation/default.txt"
_MAX_BYTES = 2**28  # of a file in an archive, which can be packed a thousandfold
_KIND = "a segmentation mask of CVAT"
_UNFIT = re.compile(r"[:\r\n]|^#")  # in a class name: they separate, or begin a comment


class CvatWriter:
    """Collects images and writes ``segmentation_mask_<split>.zip``, which CVAT takes as it is.

    Args:
        folder: Where the file goes.
        names: Class names by value.
        split: In the name of the file.

    Raises:
        ConfigError: The format cannot hold a class name.
    """

    def __init__(self, folder: Path, names: Mapping[int, str], split: str) -> None:
        unfit = [name for name in names.values() if _UNFIT.search(name)]
        if unfit:
            raise ConfigError(
                f"CVAT's label map cannot hold the class name {unfit[0]!r} (a colon, a line break, "
                "or # at its beginning). Rename the class, or choose another format."
            )
        self.path = folder / f"segmentation_mask_{split}.zip"
        self._names = names
        self._ids: list[str] = []
        self._files: dict[str, bytes] = {}

    def add(self, photo: Photo, labels: LabelImage, objects: Sequence[Instance]) -> None:
        """Add a photo with its label image [H, W] and its objects."""
        numbers = np.zeros(labels.shape, np.uint32)
        for number, one in enumerate(objects, start=1):
            numbers[one.window][one.pixels] = number
        shown = np.where(numbers > 0, labels, 0).astype(np.uint8)
        self._files[f"{_CLASSES}/{photo.id}.png"] = encode_label_image(shown)
        self._files[f"{_OBJECTS}/{photo.id}.png"] = encoded(number_colours(numbers))
        self._ids.append(photo.id)

    def finish(self) -> Path:
        """Write the file."""
        colours = {"background": 0} | {name: value for value, name in self._names.items()}
        lines = [f"{n}:{','.join(map(str, PALETTE[v]))}::" for n, v in colours.items()]
        heading = "# label:color_rgb:parts:actions"
        lists = {
            LABEL_MAP: ("\n".join([heading, *lines]) + "\n").encode(),
            _LIST: "".join(f"{id_}\n" for id_ in self._ids).encode(),
        }
        with atomic_path(self.path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, content in {**lists, **self._files}.items():
                archive.writestr(name, content)
        return self.path


def number_colours(numbers: NDArray[np.uint32]) -> Colours:
    """A colour for each number below 2^24, RGB; those below 256 are VOC's.

    Example:
        >>> number_colours(np.array([[0, 1, 256]], np.uint32)).tolist()
        [[[0, 0, 0], [128, 0, 0], [0, 0, 32]]]
    """
    colours = np.zeros((*numbers.shape, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (numbers >> (3 * place + channel)) & 1
            colours[..., channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours


class Archive:
    """The files of a folder or of a zip file, by their paths; nothing is unpacked.

    Args:
        path: Folder or zip file.
    """

    def __init__(self, path: Path, read: Callable[[str], bytes], names: Sequence[str]) -> None:
        self.path = path
        self.read = read
        self.names = sorted(names)

    @classmethod
    def opened(cls, path: Path) -> Self:
        """The archive at a path."""
        if path.is_dir():
            files = [f for f in path.rglob("*") if f.is_file()]
            names = [file.relative_to(path).as_posix() for file in files]
            return cls(path, lambda name: (path / name).read_bytes(), names)
        with explained(path, "a zip file"), zipfile.ZipFile(path) as archive:
            return cls(path, partial(_from_zip, path), archive.namelist())


def _from_zip(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        check_bytes(f"{path}: {name}", archive.getinfo(name).file_size, _MAX_BYTES)
        return archive.read(name)


def read_cvat(path: Path, classes: Sequence[str] | None, max_megapixels: float) -> Masks:
    """The label images of a folder or zip file that CVAT exported.

    Args:
        path: Folder with ``labelmap.txt`` and ``SegmentationClass``, or a zip file of them.
        classes: Names of the values 1, 2, 3...; None takes those of the label map.
        max_megapixels: Larger images are refused before they are decoded.

    Raises:
        DataError: Something is missing or malformed, or has other classes. Damaged images are
            found when they are decoded.
    """
    archive = Archive.opened(path)
    if LABEL_MAP not in archive.names:
        raise DataError(
            f'{path}: has no {LABEL_MAP}. Export the task from CVAT as "Segmentation mask 1.1", or '
            "unpack what is in another format."
        )
    with explained(path, _KIND):
        colours = _colours(archive.read(LABEL_MAP).decode("utf-8-sig"))
        values = Values(path, colours, classes)
        value_of = {int(_packed(colour)): values[name] for name, colour in colours.items()}
        readers = _readers(archive, value_of, max_megapixels)
        return Masks(values.classes, by_id(path, readers))


def _colours(text: str) -> dict[str, NDArray[np.uint8]]:
    lines = [line for line in text.splitlines() if line.strip() and line[0] != "#"]
    found = {}
    for line in lines:
        name, colour, _, _ = line.rsplit(":", 3)
        red, green, blue = map(int, colour.split(","))
        found[name] = np.array([red, green, blue], np.uint8)
    return found


def _packed(colours: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """One number for each colour."""
    red, green, blue = np.moveaxis(colours.astype(np.uint32), -1, 0)
    return np.asarray((red << 16) | (green << 8) | blue, np.uint32)


def _readers(
    archive: Archive, values: Mapping[int, int], most: float
) -> Iterator[tuple[str, Reader]]:
    for name in archive.names:
        if name.startswith(f"{_CLASSES}/") and name.lower().endswith(".png"):
            id_ = safe_id(archive.path, name.removeprefix(f"{_CLASSES}/"))
            yield id_, partial(_read, archive, name, values, most)


def _read(archive: Archive, name: str, values: Mapping[int, int], most: float) -> LabelImage:
    with explained(archive.path / name, _KIND):
        found = _packed(decoded(archive.read(name), f"{archive.path / name}", most))
        labels = np.full(found.shape, 0, np.uint8)
        known = np.zeros(found.shape, np.bool_)
        for colour, value in values.items():
            own = found == colour
            labels[own], known[own] = value, True
        if not known.all():
            odd = [int(found[~known][0]) >> shift & 255 for shift in (16, 8, 0)]
            raise DataError(f"{archive.path / name}: the colour {odd} is not in {LABEL_MAP}.")
        return labels
