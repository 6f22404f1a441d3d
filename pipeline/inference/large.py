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

from pipeline.base.arrays import Floats, Pixels
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.files import atomic_path
from pipeline.data.band_files import (
    BandHeader,
    check_bands,
    open_raster,
    rasterio,
    read_window,
)
from pipeline.data.bands import Bands
from pipeline.data.ids import LARGE_SUFFIXES
from pipeline.data.palette import PALETTE
from pipeline.inference.network import Network
from pipeline.inference.tiles import Tiling, bands
from pipeline.masks.seed import label_image

_CACHE = 256  # MiB of decoded blocks that GDAL keeps; by default 5 % of the memory
_BLOCK = 256  # side of the blocks of the file that is written, px


def is_large(network: Network, photo: Path) -> bool:
    """Whether a photo is read by windows: a TIFF file, for a network of bands if it uses tiles."""
    whole = network.bands is not None and network.passes.tiling is None
    return photo.suffix.lower() in LARGE_SUFFIXES and not whole


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
    rasterio()
    if network.refine is not None:
        raise ConfigError(
            f"{photo}: refinement needs the whole photo, and TIFF files are read by windows. Give "
            f"--no-refine, or {'leave out --tile' if network.bands else 'a PNG or JPEG file'}."
        )
    if not labels_only:
        raise ConfigError(
            f"{photo}: TIFF files get label images alone, no overlay, probabilities or "
            f"confidence. Leave these options out for them{', or --tile' if network.bands else ''}."
        )


def label_large(network: Network, photo: Path, target: Path) -> Totals:
    """Write the label image of a TIFF file as another one; memory holds one row of tiles.

    Args:
        network: With tiles; 512 px and a quarter of overlap if it has none.
        photo: Grey or RGB with 8 or 16 bits; of more bands the first three are read. For a network
            of bands, a file of these; where it has no value, the mean of the band is read.
        target: The label image: tiled, compressed, with the palette of VOC.

    Raises:
        ConfigError: rasterio is not installed.
        DataError: The file cannot be read.
    """
    totals = Totals(len(network.classes) + 1)
    tiling = network.passes.tiling or Tiling()
    limited = rasterio().Env(GDAL_CACHEMAX=_CACHE)
    with limited, _opened(photo, network.bands) as source, atomic_path(target) as temporary:
        size = (source.height, source.width)
        reader = _Reader(source, network.bands)
        planes = bands(*size, tiling, reader.read, network.whole, totals.labels)
        with _created(temporary, size) as written:
            for rows, probabilities in planes:
                labels = label_image(probabilities, range(len(network.classes)))
                written.write(labels, 1, window=_window(rows, slice(0, size[1])))
                totals.add(probabilities, labels)
    return totals


@contextmanager
def _opened(photo: Path, wanted: Bands | None) -> Iterator[Any]:
    with open_raster(photo) as source:
        if wanted is not None:
            found = BandHeader(source.height, source.width, source.count, source.dtypes[0])
            check_bands(photo, found, wanted)
        elif source.dtypes[0] not in ("uint8", "uint16"):
            raise DataError(f"{photo}: holds {source.dtypes[0]}. Convert it to 8 or 16 bits.")
        yield source


@contextmanager
def _created(path: Path, size: tuple[int, int]) -> Iterator[Any]:
    library = rasterio()
    shape = {"height": size[0], "width": size[1], "count": 1, "dtype": "uint8"}
    layout = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "compress": "deflate"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", library.errors.NotGeoreferencedWarning)
        written = library.open(
            path, "w", driver="GTiff", photometric="palette", bigtiff="if_safer", **shape, **layout
        )
    with written:
        written.write_colormap(1, {k: tuple(map(int, colour)) for k, colour in enumerate(PALETTE)})
        yield written


class _Reader:
    """Windows of a file as RGB, or as the bands that a network sees."""

    def __init__(self, source: Any, wanted: Bands | None) -> None:
        self._source = source
        self._wanted = wanted
        self._bands = [1, 2, 3] if source.count >= 3 else [1, 1, 1]

    def read(self, rows: slice, columns: slice) -> Pixels:
        """RGB uint8 [h, w, 3], or bands float32 [h, w, C]."""
        if self._wanted is not None:
            every = list(self._source.indexes)
            return self._wanted.filled(read_window(self._source, every, _window(rows, columns)))
        pixels = self._source.read(self._bands, window=_window(rows, columns))
        if pixels.dtype == np.uint16:
            pixels = pixels >> 8
        return np.ascontiguousarray(pixels.transpose(1, 2, 0).astype(np.uint8))


def _window(rows: slice, columns: slice) -> Any:
    return rasterio().windows.Window.from_slices(
        (rows.start, rows.stop), (columns.start, columns.stop)
    )
