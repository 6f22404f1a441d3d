"""The built-in data sets: drawn pictures with image labels and masks, made in seconds.

It needs no download, no licence and no GPU; every stage can be tried and tested on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from pipeline.base.errors import ConfigError, DataError, StorageError
from pipeline.data import scenes, textures
from pipeline.data.catalogue import Catalogue
from pipeline.data.palette import encode_label_image
from pipeline.data.scenes import CLASSES, Scene, draw_scene
from pipeline.data.voc import load_voc

_SIZE_MIN = 32
_JPEG_QUALITY = 95

# Places in the folder of a built-in data set.
_VOC = Path("VOCdevkit", "VOC2012")
IMAGES, MASKS = _VOC / "JPEGImages", _VOC / "SegmentationClass"
LISTS = _VOC / "ImageSets" / "Segmentation"
LABELS, NAMES = "image_labels.csv", "classes.txt"


@dataclass(frozen=True)
class Drawing:
    """A kind of pictures that the project draws.

    Attributes:
        name: The option of the group ``data``.
        classes: Class names in the order of the mask values.
        draw: Draws one picture of a size in px.
        modules: The drawing code; pictures of another version of it are replaced.
        channels: Bands of 16 bits of a picture; None: RGB of 8 bits.
    """

    name: str
    classes: tuple[str, ...]
    draw: Callable[[np.random.Generator, int], Scene]
    modules: tuple[ModuleType, ...]
    channels: int | None = None

    @property
    def version(self) -> str:
        """A hash of the drawing code."""
        sources = (Path(str(module.__file__)).read_bytes() for module in self.modules)
        return hashlib.sha256(b"".join(sources)).hexdigest()[:16]


_SHAPES = Drawing(
    "shapes", tuple(CLASSES), lambda rng, size: draw_scene(rng, size), (scenes, textures)
)


@dataclass(frozen=True)
class _Recipe:
    """Everything that the pictures depend on."""

    drawing: Drawing
    random_seed: int
    train: int
    val: int
    size: int

    @property
    def manifest(self) -> str:
        """The name of the file that says what the pictures depend on."""
        return f"{self.drawing.name}.json"

    def facts(self) -> dict[str, object]:
        """Plain values, so that they can be stored."""
        numbers = {name: getattr(self, name) for name in ("random_seed", "train", "val", "size")}
        bands = {} if self.drawing.channels is None else {"channels": self.drawing.channels}
        return {**numbers, "drawing": self.drawing.version, **bands}


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
    return load_drawn(_SHAPES, root, (random_seed, train, val, size), name)


def load_drawn(
    drawing: Drawing, root: Path | str, numbers: tuple[int, int, int, int], name: str
) -> Catalogue:
    """Photos of any kind as a catalogue; see ``load_shapes`` and ``ensure_drawn``."""
    ensure_drawn(drawing, Path(root), numbers)
    return load_voc(
        root,
        train="train",
        scored="train",
        val="val",
        labels=Path(root) / LABELS,
        classes=Path(root) / NAMES,
        train_masks=MASKS.name,
        name=name,
    )


def ensure_drawn(drawing: Drawing, root: Path, numbers: tuple[int, int, int, int]) -> None:
    """Draw pictures of any kind, unless the same are there; see ``load_shapes``.

    Args:
        drawing: The kind.
        root: Folder for the data set and nothing else.
        numbers: Random seed, pictures to learn from, held-out pictures, side in px.

    Raises:
        ConfigError: Numbers of pictures that are not positive, or a size that is too small.
        DataError: ``root`` contains something else.
        StorageError: The pictures cannot be written.
    """
    recipe = _Recipe(drawing, *numbers)
    if recipe.train < 1 or recipe.val < 1 or recipe.size < _SIZE_MIN:
        raise ConfigError(
            f"{drawing.name}: train={recipe.train}, val={recipe.val}, size={recipe.size}. "
            f"Choose train and val >= 1 and size >= {_SIZE_MIN}."
        )
    if _facts_in(root / recipe.manifest) != recipe.facts():
        _make(root, recipe)


def _facts_in(manifest: Path) -> dict[str, object] | None:
    """What the pictures beside a manifest depend on; None if they are missing or incomplete."""
    try:
        facts = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def _make(root: Path, recipe: _Recipe) -> None:
    """Draw into a temporary sibling of ``root``, then rename it."""
    if root.exists() and _facts_in(root / recipe.manifest) is None and any(root.iterdir()):
        raise DataError(
            f"{root}: is neither empty nor a folder of built-in pictures, and its files are kept. "
            f"Choose another root for data={recipe.drawing.name}."
        )
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as temporary:
            made = Path(temporary) / "new"
            _write(made, recipe)
            _put_in_place(made, root, Path(temporary) / "old", recipe.manifest)
    except OSError as error:
        raise StorageError(
            f"{root}: the built-in pictures cannot be written ({error}). "
            "Free some space (20 to 50 MB) or choose another root."
        ) from error


def _put_in_place(made: Path, root: Path, aside: Path, manifest: str) -> None:
    """Rename; if another process has put the same pictures there first, keep those."""
    if root.exists():
        if _facts_in(root / manifest) == _facts_in(made / manifest):
            return
        root.rename(aside)
    try:
        made.rename(root)
    except OSError:
        if _facts_in(root / manifest) != _facts_in(made / manifest):
            raise
    shutil.rmtree(aside, ignore_errors=True)


def _write(folder: Path, recipe: _Recipe) -> None:
    drawing = recipe.drawing
    for part in (IMAGES, MASKS, LISTS):
        (folder / part).mkdir(parents=True)
    rows = ["id," + ",".join(drawing.classes)]
    write = partial(_write_picture, folder, drawing.draw, recipe.size)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for number, (split, count) in enumerate((("train", recipe.train), ("val", recipe.val))):
            ids = [f"{split}_{index:05d}" for index in range(count)]
            keys = [(recipe.random_seed, number, index) for index in range(count)]
            labels = pool.map(write, ids, keys)
            rows += [_row(i, s, drawing.classes) for i, s in zip(ids, labels, strict=True)]
            _write_lines(folder / LISTS / f"{split}.txt", ids)
    _write_lines(folder / LABELS, rows)
    _write_lines(folder / NAMES, drawing.classes)
    _write_lines(folder / recipe.manifest, [json.dumps(recipe.facts(), indent=2)])


def _write_picture(
    folder: Path,
    draw: Callable[[np.random.Generator, int], Scene],
    size: int,
    id_: str,
    key: Sequence[int],
) -> tuple[int, ...]:
    """Draw and write one picture and its mask; ``key`` seeds it, so that the order is free."""
    scene = draw(np.random.default_rng(key), size)
    if scene.image.dtype == np.uint8:
        bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
        _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        (folder / IMAGES / f"{id_}.jpg").write_bytes(jpeg.tobytes())
    else:
        np.save(folder / IMAGES / f"{id_}.npy", scene.image)
    (folder / MASKS / f"{id_}.png").write_bytes(encode_label_image(scene.mask))
    return scene.labels


def _row(id_: str, labels: Sequence[int], classes: Sequence[str]) -> str:
    return ",".join([id_, *(str(int(k in labels)) for k in range(len(classes)))])


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
