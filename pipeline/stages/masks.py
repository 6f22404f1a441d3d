"""From image labels to pseudo-masks: as far as a sweep over saliency and refinements has to go."""

from __future__ import annotations

from pipeline.stages import classifier, pseudo_labels
from pipeline.stages.context import Run


def run(run: Run) -> None:
    """The classifier and its pseudo-masks; what is done already is skipped."""
    classifier.check_settings(run)
    pseudo_labels.check_settings(run)
    classifier.run(run)
    pseudo_labels.run(run)
