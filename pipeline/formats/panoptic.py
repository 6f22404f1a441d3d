"""COCO panoptic segmentation: one JSON file, and a PNG file with the number of each segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import LabelImage
from pipeline.base.errors import DataError
from pipeline.base.files import write_bytes, write_json
from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.formats.coco import image_entry
from pipeline.formats.instances import Instance
from pipeline.formats.masks import Masks, Reader, Values, by_id, explained, safe_id
from pipeline.formats.photos import Photo
from pipeline.formats.pictures import Colours, decoded, encoded

_KIND = "COCO panoptic segmentation"


class PanopticWriter:
    """Writes ``panoptic_<split>/<id>.png``, then ``panoptic_<split>.json``.

    Background is a segment of a category of its own, so that void can be what it is in COCO:
    pixels without a segment.

    Args:
        folder: Where the files go.
        names: Class names by value.
        split: In the names of file and folder.
    """

    def __init__(self, folder: Path, names: Mapping[int, str], split: str) -> None:
        self.path = folder / f"panoptic_{split}.json"
        named = [(value, name, 1) for value, name in names.items() if value != VOID]
        self._background = 1 + max(value for value, _, _ in named)
        categories = [*named, (self._background, "background", 0)]
        self._categories = [
            {"id": value, "name": name, "supercategory": "", "isthing": thing}
            for value, name, thing in categories
        ]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, photo: Photo, labels: LabelImage, objects: Sequence[Instance]) -> None:
        """Write the segments of a photo with its label image [H, W] and its objects."""
        number = len(self._images) + 1
        self._images.append(image_entry(number, photo, labels))
        segments = np.zeros(labels.shape, np.uint32)
        found: list[dict[str, Any]] = []
        for value, pixels, window in _segments(labels, objects, self._background):
            found.append(_described(len(found) + 1, value, pixels, window))
            segments[window][pixels] = len(found)
        name = f"{photo.id}.png"
        write_bytes(self.path.with_suffix("") / name, encoded(_colours(segments)))
        described = {"image_id": number, "file_name": name, "segments_info": found}
        self._annotations.append(described)

    def finish(self) -> Path:
        """Write the list of the segments."""
        content = {"images": self._images, "annotations": self._annotations}
        shared = {"info": {}, "licenses": [], "categories": self._categories}
        write_json(self.path, {**shared, **content})
        return self.path


_Window = tuple[slice, slice]


def _segments(
    labels: LabelImage, objects: Sequence[Instance], background: int
) -> Iterator[tuple[int, NDArray[np.bool_], _Window]]:
    """Category, pixels and their window of each segment."""
    everywhere = (slice(0, labels.shape[0]), slice(0, labels.shape[1]))
    if (labels == BACKGROUND).any():
        yield background, labels == BACKGROUND, everywhere
    for one in objects:
        if one.value != VOID:
            yield one.value, one.pixels, one.window


def _described(
    number: int, category: int, pixels: NDArray[np.bool_], window: _Window
) -> dict[str, Any]:
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    top, left = window[0].start + int(rows[0]), window[1].start + int(columns[0])
    sides = [int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1]
    about = {"area": int(pixels.sum()), "bbox": [left, top, *sides], "iscrowd": 0}
    return {"id": number, "category_id": category, **about}


def _colours(numbers: NDArray[np.uint32]) -> Colours:
    """Numbers below 2^24 as COCO's colours: red + 256 green + 65536 blue.

    Example:
        >>> _colours(np.array([[0, 1, 258]], np.uint32)).tolist()
        [[[0, 0, 0], [1, 0, 0], [2, 1, 0]]]
    """
    parts = [numbers >> shift & 255 for shift in (0, 8, 16)]
    return np.stack(parts, axis=-1).astype(np.uint8)


def is_panoptic(content: Any) -> bool:
    """Whether the content of a JSON file lists segments.

    Example:
        >>> is_panoptic({"annotations": [{"segments_info": []}]}), is_panoptic({})
        (True, False)
    """
    annotations = content.get("annotations") if isinstance(content, dict) else None
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    return isinstance(first, dict) and "segments_info" in first


def read_panoptic(
    path: Path, content: Any, classes: Sequence[str] | None, max_megapixels: float
) -> Masks:
    """The label images of a panoptic file; the PNG files are in the folder of the same name.

    Pixels without a segment are void if the file has a category ``background``, else background.

    Args:
        path: The file.
        content: What it contains.
        classes: Names of the values 1, 2, 3...; None takes the file's own.
        max_megapixels: Larger images are refused before anything is decoded.

    Raises:
        DataError: The file is malformed or has other classes. Damaged images are found when they
            are decoded.
    """
    with explained(path, _KIND):
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        values = Values(path, names.values(), classes)
        value_of = {key: values[name] for key, name in names.items()}
        unlabelled = VOID if BACKGROUND in value_of.values() else BACKGROUND
        images = {image["id"]: image for image in content["images"]}
        readers = (
            _reader(path, one, images[one["image_id"]], value_of, unlabelled, max_megapixels)
            for one in content["annotations"]
        )
        return Masks(values.classes, by_id(path, readers))


def _reader(
    path: Path,
    annotation: Any,
    image: Any,
    values: Mapping[Any, int],
    unlabelled: int,
    most: float,
) -> tuple[str, Reader]:
    segments = {int(one["id"]): values[one["category_id"]] for one in annotation["segments_info"]}
    file = path.with_suffix("") / f"{safe_id(path, annotation['file_name'])}.png"
    table = {0: unlabelled, **segments}
    shape = (image["height"], image["width"])
    return safe_id(path, image["file_name"]), partial(_read, file, shape, table, most)


def _read(file: Path, shape: tuple[Any, Any], table: Mapping[int, int], most: float) -> LabelImage:
    with explained(file, _KIND):
        colours = decoded(file.read_bytes(), f"{file}", most).astype(np.uint32)
        if colours.shape[:2] != shape:
            raise DataError(f"{file}: {colours.shape[:2]} pixels, not {shape} as listed.")
        numbers = colours[..., 0] | colours[..., 1] << 8 | colours[..., 2] << 16
        found, places = np.unique(numbers, return_inverse=True)
        unknown = [int(number) for number in found if int(number) not in table]
        if unknown:
            raise DataError(f"{file}: has the segment {unknown[0]}, which is not listed.")
        values = np.array([table[int(number)] for number in found], np.uint8)
        return np.asarray(values[places.reshape(shape)], np.uint8)
