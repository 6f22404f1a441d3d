"""The whole way, from image labels to a report."""

from __future__ import annotations

from pipeline.stages import classifier, evaluate, pseudo_labels, report, segmentation
from pipeline.stages.context import Run


def run(run: Run) -> None:
    """Every stage in order; what is done already is skipped."""
    for module in (classifier, pseudo_labels, segmentation, evaluate):
        module.check_settings(run)
    classifier.run(run)
    pseudo_labels.run(run)
    segmentation.run(run)
    evaluate.run(run)
    if segmentation.has_twin(run):
        segmentation.run(run, segmentation.GROUND_TRUTH)
        evaluate.run(run, segmentation.GROUND_TRUTH)
    report.run(run)
