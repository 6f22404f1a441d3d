"""Stage `saliency`: maps of every image that gets masks, for the classes in its label."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.base.arrays import Floats
from pipeline.base.files import atomic_path
from pipeline.base.ranks import share
from pipeline.data.catalogue import Item
from pipeline.stages.failures import raise_if_any
from pipeline.stages.job import Job, Summary
from pipeline.stages.maps import map_path, masked_split
from pipeline.stages.prediction import predict
from pipeline.stages.trained import load_classifier
from pipeline.tasks.saliency_predictor import SaliencyPredictor


def work(job: Job) -> Summary:
    """Write one file of maps in [0, 1] for each image that gets masks."""
    items = masked_split(job.settings.saliency, job.data).items
    missing = [item for item in share(items) if not map_path(job.folder, item).exists()]

    def write(item: Item, maps: Floats) -> None:
        values = maps.astype(np.float16)
        with atomic_path(map_path(job.folder, item)) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, maps=values, classes=np.asarray(item.labels))

    failures = predict(job, partial(_predictor, job), missing, write)
    raise_if_any(failures, len(items), "saliency")
    return {"images": len(items), "method": job.settings.saliency.method["_target_"]}


def _predictor(job: Job) -> SaliencyPredictor:
    """The task that explains the run's classifier with the configured method."""
    config = job.settings.saliency
    task = load_classifier(job.inputs["classifier"])
    method = job.build({**config.method, "model": task.network}, "saliency.method")
    return SaliencyPredictor.from_config(task.network, method, config, task.colours.normalise)
