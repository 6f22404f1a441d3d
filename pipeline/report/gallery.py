"""All images of a run for its page: what is shown of each, and the files beside the page."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from pipeline.base.arrays import LabelImage
from pipeline.base.errors import DataError
from pipeline.base.files import write_bytes
from pipeline.data.catalogue import BACKGROUND, VOID, Item
from pipeline.data.pixels import picture_of
from pipeline.report.pictures import VOID_COLOURS, class_colours, encode_jpeg, striped
from tsgb.draw import colours

_LONGEST = 800  # longer side of a picture, px
_ERRORS = 0.02  # share of wrong pixels from which an image counts as an error

NAMES = ("empty", "named, not found", "not named", "as named")
"""What image labels say of predictions, those worth a look first."""

_BLANK = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"


@dataclass(frozen=True)
class Shown:
    """One image of the gallery.

    Attributes:
        id: Id of the image.
        split: Name of its split.
        classes: Names of the classes in its label.
        layers: Addresses of its pictures by caption; the first one is the photo. Captions of one
            kind (``prediction: a``, ``prediction: b``) can be shown side by side.
        numbers: What images are sorted by; None where an image has no such number. The score of
            ``prediction: a`` is called ``mIoU: a``.
        kind: The kind of error; see :func:`kind_of_error` and :func:`error_by_names`.
        note: A sentence about the image.
    """

    id: str
    split: str
    classes: Sequence[str]
    layers: Mapping[str, str]
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    kind: str = ""
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images that can be filtered, sorted and opened.

    Attributes:
        images: In the order in which they are shown first.
        hint: A sentence above them.
        order: The number that they are sorted by at first; "" for the order given.
        falling: Whether the highest numbers come first.
        listed: What the order given is called.
    """

    images: Sequence[Shown]
    hint: str = ""
    order: str = ""
    falling: bool = False
    listed: str = "order of the list"


def kind_of_error(counts: NDArray[np.int64]) -> str:
    """What most wrong pixels of an image are.

    Args:
        counts: Confusion matrix [C, C] of one image: rows ground truth, columns prediction.

    Returns:
        ``missed`` (object predicted as background), ``wrong name`` (object predicted as another
        class), ``leak`` (background predicted as object), or ``good`` if less than 2 % of the
        pixels are wrong.

    Example:
        >>> kind_of_error(np.array([[50, 0, 0], [9, 20, 21], [0, 0, 0]]))
        'wrong name'
    """
    objects = counts[1:, 1:]
    wrong = {
        "missed": counts[1:, BACKGROUND].sum(),
        "wrong name": objects.sum() - objects.trace(),
        "leak": counts[BACKGROUND, 1:].sum(),
    }
    if sum(wrong.values()) < _ERRORS * counts.sum():
        return "good"
    return max(wrong, key=lambda kind: int(wrong[kind]))


def error_by_names(labels: LabelImage, named: Collection[int]) -> str:
    """What the image label says of a label image, without ground truth.

    Args:
        labels: uint8 [H, W].
        named: Values of the classes in the image label.

    Returns:
        One of ``NAMES``: ``empty`` (no object, though the label names one), ``named, not found``
        (no pixel of a class that the label names), ``not named`` (2 % of the pixels or more have
        classes that it does not name), or ``as named``.

    Example:
        >>> [error_by_names(np.array([[0, 1]], np.uint8), named) for named in ([1], [1, 2], [])]
        ['as named', 'named, not found', 'not named']
    """
    found = set(np.unique(labels).tolist()) - {BACKGROUND, VOID}
    if named and not found:
        return "empty"
    if set(named) - found:
        return "named, not found"
    others = np.isin(labels, sorted(found - set(named)))
    return "not named" if others.any() and others.mean() >= _ERRORS else "as named"


class PictureFiles:
    """Pictures in a folder beside the page, made once and again when their source has changed.

    Args:
        page: The page. The pictures lie in a folder ``pictures`` beside it.
        classes: Number of classes without the background.
    """

    def __init__(self, page: Path, classes: int) -> None:
        self.folder = page.parent / "pictures"
        self.classes = classes
        self._used: set[Path] = set()

    def photo(self, name: str, item: Item) -> tuple[str, str]:
        """The address of a photo of at most 800 px, and what is wrong with it."""
        file = f"{name}/photo.jpg"
        try:
            return self._made(file, item.image, lambda: encode_jpeg(fitted(picture_of(item)))), ""
        except DataError:
            return _BLANK, "The image cannot be read."

    def labels(self, name: str, layer: str, source: Path, labels: LabelImage) -> str:
        """The address of a label image in display colours, transparent where it is background."""
        return self._made(f"{name}/{layer}.png", source, lambda: label_layer(labels, self.classes))

    def map(self, name: str, layer: str, source: Path, saliency: NDArray[np.floating[Any]]) -> str:
        """The address of a saliency map [h, w] in [0, 1], transparent where it is low."""
        return self._made(f"{name}/{layer}.png", source, lambda: map_layer(saliency))

    def tidy(self) -> None:
        """Remove the pictures that nobody has asked for."""
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_file() and path not in self._used:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def _made(self, name: str, source: Path, content: Callable[[], bytes]) -> str:
        """The address of a picture, made anew if its source is younger."""
        path = self.folder / name
        self._used.add(path)
        changed = source.stat().st_mtime_ns if source.exists() else 0
        if not path.is_file() or path.stat().st_mtime_ns < changed:
            write_bytes(path, content())
        return quote(f"pictures/{name}")


def label_layer(labels: LabelImage, classes: int) -> bytes:
    """A label image in display colours as an indexed PNG; background is transparent, void striped.

    Args:
        labels: uint8 [H, W].
        classes: Number of classes without the background.
    """
    small, stripe = fitted(labels), np.uint8(classes + 1)
    values = np.where((small == VOID) & striped(small.shape), stripe, small)
    palette, alpha = np.zeros((256, 3), np.uint8), np.full(256, 255, np.uint8)
    palette[1 : classes + 1] = class_colours(classes)
    palette[VOID], palette[stripe] = VOID_COLOURS
    alpha[BACKGROUND] = 0
    return _indexed(values, palette.tobytes(), alpha.tobytes())


def map_layer(saliency: NDArray[np.floating[Any]]) -> bytes:
    r"""A map [h, w] in [0, 1] as an indexed PNG, in the colours of ``tsgb.draw``.

    Example:
        >>> map_layer(np.zeros((2, 2)))[:4]
        b'\x89PNG'
    """
    levels = np.linspace(0, 1, 256)
    heat = colours(levels[None], signed=False, maximum=1.0, smoothing=0)[0]
    alpha = np.rint(255 * levels**0.5).astype(np.uint8)
    values = np.rint(255 * np.clip(saliency, 0, 1)).astype(np.uint8)
    return _indexed(values, np.rint(heat).astype(np.uint8).tobytes(), alpha.tobytes())


def _indexed(values: NDArray[np.uint8], palette: bytes, alpha: bytes) -> bytes:
    image, stream = Pillow.fromarray(values), io.BytesIO()
    image.putpalette(palette)
    image.save(stream, format="PNG", transparency=alpha, compress_level=3)
    return stream.getvalue()


def fitted(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture of at most 800 px; label images keep their values."""
    zoom = _LONGEST / max(picture.shape[:2])
    if zoom >= 1:
        return picture
    height, width = (max(round(side * zoom), 1) for side in picture.shape[:2])
    method = cv2.INTER_NEAREST if picture.ndim == 2 else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), dtype=np.uint8)
