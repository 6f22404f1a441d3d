"""Saliency maps as files, and which images get some."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.config import MaskedSplit, SaliencyConfig
from pipeline.data.catalogue import Catalogue, Item, Split, spaced
from pipeline.stages.own_files import read_own

_MOST = 2**26  # bytes of one map: float32, of an image of 268 megapixels


def masked_split(config: SaliencyConfig, data: Catalogue) -> Split:
    """The images that get maps and masks: a whole split, or evenly spaced ones that are scored."""
    split, scored = _splits(config, data)
    if config.images is None:
        return split
    return Split(split.name, tuple(spaced(scored.items or split.items, config.images)))


def scored_split(config: SaliencyConfig, data: Catalogue) -> Split:
    """The images of ``masked_split`` that masks are scored on where they have ground truth."""
    made, scored = set(masked_split(config, data).ids), _splits(config, data)[1]
    return Split(scored.name, tuple(item for item in scored.items if item.id in made))


def _splits(config: SaliencyConfig, data: Catalogue) -> tuple[Split, Split]:
    """The images that may get masks, and those of them on which masks are scored."""
    if config.split == MaskedSplit.val:
        return data.val, data.val
    return data.train, data.scored


def map_path(folder: Path, item: Item) -> Path:
    """The file that holds the maps of an image."""
    return folder / "maps" / f"{item.id}.npz"


def read_maps(folder: Path, item: Item) -> NDArray[np.float32]:
    """Maps [K, h, w] in [0, 1] of the classes in the label, a quarter of the image's sides.

    Raises:
        DamagedFileError: The file is damaged. It was renamed.
    """
    return read_own(map_path(folder, item), lambda path: _load(path, len(item.labels)))


def _load(path: Path, classes: int) -> NDArray[np.float32]:
    with zipfile.ZipFile(path) as archive:  # before numpy, which advises to trust what is none
        size = archive.getinfo("maps.npy").file_size
    if size > (classes + 1) * _MOST:  # a header stands before no maps too
        raise ValueError(f"{size} bytes for {classes} classes")
    with path.open("rb") as stream, np.load(stream) as content:
        maps = np.asarray(content["maps"], dtype=np.float32)
    if maps.ndim != 3 or len(maps) != classes:
        raise ValueError(f"shape {maps.shape} for {classes} classes")
    return maps
