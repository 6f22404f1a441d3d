"""Label images as files: 8-bit indexed PNG with the VOC palette."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pipeline.base.arrays import LabelImage
from pipeline.base.errors import DataError

_LOSSLESS = ("PNG", "BMP", "TIFF", "GIF")
_NARROW_GREY = (";2", ";4")  # bit depths that the decoder stretches to 0..255


def voc_palette() -> NDArray[np.uint8]:
    """The colour of every label value, uint8 [256, 3], as defined by the PASCAL VOC kit.

    The bits of a value go to red, green and blue in turn, most significant colour bit first, so
    that neighbouring values look different.

    Example:
        >>> voc_palette()[[0, 1, 15, 255]].tolist()
        [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    values = np.arange(256, dtype=np.uint8)[:, None]
    channels = np.arange(3, dtype=np.uint8)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for place in range(3):  # 8 bits, three at a time
        colours |= ((values >> (3 * place + channels)) & 1) << (7 - place)
    return colours


PALETTE = voc_palette()


def encode_label_image(labels: LabelImage) -> bytes:
    r"""A label image as an 8-bit indexed PNG with the VOC palette.

    Args:
        labels: uint8 [H, W], not empty; 0 is background and 255 is void.

    Returns:
        The content of the file.

    Raises:
        DataError: ``labels`` has another type or shape.

    Example:
        >>> encode_label_image(np.zeros((2, 3), dtype=np.uint8))[:4]
        b'\x89PNG'
    """
    if labels.dtype != np.uint8 or labels.ndim != 2 or 0 in labels.shape:
        raise DataError(
            f"encode_label_image: labels is {labels.dtype} {labels.shape}. "
            "Pass uint8 [H, W], not empty."
        )
    image = Image.fromarray(labels)
    image.putpalette(PALETTE.tobytes())
    stream = io.BytesIO()
    image.save(stream, format="PNG", bits=8)
    return stream.getvalue()


def read_label_image(path: Path | str) -> LabelImage:
    """The label values of an image file, without its colours, upright like the photo.

    Args:
        path: Indexed PNG or 8-bit grey PNG (BMP, GIF and TIFF work too).

    Returns:
        uint8 [H, W].

    Raises:
        DataError: The file is missing or not a whole image, its format is lossy, or it stores
            colours instead of values.
    """
    try:
        with Image.open(path) as image:
            _check_indices(path, image)
            ImageOps.exif_transpose(image, in_place=True)
            return np.array(image, dtype=np.uint8)
    except UnidentifiedImageError as error:
        raise DataError(
            f"read_label_image: {path} is not an image. "
            "Download the file again, or remove it from the list."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"read_label_image: {path} cannot be read ({error}). "
            "Replace it by a whole file, or remove it from the list."
        ) from error


def colourise(labels: LabelImage) -> NDArray[np.uint8]:
    """A label image in VOC colours, for display.

    Args:
        labels: uint8, any shape, usually [H, W].

    Returns:
        RGB, uint8, with one more axis of length 3.

    Example:
        >>> colourise(np.array([[0, 8]], dtype=np.uint8)).tolist()
        [[[0, 0, 0], [64, 0, 0]]]
    """
    return PALETTE[labels]


def _check_indices(path: Path | str, image: Image.Image) -> None:
    if image.format not in _LOSSLESS:
        raise DataError(
            f"read_label_image: {path} is {image.format}, which changes label values near edges. "
            "Export the label images as PNG from the source."
        )
    turned = image.format == "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    if turned:  # Pillow 13 loses the turn
        raise DataError(
            f"read_label_image: {path} is a TIFF with an orientation. Save it as PNG, upright."
        )
    tiles = getattr(image, "tile", ())  # the decoder's instructions, with the bit depth
    narrow = image.mode == "L" and any(str(tile[3]).endswith(_NARROW_GREY) for tile in tiles)
    if image.mode not in ("P", "L") or narrow:
        depth = "grey of less than 8 bits" if narrow else f"mode {image.mode}"
        raise DataError(
            f"read_label_image: {path} is {depth}, not one 8-bit label per pixel. Convert it to an "
            "indexed (palette) or 8-bit grey PNG whose pixel values are the labels: "
            "0 background, class index + 1, 255 void."
        )
