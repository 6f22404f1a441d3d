"""Warnings of libraries that say nothing new here."""

from __future__ import annotations

import logging
import warnings

_HARMLESS = (
    # The score comes after training, so that it cannot choose the checkpoint.
    ".*no `val_dataloader`.*",
    # An image that cannot be read has no result; it is noted and reported at the end.
    ".*predict returned None.*",
    # Few batches, few workers: both are choices here.
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*number of training batches.*",
    # Lightning steps the schedules; its own order on resume is right.
    ".*lr_scheduler.step.*before.*optimizer.step.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*available but not used.*",
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",
)


def silence_lightning() -> None:
    """Drop Lightning's harmless warnings and its notes about devices."""
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
