"""Reads the exports of labelling tools as label images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import DataError
from pipeline.data.headers import MAX_MEGAPIXELS
from pipeline.formats.coco import read_coco
from pipeline.formats.cvat import LABEL_MAP, read_cvat
from pipeline.formats.labelstudio import read_labelstudio
from pipeline.formats.masks import Masks, read_json_file
from pipeline.formats.panoptic import is_panoptic, read_panoptic
from pipeline.formats.photos import Photos
from pipeline.formats.png import read_png
from pipeline.formats.yolo import DESCRIPTION, read_yolo

_FILES = ("*.json", "annotations/*.json", "*.zip")  # that a tool leaves alone in a folder


def read_masks(
    path: Path | str,
    classes: Sequence[str] | None = None,
    *,
    images: Path | Photos | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Masks:
    """The label images in a file or folder, by the id of their photos.

    A class of the name ``void`` becomes 255 unless it is one of ``classes``. Where objects
    overlap, the later one counts. Each label image is decoded when it is asked for.

    Args:
        path: COCO instances or panoptic (``.json``), tasks of Label Studio (``.json``), a
            segmentation mask 1.1 of CVAT (``.zip`` or folder), a YOLO segmentation data set
            (folder or its ``data.yaml``), or a folder of indexed PNG files.
        classes: Names of the values 1, 2, 3...; None takes the file's own.
        images: Folder of the photos, or the photos; needed for YOLO without ``images/``.
        max_megapixels: Larger images are refused before anything is decoded.

    Raises:
        DataError: The file is missing, malformed, of another kind, or has other classes.

    Example:
        >>> read_masks("corrected.txt")
        Traceback (most recent call last):
        ...
        pipeline.base.errors.DataError: corrected.txt: no such file or folder.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder.")
    suffix = path.suffix.lower()
    if path.is_dir():
        return _folder(path, classes, images, max_megapixels)
    if suffix == ".zip":
        return read_cvat(path, classes, max_megapixels)
    if suffix == ".json":
        return _json(path, classes, max_megapixels)
    if suffix in (".yaml", ".yml"):
        return read_yolo(path, classes, _photos(images), max_megapixels)
    raise DataError(
        f"{path}: no masks of a known format. Give a .json of COCO or Label Studio, a .zip of "
        f"CVAT, {DESCRIPTION} of YOLO, or a folder."
    )


def _photos(images: Path | Photos | None) -> Photos:
    return images if isinstance(images, Photos) else Photos.within(images)


def _folder(
    path: Path, classes: Sequence[str] | None, images: Path | Photos | None, most: float
) -> Masks:
    if (path / DESCRIPTION).is_file():
        return read_yolo(path / DESCRIPTION, classes, _photos(images), most)
    if (path / LABEL_MAP).is_file():
        return read_cvat(path, classes, most)
    files = [file for kind in _FILES for file in sorted(path.glob(kind))]
    if len(files) == 1:
        return read_masks(files[0], classes, max_megapixels=most)
    if files:
        raise DataError(f"{path}: has {len(files)} files of masks. Name one: {files[0]}.")
    return read_png(path, classes, most)


def _json(path: Path, classes: Sequence[str] | None, most: float) -> Masks:
    content = read_json_file(path)
    if isinstance(content, list):
        return read_labelstudio(path, content, classes, most)
    if is_panoptic(content):
        return read_panoptic(path, content, classes, most)
    return read_coco(path, content, classes, most)
