"""COCO instance segmentation: one JSON file, objects as run lengths or as polygons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.arrays import BoolImage, LabelImage
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.files import write_json
from pipeline.formats.instances import Instance
from pipeline.formats.masks import (
    Masks,
    Reader,
    Values,
    by_id,
    check_shape,
    explained,
    painted,
    safe_id,
)  # fmt: skip
from pipeline.formats.photos import Photo
from pipeline.formats.polygons import checked, filled, outline

_KIND = "COCO instances"


class CocoWriter:
    """Collects objects and writes ``instances_<split>.json``.

    Args:
        folder: Where the file goes.
        names: Class names by value.
        split: In the name of the file.
        polygons: Polygons in place of run lengths.
    """

    def __init__(
        self, folder: Path, names: Mapping[int, str], split: str, *, polygons: bool = False
    ) -> None:
        self.path = folder / f"instances_{split}.json"
        self._names = names
        self._segmentation = _polygons if polygons else _run_lengths
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, photo: Photo, labels: LabelImage, objects: Sequence[Instance]) -> None:
        """Add a photo with its label image [H, W] and its objects."""
        number = len(self._images) + 1
        self._images.append(image_entry(number, photo, labels))
        for one in objects:
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": number,
                    "category_id": one.value,
                    "iscrowd": 0,
                    "area": one.area,
                    "bbox": [one.left, one.top, *one.pixels.shape[::-1]],
                    "segmentation": self._segmentation(one, labels.shape),
                }
            )

    def finish(self) -> Path:
        """Write the file."""
        categories = [{"id": v, "name": n, "supercategory": ""} for v, n in self._names.items()]
        content = {"images": self._images, "annotations": self._annotations}
        write_json(self.path, {"info": {}, "licenses": [], **content, "categories": categories})
        return self.path


def image_entry(number: int, photo: Photo, labels: LabelImage) -> dict[str, Any]:
    """What COCO's files say of a photo with the label image [H, W].

    Example:
        >>> image_entry(1, Photo("a", "a.jpg"), np.zeros((2, 3), np.uint8))
        {'id': 1, 'file_name': 'a.jpg', 'height': 2, 'width': 3}
    """
    height, width = labels.shape
    return {"id": number, "file_name": photo.name, "height": height, "width": width}


def _run_lengths(one: Instance, shape: tuple[int, int]) -> dict[str, Any]:
    try:
        from pycocotools.mask import encode
    except ModuleNotFoundError as error:
        raise ConfigError(
            "COCO's run lengths are written by pycocotools, which is not installed: "
            "pip install 'tsgb[masks]'. Or write polygons: --polygons."
        ) from error
    coded = encode(np.asfortranarray(one.within(shape).astype(np.uint8)))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode("ascii")}


def _polygons(one: Instance, _: tuple[int, int]) -> list[list[float]]:
    """One polygon: a list of them would be a union, which has no holes."""
    line = outline(one)
    return [[float(value) for value in line.ravel()]]


def read_coco(
    path: Path, content: Any, classes: Sequence[str] | None, max_megapixels: float
) -> Masks:
    """The label images of a COCO file, with run lengths, compressed or not, and polygons.

    Args:
        path: The file, for errors.
        content: What it contains.
        classes: Names of the values 1, 2, 3...; None takes the file's own.
        max_megapixels: Larger images are refused before anything is decoded.

    Raises:
        DataError: The file is malformed or has other classes. Malformed objects are found when
            their image is decoded.
    """
    with explained(path, _KIND):
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        values = Values(path, names.values(), classes)
        value_of = {key: values[name] for key, name in names.items()}
        objects = defaultdict(list)
        for annotation in content["annotations"]:
            objects[annotation["image_id"]].append(annotation)
        images = content["images"]
        unknown = objects.keys() - {image["id"] for image in images}
        if unknown:
            raise DataError(f"{path}: has objects in images that it does not list ({unknown}).")
        readers = _readers(path, images, objects, value_of, max_megapixels)
        return Masks(values.classes, by_id(path, readers))


def _readers(
    path: Path,
    images: Sequence[Any],
    objects: Mapping[Any, list[Any]],
    values: Mapping[Any, int],
    most: float,
) -> Iterator[tuple[str, Reader]]:
    for image in images:
        id_ = safe_id(path, image["file_name"])
        yield id_, partial(_read, path, image, objects.get(image["id"], []), values, most)


def _read(
    path: Path, image: Any, objects: Sequence[Any], values: Mapping[Any, int], most: float
) -> LabelImage:
    with explained(path, _KIND):
        about = f"{path}: {image['file_name']}"
        shape = check_shape(about, (image["height"], image["width"]), most)
        return painted(
            shape, ((values[one["category_id"]], _pixels(one, shape, about)) for one in objects)
        )


def _pixels(annotation: Any, shape: tuple[int, int], about: str) -> BoolImage:
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list) and segmentation:
        parts = [filled(checked(numbers), shape) for numbers in segmentation]
        return np.asarray(np.logical_or.reduce(parts), np.bool_)
    if not isinstance(segmentation, dict):
        raise DataError(f"{about}: an object without a mask. Draw masks, not boxes.")
    if tuple(segmentation["size"]) != shape:
        raise DataError(f"{about}: a mask of the size {segmentation['size']}, not {list(shape)}.")
    counts = segmentation["counts"]
    lengths = np.array(_unpacked(counts) if isinstance(counts, str) else counts, np.int64)
    total = shape[0] * shape[1]
    if ((lengths < 0) | (lengths > total)).any() or lengths.sum() != total:
        raise DataError(f"{about}: the run lengths of a mask do not fill {shape[1]} x {shape[0]}.")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(shape, order="F")


def _unpacked(text: str) -> list[int]:
    """Run lengths of COCO's compressed text.

    Not by pycocotools: it returns memory of others where a file's lengths are too short.

    Each character has 5 bits, lowest first, and a bit that says whether more follow. From the
    third on, lengths are differences from the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for code in text.encode("ascii"):
        part = code - 48
        value |= (part & 31) << shift
        shift += 5
        if part & 32:
            continue
        if part & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the run lengths of a mask end too early")
    return counts
