"""Photos too large for memory: TIFF files, read and written by windows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import Floats, Image
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.files import atomic_path
from pipeline.data.palette import PALETTE
from pipeline.inference.network import Network
from pipeline.inference.tiles import Tiling, bands
from pipeline.masks.seed import label_image

SUFFIXES = (".tif", ".tiff")
_UPRIGHT = "1"
_CACHE = 256  # MiB of decoded blocks that GDAL keeps; by default 5 % of the memory
_BLOCK = 256  # side of the blocks of the file that is written, px


def is_large(photo: Path) -> bool:
    """Whether a photo is read by windows."""
    return photo.suffix.lower() in SUFFIXES


@dataclass
class Totals:
    """Pixels and confidence of every label, summed up over the parts of a photo."""

    labels: int
    pixels: NDArray[np.int64] = field(init=False)
    certainty: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.pixels = np.zeros(self.labels, np.int64)
        self.certainty = np.zeros(self.labels, np.float64)

    def add(self, probabilities: Floats, labels: NDArray[np.uint8]) -> None:
        """Count a part: probabilities [labels, h, w] and label image [h, w]."""
        flat, best = labels.ravel(), probabilities.max(axis=0).ravel()
        self.pixels += np.bincount(flat, minlength=self.labels)
        self.certainty += np.bincount(flat, weights=best, minlength=self.labels)

    def rows(self, names: tuple[str, ...]) -> list[list[Any]]:
        """Name, pixels, share and mean confidence of every label that occurs."""
        total = int(self.pixels.sum())
        return [
            [name, int(count), round(int(count) / total, 6), round(float(summed / count), 4)]
            for name, count, summed in zip(names, self.pixels, self.certainty, strict=True)
            if count
        ]


def check_large(network: Network, photo: Path, *, labels_only: bool) -> None:
    """Refuse, before any work, what cannot be done by windows.

    Args:
        network: The network that is to label the photo.
        photo: A TIFF file.
        labels_only: Whether nothing but the label image is wanted.

    Raises:
        ConfigError: The network refines, other files are wanted, or rasterio is not installed.
    """
    _rasterio()
    if network.refine is not None:
        raise ConfigError(
            f"{photo}: refinement needs the whole photo, and TIFF files are read by windows. Give "
            "--no-refine, or a PNG or JPEG file."
        )
    if not labels_only:
        raise ConfigError(
            f"{photo}: TIFF files get label images alone, no overlay, probabilities or "
            "confidence. Leave these options out for them."
        )


def label_large(network: Network, photo: Path, target: Path) -> Totals:
    """Write the label image of a TIFF file as another one; memory holds one row of tiles.

    Args:
        network: With tiles; 512 px and a quarter of overlap if it has none.
        photo: Grey or RGB with 8 or 16 bits; of more bands the first three are read.
        target: The label image: tiled, compressed, with the palette of VOC.

    Raises:
        ConfigError: rasterio is not installed.
        DataError: The file cannot be read.
    """
    totals = Totals(len(network.classes) + 1)
    tiling = network.passes.tiling or Tiling()
    limited = _rasterio().Env(GDAL_CACHEMAX=_CACHE)
    with limited, _opened(photo) as source, atomic_path(target) as temporary:
        size = (source.height, source.width)
        planes = bands(*size, tiling, _Reader(source).read, network.whole, totals.labels)
        with _created(temporary, size) as written:
            for rows, probabilities in planes:
                labels = label_image(probabilities, range(len(network.classes)))
                written.write(labels, 1, window=_window(rows, slice(0, size[1])))
                totals.add(probabilities, labels)
    return totals


@contextmanager
def _opened(photo: Path) -> Iterator[Any]:
    rasterio = _rasterio()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            source = rasterio.open(photo)
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{photo}: cannot be read ({error}). Save it again as TIFF.") from error
    with source:
        if source.dtypes[0] not in ("uint8", "uint16"):
            raise DataError(f"{photo}: holds {source.dtypes[0]}. Convert it to 8 or 16 bits.")
        if source.tags().get("TIFFTAG_ORIENTATION", _UPRIGHT) != _UPRIGHT:
            raise DataError(f"{photo}: is turned by its orientation tag. Save it upright.")
        yield source


@contextmanager
def _created(path: Path, size: tuple[int, int]) -> Iterator[Any]:
    rasterio = _rasterio()
    shape = {"height": size[0], "width": size[1], "count": 1, "dtype": "uint8"}
    layout = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "compress": "deflate"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        written = rasterio.open(
            path, "w", driver="GTiff", photometric="palette", bigtiff="if_safer", **shape, **layout
        )
    with written:
        written.write_colormap(1, {k: tuple(map(int, colour)) for k, colour in enumerate(PALETTE)})
        yield written


class _Reader:
    """Windows of a file as RGB."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._bands = [1, 2, 3] if source.count >= 3 else [1, 1, 1]

    def read(self, rows: slice, columns: slice) -> Image:
        """RGB uint8 [h, w, 3]."""
        pixels = self._source.read(self._bands, window=_window(rows, columns))
        if pixels.dtype == np.uint16:
            pixels = pixels >> 8
        return np.ascontiguousarray(pixels.transpose(1, 2, 0).astype(np.uint8))


def _window(rows: slice, columns: slice) -> Any:
    return _rasterio().windows.Window.from_slices(
        (rows.start, rows.stop), (columns.start, columns.stop)
    )


def _rasterio() -> Any:
    try:
        import rasterio
        import rasterio.errors
        import rasterio.windows
    except ModuleNotFoundError as error:
        raise ConfigError(
            "TIFF files are read by rasterio, which is not installed: pip install 'tsgb[large]'."
        ) from error
    return rasterio
