"""Files of images of any number of bands: TIFF and PNG through GDAL, and arrays of numpy."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from pipeline.base.arrays import Pixels
from pipeline.base.errors import ConfigError, DataError
from pipeline.data.bands import Bands
from pipeline.data.headers import ORIENTATION
from pipeline.data.ids import BAND_SUFFIXES

ARRAY = ".npy"
# float32 holds every value of these, or they are floats themselves.
_VALUES = ("uint8", "int8", "uint16", "int16", "float16", "float32", "float64")
_BIG = (b"+\0", b"\0+")  # the version of BigTIFF, whose header has 16 bytes
_OPENING = Lock()  # filters of warnings belong to all threads


@dataclass(frozen=True)
class BandHeader:
    """A file of bands before its pixels are read.

    Attributes:
        height: Rows.
        width: Pixels in a row.
        channels: Number of bands.
        values: Type of the values, such as ``uint16``.
    """

    height: int
    width: int
    channels: int
    values: str


def read_band_header(path: Path) -> BandHeader:
    """Size, number of bands and type of the values of a file.

    Args:
        path: TIFF or PNG (of several pages, all bands of all pages), or ``.npy`` [H, W, C], [H, W].

    Raises:
        ConfigError: rasterio is not installed.
        DataError: The file cannot be read, or is turned by an orientation tag.
    """
    if path.suffix.lower() == ARRAY:
        array = _array(path)
        height, width, channels = array.shape
        return BandHeader(height, width, channels, array.dtype.name)
    with _pages(path) as pages:
        first, channels = pages[0], sum(page.count for page in pages)
        return BandHeader(first.height, first.width, channels, first.dtypes[0])


def described_bands(folder: Path) -> str:
    """A sentence about the first file of bands in a folder, with the setting that reads it.

    Empty if there is none, or if it cannot be read here.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in BAND_SUFFIXES)
    try:
        found = read_band_header(paths[0])
    except (IndexError, ConfigError, DataError):
        return ""
    return (
        f"{paths[0].name} has {found.channels} bands of {found.values}: set "
        f"data.channels={found.channels} if all have. "
    )


def check_bands(path: Path, found: BandHeader, bands: Bands) -> None:
    """Refuse a file that does not have the bands of the data set, or of the network.

    Raises:
        DataError: It has another number of bands, or values of another type.
    """
    if found.channels != bands.channels:
        remedy = f"Set data.channels={found.channels} if that is right for all images."
        if found.height == bands.channels and path.suffix.lower() == ARRAY:
            remedy = "Its first axis looks like the bands: save numpy.moveaxis(array, 0, 2)."
        raise DataError(
            f"{path}: {found.height} x {found.width} pixels of {found.channels} band(s), where "
            f"{bands.channels} are expected (data.channels). {remedy}"
        )
    if found.values not in _VALUES:
        raise DataError(f"{path}: holds {found.values}. Convert it to one of {', '.join(_VALUES)}.")
    if bands.values and found.values != bands.values:
        raise DataError(
            f"{path}: holds {found.values}, the training images {bands.values}. The same number "
            f"would mean another brightness. Save it as {bands.values}, in the same units."
        )


def read_bands(path: Path, bands: Bands) -> Pixels:
    """The pixels of a file, in its own values.

    Args:
        path: As for :func:`read_band_header`.
        bands: What it must have.

    Returns:
        Float32 [H, W, channels]; NaN where a pixel has no value: NaN, infinite, or the value that
        a TIFF file declares for it.

    Raises:
        ConfigError: rasterio is not installed.
        DataError: The file cannot be read, or has other bands.
    """
    check_bands(path, read_band_header(path), bands)
    if path.suffix.lower() == ARRAY:
        return _finite(np.array(_array(path), dtype=np.float32))
    with _pages(path) as pages:
        parts = [read_window(page, list(page.indexes)) for page in pages]
    if len({part.shape[:2] for part in parts}) > 1:
        raise DataError(f"{path}: its pages differ in size. Save one image in it.")
    return np.concatenate(parts, axis=2)


def bands_of_array(array: NDArray[Any], bands: Bands) -> Pixels:
    """The pixels of an array [H, W, C] or [H, W], as :func:`read_bands` returns them.

    Raises:
        DataError: It has other bands.
    """
    shaped = array[:, :, None] if array.ndim == 2 else array
    if shaped.ndim != 3 or 0 in shaped.shape:
        raise DataError(f"photo: {array.dtype} {array.shape}. Pass [H, W, C] of {bands.words}.")
    height, width, channels = shaped.shape
    check_bands(Path("photo"), BandHeader(height, width, channels, shaped.dtype.name), bands)
    return _finite(np.array(shaped, dtype=np.float32))


def read_window(source: Any, bands: list[int], window: Any = None) -> Pixels:
    """Bands of an open file, from 1, as float32 [h, w, bands]; see :func:`read_bands`.

    Raises:
        DataError: The pixels are damaged.
    """
    try:
        stored = source.read(bands, window=window)
    except OSError as error:
        cause = error.__cause__ or error
        raise DataError(
            f"{source.name}: not a whole image ({cause}). Copy the file again, or remove it."
        ) from error
    pixels = np.ascontiguousarray(stored.transpose(1, 2, 0), dtype=np.float32)
    if source.nodata is not None:
        pixels[pixels == np.float32(source.nodata)] = np.nan
    return _finite(pixels)


def _finite(pixels: Pixels) -> Pixels:
    pixels[np.isinf(pixels)] = np.nan
    return pixels


def _array(path: Path) -> Any:
    """A file ``.npy`` as an array [H, W, C] that is read where it is used."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise DataError(
            f"{path}: not a whole array of numpy ({error}). Save it again with numpy.save."
        ) from error
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(f"{path}: has shape {array.shape}. Save it as [H, W, C] or [H, W].")
    return array


@contextmanager
def _pages(path: Path) -> Iterator[list[Any]]:
    """The open pages of a file; usually one."""
    with ExitStack() as stack:
        first = stack.enter_context(open_raster(path))
        others = [stack.enter_context(open_raster(name)) for name in first.subdatasets]
        yield others or [first]


@contextmanager
def open_raster(path: Path | str) -> Iterator[Any]:
    """A file of GDAL, open for reading.

    Raises:
        ConfigError: rasterio is not installed.
        DataError: It cannot be opened, or is turned by its orientation tag.
    """
    library = rasterio()
    if isinstance(path, Path) and not path.is_file():
        raise DataError(f"{path}: no such file. Add it, or remove it from the list.")
    try:
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", library.errors.NotGeoreferencedWarning)
            source = library.open(path)
    except library.errors.RasterioError as error:
        raise DataError(f"{path}: cannot be read ({error}). Save it again.") from error
    with source:
        if isinstance(path, Path) and path.suffix.lower() != ".png" and _is_turned(path):
            raise DataError(f"{path}: is turned by its orientation tag. Save it upright.")
        yield source


def _is_turned(path: Path) -> bool:
    """Whether the orientation tag of a TIFF file turns or mirrors it, which GDAL does not tell."""
    with path.open("rb") as stream:
        header = stream.read(8)
        header += stream.read(8) if header[2:4] in _BIG else b""
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            stream.seek(tags.next)
            tags.load(stream)
        except (OSError, SyntaxError, ValueError, struct.error):  # of which GDAL knows more
            return False
    return bool(tags.get(ORIENTATION, 1) != 1)


def rasterio() -> Any:
    """The package of GDAL.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import rasterio
        import rasterio.errors
        import rasterio.windows
    except ModuleNotFoundError as error:
        raise ConfigError(
            "TIFF files are read by rasterio, which is not installed: pip install 'tsgb[large]'. "
            "Arrays (.npy) need nothing more."
        ) from error
    return rasterio
