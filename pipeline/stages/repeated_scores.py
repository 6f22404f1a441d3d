"""Scores of a method that need more maps than that of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.data.catalogue import Item
from pipeline.networks.pixels import resize
from pipeline.stages.map_scores import Record
from pipeline.tasks.saliency_predictor import SaliencyMethod
from tsgb.metrics import complexity_rise, grid_pointing_game, max_sensitivity, mosaic

SIDE = 2  # images on a side of a mosaic


@dataclass(frozen=True)
class RepeatedMaps:
    """Stability, randomisation and mosaics of one method.

    Attributes:
        method: Explains the network.
        untrained: Explains the same network with random weights; None if it cannot be randomised.
        samples: Changed images of max-sensitivity; 0 for none.
    """

    method: SaliencyMethod
    untrained: SaliencyMethod | None
    samples: int

    def scores(self, pixels: Tensor, maps: Tensor, targets: Tensor) -> list[Record]:
        """Scores of each map [K, h, w] for its target [K], on one image [1, C, H, W]."""
        found = {}
        if self.samples:
            changes = max_sensitivity(
                self.method.attribute, pixels, targets[None], samples=self.samples
            )
            found["max_sensitivity"] = changes[0]
        if self.untrained is not None:
            random = self.untrained.attribute(pixels, targets[None])[0].float()
            found["complexity_rise"] = complexity_rise(maps, random)
        return [
            {name: float(values[k]) for name, values in found.items()} for k in range(len(maps))
        ]

    def in_mosaic(self, images: Sequence[Tensor], targets: Tensor, cell: int) -> list[Record]:
        """The grid pointing game of targets [K] that only the image of one cell shows.

        Args:
            images: ``SIDE**2`` images of one size, [1, C, H, W].
            targets: Classes to explain.
            cell: Place of the image that shows them.
        """
        pixels = mosaic(torch.cat(list(images)))
        maps = self.method.attribute(pixels, targets[None]).float()
        large = resize(maps, (pixels.shape[2], pixels.shape[3]))[0]
        shares = grid_pointing_game(large, torch.full((len(targets),), cell), SIDE)
        return [{"grid_pointing_game": share} for share in shares.tolist()]


def mosaic_of(items: Sequence[Item], place: int) -> tuple[list[Item], int]:
    """An item among the next ones that share no class with it or each other, and its cell.

    The list starts again at its end; the cell changes from item to item. Too few such items give
    an empty list.

    Example:
        >>> from pathlib import Path
        >>> items = [Item(name, Path(), (k,)) for k, name in enumerate("abcd")]
        >>> found, cell = mosaic_of(items, 1)
        >>> [item.id for item in found], cell
        (['c', 'b', 'd', 'a'], 1)
    """
    seen = set(items[place].labels)
    others: list[Item] = []
    for other in [*items[place + 1 :], *items[:place]]:
        if other.labels and seen.isdisjoint(other.labels) and len(others) < SIDE**2 - 1:
            others.append(other)
            seen |= set(other.labels)
    cell = place % SIDE**2
    whole = [*others[:cell], items[place], *others[cell:]]
    return (whole if len(whole) == SIDE**2 else []), cell
