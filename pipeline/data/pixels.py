"""The pixels of an image of a data set, for networks and for the eye."""

from __future__ import annotations

import struct

from PIL import Image as Pillow

from pipeline.base.arrays import Image, Pixels
from pipeline.base.errors import DataError
from pipeline.data.band_files import read_band_header, read_bands
from pipeline.data.catalogue import Item
from pipeline.data.images import read_image


def read_pixels(item: Item) -> Pixels:
    """What a network is given: RGB uint8 [H, W, 3]; with bands float32 [H, W, channels].

    Raises:
        DataError: The file cannot be read.
    """
    return read_image(item.image) if item.bands is None else read_bands(item.image, item.bands)


def picture_of(item: Item) -> Image:
    """What a person is shown: RGB uint8 [H, W, 3].

    Raises:
        DataError: The file cannot be read.
    """
    pixels = read_pixels(item)
    return pixels if item.bands is None else item.bands.picture(pixels)


def stored_size(item: Item) -> tuple[int, int] | None:
    """Height and width in px by the header of the file alone; None if it cannot be read."""
    try:
        if item.bands is not None:
            header = read_band_header(item.image)
            return header.height, header.width
        with Pillow.open(item.image) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError, struct.error, DataError):
        return None
