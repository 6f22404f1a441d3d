"""Scores of label images against ground truth. Nothing that a run makes depends on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.base.arrays import LabelImage
from pipeline.base.config import EvaluateConfig
from pipeline.base.errors import DataError
from pipeline.base.ranks import share
from pipeline.data.catalogue import Item, Split
from pipeline.data.palette import read_label_image
from pipeline.data.truth import ground_truth
from pipeline.scoring import LABEL_ORACLE, ConfusionMatrix, ThresholdSweep
from pipeline.stages.corrected import evaluated_corrected, learned_corrected, without
from pipeline.stages.failures import Failures, raise_if_any
from pipeline.stages.job import Job
from pipeline.stages.label_images import KINDS, mask_path
from pipeline.stages.maps import scored_split
from pipeline.stages.own_files import read_own
from pipeline.stages.predictions import evaluated_split, prediction_path
from pipeline.stages.seed_maps import seed_maps

Scores = dict[str, Any]


def score_pseudo_masks(job: Job) -> Scores | None:
    """All three kinds of label images, and the seed at its best threshold, which is an oracle."""
    split = scored_split(job.settings.saliency, job.data)
    if not split.has_masks:
        return None
    sweep, maps = ThresholdSweep(len(job.data.classes) + 1), seed_maps(job)
    scores = _score_kinds(job, split, lambda i, truth: sweep.update(maps.read(i), i.labels, truth))
    sweep.gather()
    return {**scores, "oracle": sweep.as_dict(job.data.classes)}


def score_relabelled(job: Job) -> Scores | None:
    """All three kinds of label images that a segmenter made."""
    if not job.data.scored.has_masks:
        return None
    learned = learned_corrected(job)
    scores = _score_kinds(job, without(job.data.scored, learned), lambda _item, _truth: None)
    return {**scores, "corrected_masks": len(learned)}


def score_predictions(job: Job) -> Scores | None:
    """Predictions of a segmenter, or given masks."""
    config = job.settings.evaluate
    if not evaluated_split(config, job.data).has_masks:
        return None
    learned = evaluated_corrected(config, job)
    split = without(evaluated_split(config, job.data), learned)
    matrix = ConfusionMatrix(len(job.data.classes) + 1)

    def update(item: Item, truth: LabelImage) -> None:
        path = prediction_path(config, job.folder, item)
        add = partial(_add, matrix, truth)
        _ = read_own(path, add) if config.masks is None else add(path)

    _go_through(job, split, update)
    matrix.gather()
    scores = matrix.as_dict(job.data.classes)
    about = {**_about(split), "protocol": protocol(config, split)}
    return {**scores, **about, "corrected_masks": len(learned)}


def _score_kinds(job: Job, split: Split, more: Callable[[Item, LabelImage], None]) -> Scores:
    """Scores of seeds, refined and training masks; ``more`` sees each image and its truth."""
    classes = len(job.data.classes) + 1
    matrices = {kind: ConfusionMatrix(classes) for kind in KINDS}
    matrices["masks"] = ConfusionMatrix(classes, void="excluded")

    def update(item: Item, truth: LabelImage) -> None:
        for kind, matrix in matrices.items():
            read_own(mask_path(job.folder, kind, item), partial(_add, matrix, truth))
        more(item, truth)

    _go_through(job, split, update)
    for matrix in matrices.values():
        matrix.gather()
    scores = {kind: matrix.as_dict(job.data.classes) for kind, matrix in matrices.items()}
    return {**scores, **_about(split)}


def _add(matrix: ConfusionMatrix, truth: LabelImage, path: Path) -> None:
    matrix.update(read_label_image(path), truth)


def _go_through(job: Job, split: Split, update: Callable[[Item, LabelImage], None]) -> None:
    """Call ``update`` with each image of this process's share and its ground truth.

    Raises:
        StageIncompleteError: Some images could not be scored; named after all were tried.
    """
    failures: Failures = {}
    items = share(split.items)
    with job.terminal.progress("scoring", len(items)) as step:
        for count, item in enumerate(items, start=1):
            try:
                update(item, ground_truth(item))
            except DataError as error:
                failures[item.id] = str(error)
            step(count, len(items))
    raise_if_any(failures, len(split.items), "scoring")


def _about(split: Split) -> Scores:
    return {"split": split.name, "images": len(split.items)}


def protocol(config: EvaluateConfig, split: Split) -> str:
    """In one line, how predictions were made and scored.

    Example:
        >>> protocol(EvaluateConfig(flip=True), Split("val", ()))
        'val, scale 1, flip, not refined'
        >>> protocol(EvaluateConfig(refine=True), Split("val", ()))
        'val, scale 1, no flip, refined'
    """
    if config.masks is not None:
        return f"{split.name}, given masks"
    scales = "scale" if len(config.scales) == 1 else "scales"
    values = " ".join(f"{scale:g}" for scale in config.scales)
    flip = "flip" if config.flip else "no flip"
    refined = "refined" if config.refine else "not refined"  # by the run's own refinement
    prior = ", classifier prior" if config.classifier_prior else ""
    oracle = f", {LABEL_ORACLE}" if config.label_oracle else ""
    return f"{split.name}, {scales} {values}, {flip}, {refined}{prior}{oracle}"
