"""The built-in data set: drawn pictures with image labels and masks, made in seconds.

It needs no download, no licence and no GPU; every stage can be tried and tested on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.base.errors import ConfigError, DataError, StorageError
from pipeline.data import scenes, textures
from pipeline.data.catalogue import Catalogue
from pipeline.data.palette import encode_label_image
from pipeline.data.scenes import CLASSES, draw_scene
from pipeline.data.voc import load_voc

_MANIFEST = "shapes.json"
_SIZE_MIN = 32
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class _Recipe:
    """Everything that the pictures depend on; ``drawing`` is a hash of the drawing code."""

    random_seed: int
    train: int
    val: int
    size: int
    drawing: str


def load_shapes(
    root: Path | str,
    *,
    random_seed: int = 0,
    train: int = 400,
    val: int = 100,
    size: int = 128,
    name: str = "shapes",
) -> Catalogue:
    """The built-in pictures as a catalogue, drawn if ``root`` does not contain them yet.

    The folder has the layout of VOC and can be used with ``load_voc`` too. The same arguments
    give the same bytes. A folder drawn with other arguments, or by another version of the
    drawing code, is replaced as a whole; any other folder is left alone.

    Args:
        root: Folder for the data set and nothing else.
        random_seed: Seed of the pictures.
        train: Number of pictures to learn from; pseudo-masks are scored on all of them.
        val: Number of held-out pictures.
        size: Side of the square pictures in pixels, 32 or more.
        name: Name of the catalogue.

    Raises:
        ConfigError: ``train`` or ``val`` is not positive, or ``size`` is too small.
        DataError: ``root`` contains something else.
        StorageError: The pictures cannot be written.
    """
    root = Path(root)
    if train < 1 or val < 1 or size < _SIZE_MIN:
        raise ConfigError(
            f"shapes: train={train}, val={val}, size={size}. "
            f"Choose train and val >= 1 and size >= {_SIZE_MIN}."
        )
    recipe = _Recipe(random_seed, train, val, size, _drawing_version())
    if _recipe_of(root) != asdict(recipe):
        _make(root, recipe)
    return load_voc(
        root,
        train="train",
        scored="train",
        val="val",
        labels=root / "image_labels.csv",
        classes=root / "classes.txt",
        train_masks="SegmentationClass",
        name=name,
    )


def _drawing_version() -> str:
    """A hash of the drawing code, so that pictures drawn by another version are replaced."""
    sources = (Path(str(module.__file__)).read_bytes() for module in (scenes, textures))
    return hashlib.sha256(b"".join(sources)).hexdigest()[:16]


def _recipe_of(root: Path) -> dict[str, object] | None:
    """The recipe of the data set in ``root``, or None if the set is missing or incomplete."""
    try:
        recipe = json.loads((root / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return recipe if isinstance(recipe, dict) else None


def _make(root: Path, recipe: _Recipe) -> None:
    """Draw into a temporary sibling of ``root``, then rename it."""
    if root.exists() and _recipe_of(root) is None and any(root.iterdir()):
        raise DataError(
            f"{root}: is neither empty nor a folder of built-in pictures, and its files are kept. "
            "Choose another root for data=shapes."
        )
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as temporary:
            made = Path(temporary) / "new"
            _write(made, recipe)
            _put_in_place(made, root, Path(temporary) / "old")
    except OSError as error:
        raise StorageError(
            f"{root}: the built-in pictures cannot be written ({error}). "
            "Free some space (about 20 MB) or choose another root."
        ) from error


def _put_in_place(made: Path, root: Path, aside: Path) -> None:
    """Rename; if another process has put the same pictures there first, keep those."""
    if root.exists():
        if _recipe_of(root) == _recipe_of(made):
            return
        root.rename(aside)
    try:
        made.rename(root)
    except OSError:
        if _recipe_of(root) != _recipe_of(made):
            raise
    shutil.rmtree(aside, ignore_errors=True)


def _write(folder: Path, recipe: _Recipe) -> None:
    voc = folder / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / part).mkdir(parents=True)
    rows = ["id," + ",".join(CLASSES)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for number, (split, count) in enumerate((("train", recipe.train), ("val", recipe.val))):
            ids = [f"{split}_{index:05d}" for index in range(count)]
            keys = [(recipe.random_seed, number, index) for index in range(count)]
            labels = pool.map(_write_picture, [voc] * count, ids, keys, [recipe.size] * count)
            rows += [_row(id_, shown) for id_, shown in zip(ids, labels, strict=True)]
            _write_lines(voc / "ImageSets" / "Segmentation" / f"{split}.txt", ids)
    _write_lines(folder / "image_labels.csv", rows)
    _write_lines(folder / "classes.txt", list(CLASSES))
    _write_lines(folder / _MANIFEST, [json.dumps(asdict(recipe), indent=2)])


def _write_picture(voc: Path, id_: str, key: Sequence[int], size: int) -> tuple[int, ...]:
    """Draw and write one picture and its mask; ``key`` seeds it, so that the order is free."""
    scene = draw_scene(np.random.default_rng(key), size)
    bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    (voc / "JPEGImages" / f"{id_}.jpg").write_bytes(jpeg.tobytes())
    (voc / "SegmentationClass" / f"{id_}.png").write_bytes(encode_label_image(scene.mask))
    return scene.labels


def _row(id_: str, labels: Sequence[int]) -> str:
    return ",".join([id_, *(str(int(k in labels)) for k in range(len(CLASSES)))])


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
