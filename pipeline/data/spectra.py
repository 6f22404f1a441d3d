"""The third built-in data set: leaves whose kind only bands beyond red, green and blue tell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline.base.errors import ConfigError
from pipeline.data import leaves, scenes, textures
from pipeline.data.catalogue import Catalogue
from pipeline.data.folder import load_folder
from pipeline.data.leaves import CHANNELS, CLASSES, draw_leaves
from pipeline.data.shapes import IMAGES, LABELS, LISTS, MASKS, NAMES, Drawing, ensure_drawn


def load_bands(
    root: Path | str,
    *,
    random_seed: int = 0,
    train: int = 400,
    val: int = 100,
    size: int = 96,
    channels: int = CHANNELS,
    bands: Sequence[int] | None = None,
    name: str = "bands",
) -> Catalogue:
    """Pictures of leaves in five bands of 16 bits as a catalogue, drawn if they are missing.

    Classes are ``dry`` and ``wet``; healthy leaves have none. All three look alike in red, green
    and blue, the first three bands.

    Args:
        root: Folder for the data set and nothing else.
        random_seed: Seed of the pictures.
        train: Number of pictures to learn from.
        val: Number of held-out pictures.
        size: Side of the square pictures in pixels, 32 or more.
        channels: The first bands, 3 to 5. With three the classes cannot be told apart.
        bands: As for ``load_folder``.
        name: Name of the catalogue.

    Raises:
        ConfigError: A number is out of its range.
        DataError: ``root`` contains something else.
        StorageError: The pictures cannot be written.
    """
    if not 3 <= channels <= CHANNELS:
        raise ConfigError(f"data.channels={channels}: data=bands has {CHANNELS}. Choose 3 to 5.")
    draw = partial(draw_leaves, channels=channels)
    drawing = Drawing("bands", CLASSES, draw, (leaves, scenes, textures), channels)
    root = Path(root)
    ensure_drawn(drawing, root, (random_seed, train, val, size))
    return load_folder(
        root / IMAGES,
        root / LABELS,
        val=root / LISTS / "val.txt",
        masks=root / MASKS,
        classes=root / NAMES,
        channels=channels,
        bands=bands,
        name=name,
    )
