"""The work of the stages, imported when it is done: each brings libraries that take seconds."""

from __future__ import annotations

from typing import Any

from pipeline.stages.job import Job, Summary


def classifier(job: Job) -> Summary:
    """See :func:`pipeline.stages.classifier.work`."""
    from pipeline.stages.classifier import work

    return work(job)


def saliency(job: Job) -> Summary:
    """See :func:`pipeline.stages.saliency.work`."""
    from pipeline.stages.saliency import work

    return work(job)


def pseudo_labels(job: Job) -> Summary:
    """See :func:`pipeline.stages.pseudo_labels.work`."""
    from pipeline.stages.pseudo_labels import work

    return work(job)


def segmentation(job: Job) -> Summary:
    """See :func:`pipeline.stages.segmentation.work`."""
    from pipeline.stages.segmentation import work

    return work(job)


def relabel(job: Job) -> Summary:
    """See :func:`pipeline.stages.relabel.work`."""
    from pipeline.stages.relabel import work

    return work(job)


def evaluate(job: Job) -> Summary:
    """See :func:`pipeline.stages.evaluate.work`."""
    from pipeline.stages.evaluate import work

    return work(job)


def score_pseudo_masks(job: Job) -> dict[str, Any] | None:
    """See :func:`pipeline.stages.scores.score_pseudo_masks`."""
    from pipeline.stages.scores import score_pseudo_masks as score

    return score(job)


def score_relabelled(job: Job) -> dict[str, Any] | None:
    """See :func:`pipeline.stages.scores.score_relabelled`."""
    from pipeline.stages.scores import score_relabelled as score

    return score(job)


def score_predictions(job: Job) -> dict[str, Any] | None:
    """See :func:`pipeline.stages.scores.score_predictions`."""
    from pipeline.stages.scores import score_predictions as score

    return score(job)
