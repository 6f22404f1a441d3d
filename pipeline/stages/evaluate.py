"""Stage `evaluate`: a segmenter's predictions on a split."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import Floats, LabelImage
from pipeline.base.files import write_bytes
from pipeline.base.ranks import gathered, share
from pipeline.data.catalogue import Item, Split
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.data.pixels import read_pixels
from pipeline.masks.refine import Refinement
from pipeline.masks.seed import label_image
from pipeline.stages.agreement import added, agreement
from pipeline.stages.corrected import evaluated_corrected
from pipeline.stages.failures import raise_if_any
from pipeline.stages.job import Job, Summary
from pipeline.stages.own_files import read_own
from pipeline.stages.prediction import predict
from pipeline.stages.predictions import evaluated_split, prediction_path
from pipeline.stages.refinement import refinement
from pipeline.stages.trained import given_segmenter, load_classifier, load_segmenter
from pipeline.tasks.predictor import ClassifierPrior, LabelledPredictor, Predictor
from pipeline.tasks.segmenter import SegmenterTask


def work(job: Job) -> Summary:
    """Write a label image for each image of the split; given masks are left where they are."""
    config, split = job.settings.evaluate, evaluated_split(job.settings.evaluate, job.data)
    if config.masks is None:
        _predict(job, split)
    learned = len(evaluated_corrected(config, job))
    facts: Summary = {"images": len(split.items), "corrected_masks": learned}
    if config.label_oracle:  # which lets no prediction differ from the names
        return facts
    own = agreement(share(split.items), job.data.classes, lambda item: _predicted(job, item))
    return {**facts, "agreement": added(gathered(own))}


def _predicted(job: Job, item: Item) -> LabelImage:
    """The label image that was predicted, or given, for an image."""
    config = job.settings.evaluate
    path = prediction_path(config, job.folder, item)
    return read_label_image(path) if config.masks is not None else read_own(path, read_label_image)


def _predict(job: Job, split: Split) -> None:
    config, every_class = job.settings.evaluate, range(len(job.data.classes))
    refine = refinement(job) if config.refine else None

    def path(item: Item) -> Path:
        return prediction_path(config, job.folder, item)

    def write(item: Item, probabilities: Floats) -> None:
        classes = item.labels if config.label_oracle else every_class
        labels = _label_image(item, probabilities, classes, refine)
        write_bytes(path(item), encode_label_image(labels))

    missing = [item for item in share(split.items) if not path(item).exists()]
    failures = predict(job, partial(_predictor, job), missing, write)
    raise_if_any(failures, len(split.items), "evaluate")


def _label_image(
    item: Item,
    probabilities: Floats,
    classes: Sequence[int],
    refine: Refinement | None,
) -> NDArray[np.uint8]:
    """Probabilities of background and ``classes`` as a label image."""
    if refine is not None:
        probabilities = refine(read_pixels(item), [probabilities])[0]
    return label_image(probabilities, classes)


def _predictor(job: Job) -> Predictor:
    config, prior = job.settings.evaluate, None
    if config.classifier_prior:
        prior = ClassifierPrior(load_classifier(job.inputs["classifier"]))
    kind = LabelledPredictor if config.label_oracle else Predictor
    return kind(_network(job), config.scales, flip=config.flip, prior=prior)


def _network(job: Job) -> SegmenterTask:
    given = job.settings.evaluate.checkpoint
    if given is not None:
        return given_segmenter(given, "evaluate.checkpoint", job.data)
    return load_segmenter(job.inputs["segmentation"])
