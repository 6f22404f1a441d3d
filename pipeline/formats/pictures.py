"""Coloured PNG files, in which some formats keep numbers."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.formats.masks import check_shape

Colours = NDArray[np.uint8]
"""Red, green and blue, [H, W, 3]."""


def encoded(colours: Colours) -> bytes:
    """The content of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(colours).save(stream, "PNG")
    return stream.getvalue()


def decoded(content: bytes, about: str, max_megapixels: float) -> Colours:
    """The colours of a PNG file.

    Args:
        content: The bytes of the file.
        about: What the file is, for errors.
        max_megapixels: Larger ones are refused before they are decoded.

    Raises:
        DataError: The image is too large.
        OSError: The file is damaged, or no PNG.

    Example:
        >>> decoded(encoded(np.full((1, 1, 3), 9, np.uint8)), "x.png", 1).tolist()
        [[[9, 9, 9]]]
    """
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        check_shape(about, (image.height, image.width), max_megapixels)
        return np.asarray(image.convert("RGB"))
