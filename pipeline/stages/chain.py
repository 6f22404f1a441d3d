"""The whole way, from image labels to a report."""

from __future__ import annotations

from pipeline.stages import (
    classifier,
    evaluate,
    pseudo_labels,
    relabel,
    report,
    rounds,
    segmentation,
)
from pipeline.stages.context import Run


def run(run: Run) -> None:
    """Every stage in order; what is done already is skipped."""
    for module in (classifier, pseudo_labels, segmentation, relabel, evaluate):
        module.check_settings(run)
    classifier.run(run)
    pseudo_labels.run(run)
    for round_ in rounds.all_of(run):
        if round_ > 1:
            relabel.run(run, round_)
        segmentation.run(run, round_=round_)
        if evaluate.scores_own_network(run) or round_ == rounds.all_of(run)[-1]:
            evaluate.run(run, round_=round_)
    if segmentation.has_twin(run):
        segmentation.run(run, segmentation.GROUND_TRUTH)
        evaluate.run(run, segmentation.GROUND_TRUTH)
    report.run(run)
