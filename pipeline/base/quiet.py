"""Filters for warnings of libraries that do not apply here."""

from __future__ import annotations

import logging
import warnings

_HARMLESS = (
    # Scores are computed after training, so that they cannot choose the checkpoint.
    ".*no `val_dataloader`.*",
    # An unreadable image has no result; it is reported at the end of the stage.
    ".*predict returned None.*",
    # The check of the data names classes without images.
    ".*No positive samples found in target.*",
    # Few batches and few workers are deliberate.
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*number of training batches.*",
    # Lightning steps the schedules; its order on resume is correct.
    ".*lr_scheduler.step.*before.*optimizer.step.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*available but not used.*",
    # The average precisions have gathered what all processes found before they are logged.
    ".*recommended to use .self.log.*sync_dist=True.*",
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",
)


def silence_lightning() -> None:
    """Drop Lightning's harmless warnings and its notes about devices."""
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
