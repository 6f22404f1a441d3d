"""Scores of raw saliency maps of one image, and their means over many. Tensors in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.networks.pixels import resize
from tsgb.metrics import (
    deletion,
    energy_pointing_game,
    insertion,
    iou_at_threshold,
    pointing_game,
)

METRICS = (
    "pointing_game", "energy_pointing_game", "iou", "grid_pointing_game", "insertion", "deletion",
    "max_sensitivity", "complexity_rise",
)  # fmt: skip
THRESHOLDS = (
    0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65,
    0.7, 0.75, 0.8,
)  # fmt: skip
"""Shares of a map's maximum among which the oracle chooses."""

Record = dict[str, Any]


class Centre:
    """No method at all: the same round spot in the middle of every image, as a yardstick.

    Photographers centre what they show, so this scores well above zero.
    """

    def __init__(self, model: nn.Module) -> None:
        del model

    def attribute(self, images: Tensor, targets: Tensor) -> Tensor:
        """Maps [B, K, H, W], a Gaussian with a standard deviation of a quarter of each side."""
        rows, columns = (torch.linspace(-2, 2, side).square() for side in images.shape[-2:])
        spot = (-(rows[:, None] + columns) / 2).exp().to(images.device)
        return spot.expand(*targets.shape, *spot.shape).clone()


def localisation(maps: Tensor, masks: Tensor, void: Tensor, threshold: float) -> list[Record]:
    """Pointing game, energy pointing game and IoU of each map, at the size of the masks.

    Void pixels are neither object nor saliency. In the pointing game alone a point on them counts
    as it does anywhere: a hit if the object is less than 15 px away.

    Args:
        maps: Raw, [K, h, w]; stretched bilinearly.
        masks: True on the object, [K, H, W].
        void: True on void pixels of the ground truth, [H, W].
        threshold: Share of the maximum from which a map is foreground.

    Returns:
        For each map its scores; ``ious`` are those at ``THRESHOLDS``.
    """
    large = resize(maps[None], (masks.shape[1], masks.shape[2]))[0]
    known = large.masked_fill(void, 0.0)
    hits = pointing_game(large, masks)
    energy = energy_pointing_game(known, masks)
    overlap = iou_at_threshold(known, masks, threshold)
    overlaps = torch.stack([iou_at_threshold(known, masks, level) for level in THRESHOLDS], 1)
    return [
        {
            "pointing_game": float(hits[k]),
            "energy_pointing_game": float(energy[k]),
            "iou": float(overlap[k]),
            "ious": [round(value, 6) for value in overlaps[k].tolist()],
        }
        for k in range(len(maps))
    ]


@dataclass(frozen=True)
class Faithfulness:
    """Areas under the deletion and insertion curves of a network.

    Attributes:
        network: Gives logits.
        probability: Makes probabilities of logits.
        steps: Parts in which pixels are deleted or inserted.
        batch_size: Changed images in one forward pass.
    """

    network: nn.Module
    probability: Callable[[Tensor], Tensor]
    steps: int
    batch_size: int = 4

    def scores(self, pixels: Tensor, maps: Tensor, targets: Tensor) -> list[Record]:
        """Scores of each map [K, h, w] for its target [K], on one image [1, C, H, W]."""
        size = (pixels.shape[2], pixels.shape[3])
        images = pixels.expand(len(maps), *pixels.shape[1:])
        options: dict[str, Any] = {
            "steps": self.steps,
            "probability": self.probability,
            "batch_size": self.batch_size,
        }
        large = resize(maps[None], size)[0]
        down = deletion(self.network, images, large, targets, **options).auc()
        up = insertion(self.network, images, large, targets, **options).auc()
        pairs = zip(down.tolist(), up.tolist(), strict=True)
        return [{"deletion": low, "insertion": high} for low, high in pairs]


def summarise(images: Sequence[Record], thresholds: Sequence[float] = THRESHOLDS) -> Record:
    """Means over all pairs of an image and a class, and for each class.

    Args:
        images: For each its ``pairs`` (a class and its scores), ``seconds``, ``forward_seconds``,
            ``bytes`` and ``forward_bytes``; the last two are None where they were not measured.
        thresholds: Thresholds that ``ious`` were measured at.

    Returns:
        ``scores`` by metric (``mean``, ``error`` = standard error, ``pairs``, ``classes``), the
        ``oracle`` (one threshold for all pairs, the best of them), medians of the seconds and of
        their ratio ``forwards``, and the largest bytes. What was not measured is None or left out.
    """
    pairs = [pair for image in images for pair in image["pairs"]]
    ratios = [i["seconds"] / i["forward_seconds"] for i in images if i.get("forward_seconds")]
    scores = {name: _means(pairs, name) for name in METRICS}
    return {
        "images": sum(bool(image["pairs"]) for image in images),
        "pairs": len(pairs),
        "scores": {name: value for name, value in scores.items() if value is not None},
        "oracle": _oracle([pair["ious"] for pair in pairs if "ious" in pair], thresholds),
        "seconds": _of(median, images, "seconds"),
        "forward_seconds": _of(median, images, "forward_seconds"),
        "forwards": median(ratios) if ratios else None,
        "bytes": _of(max, images, "bytes"),
        "forward_bytes": _of(max, images, "forward_bytes"),
    }


def _means(pairs: Iterable[Mapping[str, Any]], name: str) -> Record | None:
    by_class: dict[str, list[float]] = {}
    for pair in pairs:
        if name in pair:
            by_class.setdefault(pair["class"], []).append(pair[name])
    values = [value for group in by_class.values() for value in group]
    if not values:
        return None
    classes = {label: fmean(group) for label, group in sorted(by_class.items())}
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return {
        "mean": fmean(values),
        "error": error,
        "pairs": len(values),
        "class_mean": fmean(classes.values()),
        "classes": classes,
    }


def _oracle(ious: Sequence[Sequence[float]], thresholds: Sequence[float]) -> Record | None:
    if not ious:
        return None
    means = [fmean(column) for column in zip(*ious, strict=True)]
    best = max(range(len(means)), key=means.__getitem__)
    return {"threshold": thresholds[best], "iou": means[best]}


def _of(
    reduce: Callable[[list[float]], float], images: Iterable[Record], name: str
) -> float | None:
    values = [image[name] for image in images if image.get(name) is not None]
    return reduce(values) if values else None
