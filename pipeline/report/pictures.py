"""Pictures of label images, as arrays or encoded files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import Image, LabelImage
from pipeline.data.catalogue import BACKGROUND, VOID

_STRIPE = 4  # width of the stripes that mark void, px
_QUALITY = 85  # JPEG quality
_ALL = 254  # most classes of a label image

# Seven that people with any colour vision tell apart (Okabe and Ito, 2008), and seven between them.
_BASE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
    (204, 121, 167), (213, 94, 0), (117, 62, 172), (160, 220, 60), (255, 175, 175),
    (64, 224, 208), (150, 110, 90), (195, 175, 255), (90, 130, 90),
)  # fmt: skip
_DARKER = 0.6  # the second time around

VOID_COLOURS = ((120, 120, 120), (245, 245, 245))
"""Dark and light stripes, which mark void in every picture."""


def class_colours(classes: int) -> NDArray[np.uint8]:
    """A colour for each class, for people: uint8 [classes, 3]. Files keep the palette of VOC.

    Example:
        >>> class_colours(15)[[0, 14]].tolist()
        [[230, 159, 0], [138, 95, 0]]
    """
    base = [_BASE[k % len(_BASE)] for k in range(classes)]
    light = [[_DARKER ** (k // len(_BASE) % 2)] for k in range(classes)]
    mixed = np.array(base, np.float64).reshape(-1, 3) * np.array(light).reshape(-1, 1)
    rounded: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return rounded


_PALETTE = class_colours(_ALL)


def overlay_labels(image: Image, labels: LabelImage) -> Image:
    """A label image of any size over the grey image: classes in their colours, void striped.

    Example:
        >>> overlay_labels(np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2), np.uint8)).max()
        np.uint8(0)
    """
    size = (image.shape[1], image.shape[0])
    labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    picture = _grey(image) * 0.65
    objects = (labels != BACKGROUND) & (labels != VOID)
    picture[objects] = 0.45 * _grey(image)[objects] + 0.65 * _PALETTE[labels[objects] - 1]
    picture[_outline(labels)] = 255
    void = labels == VOID
    light = striped(labels.shape)[void].astype(int)
    picture[void] = 0.3 * picture[void] + 0.7 * np.array(VOID_COLOURS)[light]
    return _to_uint8(picture)


def striped(size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where the light ones of diagonal stripes are, bool [H, W]."""
    rows, columns = np.indices(size[:2])
    light: NDArray[np.bool_] = ((rows + columns) // _STRIPE) % 2 == 0
    return light


def _outline(labels: LabelImage) -> NDArray[np.bool_]:
    """The edge pixels of objects, which separate neighbours of similar colour."""
    eroded = cv2.erode(labels, np.ones((3, 3), np.uint8))
    dilated = cv2.dilate(labels, np.ones((3, 3), np.uint8))
    void_beside = dilated == VOID  # no line beside void, whose stripes are visible
    edge: NDArray[np.bool_] = (eroded != labels) & (labels != VOID) & ~void_beside
    return edge


def encode_jpeg(image: Image) -> bytes:
    """The image as a JPEG file."""
    return _encoded(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])


def encode_png(image: Image) -> bytes:
    """The image as a PNG file."""
    return _encoded(".png", image, [])


def _encoded(suffix: str, image: Image, options: Sequence[int]) -> bytes:
    _, content = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return bytes(content)


def _grey(image: Image) -> NDArray[np.float32]:
    """The image with little colour, so that an overlay stands out."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    return np.asarray(0.8 * grey + 0.2 * image, dtype=np.float32)


def _to_uint8(picture: NDArray[Any]) -> Image:
    rounded: Image = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return rounded
