"""Ultralytics' YOLO segmentation: a text file for each photo, a normalised polygon a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import yaml

from pipeline.base.arrays import LabelImage
from pipeline.base.errors import DataError
from pipeline.base.files import write_bytes
from pipeline.formats.instances import Instance
from pipeline.formats.masks import (
    Masks,
    Reader,
    Values,
    by_id,
    check_bytes,
    explained,
    painted,
    safe_id,
)  # fmt: skip
from pipeline.formats.photos import Photo, Photos
from pipeline.formats.polygons import Ring, checked, filled, outline

DESCRIPTION = "data.yaml"
_SPLITS = ("train", "val", "test")
_KIND = "YOLO segmentation"


class YoloWriter:
    """Writes ``labels/<split>/<id>.txt`` and ``data.yaml``.

    Args:
        folder: Where the files go.
        names: Class names by value.
        split: ``train`` or ``val``.
    """

    def __init__(self, folder: Path, names: Mapping[int, str], split: str) -> None:
        self._folder = folder
        self._split = split
        self._numbers = {value: number for number, value in enumerate(names)}
        self._names = list(names.values())

    def add(self, photo: Photo, labels: LabelImage, objects: Sequence[Instance]) -> None:
        """Write the objects of a photo; an empty file for none."""
        lines = [self._line(one, labels.shape) for one in objects]
        path = self._folder / "labels" / self._split / f"{photo.id}.txt"
        write_bytes(path, "".join(lines).encode())

    def _line(self, one: Instance, shape: tuple[int, int]) -> str:
        ring = outline(one)
        shares = (ring / shape[::-1]).ravel()
        return " ".join([str(self._numbers[one.value]), *(f"{x:.9g}" for x in shares)]) + "\n"

    def finish(self) -> Path:
        """Write the description, with every split that is there."""
        path = self._folder / DESCRIPTION
        there = [split for split in _SPLITS if (self._folder / "labels" / split).is_dir()]
        first = there[0] if there else self._split
        places = {"train": first, "val": first, **{split: split for split in there}}
        lines = [f"{key}: images/{split}" for key, split in places.items()] + ["names:"]
        # JSON's strings are YAML's
        lines += [f"  {k}: {json.dumps(n)}" for k, n in enumerate(self._names)]
        write_bytes(path, ("\n".join(lines) + "\n").encode())
        return path


def read_yolo(
    description: Path, classes: Sequence[str] | None, photos: Photos, max_megapixels: float
) -> Masks:
    """The label images of a data set in the layout of Ultralytics.

    Args:
        description: ``data.yaml``, beside ``labels/``.
        classes: Names of the values 1, 2, 3...; None takes the file's own.
        photos: The photos, since polygons are shares of their sides; those in ``images/`` are
            known too.
        max_megapixels: Larger photos are refused.

    Raises:
        DataError: The description is malformed or has other classes. Malformed label files are
            found when they are read.
    """
    folder, names = description.parent, _names(description)
    values = Values(description, names.values(), classes)
    value_of = {number: values[name] for number, name in names.items()}
    readers = by_id(folder, _readers(folder, photos, value_of, max_megapixels))
    if not readers:
        raise DataError(f"{folder}: has no label file labels/<split>/<id>.txt.")
    return Masks(values.classes, readers)


def _names(path: Path) -> dict[int, str]:
    with explained(path, _KIND):
        check_bytes(path, path.stat().st_size)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
        names = content["names"]
        listed = dict(enumerate(names)) if isinstance(names, list) else names
        return {int(number): str(name) for number, name in listed.items()}


def _readers(
    folder: Path, photos: Photos, values: Mapping[int, int], most: float
) -> Iterator[tuple[str, Reader]]:
    root = folder / "labels"
    beside = {split: _beside(folder / "images" / split, photos) for split in ("", *_SPLITS)}
    for path in sorted(root.rglob("*.txt")):
        parts = path.relative_to(root).with_suffix("").parts
        split = parts[0] if parts[0] in _SPLITS and len(parts) > 1 else ""
        id_ = safe_id(path, "/".join(parts[bool(split) :]))
        yield id_, partial(_read, path, id_, beside[split], values, most)


def _beside(folder: Path, photos: Photos) -> Photos:
    """Known photos and those in a folder of the data set."""
    own = Photos.within(folder).files if folder.is_dir() else {}
    return Photos({**own, **photos.files})


def _read(
    path: Path, id_: str, photos: Photos, values: Mapping[int, int], most: float
) -> LabelImage:
    shape = photos.shape(id_, most)
    with explained(path, _KIND):
        check_bytes(path, path.stat().st_size)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        objects = (_object(path, line.split(), shape) for line in lines if line.strip())
        return painted(shape, ((values[number], filled(r, shape)) for number, r in objects))


def _object(path: Path, words: Sequence[str], shape: tuple[int, int]) -> tuple[int, Ring]:
    if len(words) == 5:
        raise DataError(f"{path}: has boxes, not polygons. Export the data set as segmentation.")
    return int(words[0]), checked([float(word) for word in words[1:]], shape[::-1])
