"""The second built-in data set: surfaces, most of them good, some with scratches and spots."""

from __future__ import annotations

from pathlib import Path

from pipeline.data import scenes, surfaces, textures
from pipeline.data.catalogue import Catalogue
from pipeline.data.shapes import Drawing, load_drawn

_DEFECTS = Drawing("defects", surfaces.CLASSES, surfaces.draw_surface, (surfaces, scenes, textures))


def load_defects(
    root: Path | str,
    *,
    random_seed: int = 0,
    train: int = 400,
    val: int = 100,
    size: int = 128,
    name: str = "defects",
) -> Catalogue:
    """Pictures of surfaces as a catalogue with the one class ``defect``, drawn if they are missing.

    A picture without the class is good. Arguments, files and errors are those of ``load_shapes``.
    """
    return load_drawn(_DEFECTS, root, (random_seed, train, val, size), name)
