"""Predicted label images as files, and which images are predicted."""

from __future__ import annotations

from pathlib import Path

from pipeline.base.config import EvaluateConfig, ScoredSplit
from pipeline.data.catalogue import Catalogue, Item, Split


def evaluated_split(config: EvaluateConfig, data: Catalogue) -> Split:
    """The split that ``evaluate.split`` names."""
    return named_split(config.split, data)


def named_split(name: ScoredSplit, data: Catalogue) -> Split:
    """The split of a name."""
    return {
        ScoredSplit.train: data.train,
        ScoredSplit.scored: data.scored,
        ScoredSplit.val: data.val,
    }[name]


def predictions_folder(config: EvaluateConfig, folder: Path) -> Path:
    """Where the label images are: given ones, or those in the folder of stage `evaluate`."""
    return folder / "predictions" if config.masks is None else Path(config.masks).expanduser()


def prediction_path(config: EvaluateConfig, folder: Path, item: Item) -> Path:
    """The label image predicted for an image."""
    return predictions_folder(config, folder) / f"{item.id}.png"
