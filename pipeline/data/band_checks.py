"""Checks of images of any number of bands, and the statistics that networks need of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.base.errors import DataError
from pipeline.data.band_files import check_bands, read_band_header, read_bands
from pipeline.data.bands import Bands, Moments, measured
from pipeline.data.catalogue import Catalogue
from pipeline.data.headers import Header, check_pixels
from pipeline.data.overview import Photo


def header_of_bands(path: Path) -> Header:
    """Size and depth of a file of bands."""
    found = read_band_header(path)
    return Header(found.width, found.height, bits=8 * np.dtype(found.values).itemsize)


def photo_of_bands(path: Path, bands: Bands, max_megapixels: float) -> Photo:
    """Read a file of bands after a look at its header.

    Raises:
        DataError: It is too large, cannot be read, has other bands, or pixels without a value.
    """
    header = read_band_header(path)
    check_pixels(path, header.width, header.height, max_megapixels)
    check_bands(path, header, bands)
    pixels = read_bands(path, bands)
    empty = int(np.isnan(pixels).any(axis=2).sum())
    if empty:
        raise DataError(
            f"{path}: {empty} pixels have no value (NaN, infinite, or what the file declares as "
            "no data). Fill them or cut them off, or take the declaration out of the file if the "
            "value is a real one."
        )
    return Photo(header_of_bands(path), None, header.values, Moments.of(pixels))


def known_bands(
    catalogue: Catalogue, photos: Mapping[Path, Photo]
) -> tuple[Bands | None, list[str]]:
    """The bands of a data set with the statistics of its training images, and problems.

    Args:
        catalogue: The data set.
        photos: What was seen of each image; images that have problems of their own are missing.
    """
    bands = catalogue.bands
    if bands is None or not photos:
        return None, []
    kinds = [photo.values for photo in photos.values()]
    usual = max(dict.fromkeys(kinds), key=kinds.count)
    mixed = [
        f"{path}: holds {photo.values}, where {kinds.count(usual)} images hold {usual}. The same "
        "number would mean another brightness. Save it like the others, in the same units."
        for path, photo in photos.items()
        if photo.values != usual
    ]
    seen = [photos[item.image] for item in catalogue.train.items if item.image in photos]
    moments = [photo.moments for photo in seen if photo.moments is not None]
    if mixed or not moments:
        return None, mixed
    try:
        return measured(bands, usual, moments), []
    except DataError as error:
        return None, [str(error)]
