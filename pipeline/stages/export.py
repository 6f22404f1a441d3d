"""Predictions in the layout of the VOC evaluation server."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.base.files import write_bytes
from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.stages.job import Job
from pipeline.stages.predictions import evaluated_split, prediction_path

_LAYOUT = Path("results/VOC2012/Segmentation/comp6_test_cls")


def export_for_server(job: Job) -> list[tuple[str, str]]:
    """Write the layout where ``evaluate.export`` asks for it; say where it is."""
    config = job.settings.evaluate
    if not config.export:
        return []
    target = job.folder / _LAYOUT
    void = 0
    for item in evaluated_split(config, job.data).items:
        labels = read_label_image(prediction_path(config, job.folder, item))
        void += bool((labels == VOID).any())
        known = np.where(labels == VOID, BACKGROUND, labels)  # the server knows classes only
        write_bytes(target / f"{item.id}.png", encode_label_image(known))
    lines = [("for the VOC server", str(target))]
    if void:
        lines.append(("void written as background", f"in {void} images, for the VOC server"))
    return lines
