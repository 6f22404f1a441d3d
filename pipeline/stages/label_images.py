"""The three label images of an image: seed, refined mask, training mask."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.catalogue import Item

KINDS = ("seeds", "refined", "masks")


def mask_path(folder: Path, kind: str, item: Item) -> Path:
    """The label image of an image; ``kind`` is one of ``KINDS``."""
    return folder / kind / f"{item.id}.png"


def are_made(folder: Path, item: Item) -> bool:
    """True if all three label images of an image are there."""
    return all(mask_path(folder, kind, item).exists() for kind in KINDS)
