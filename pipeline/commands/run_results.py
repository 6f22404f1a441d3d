"""Results of the stages of one run, for its report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.base.config import GROUND_TRUTH
from pipeline.formats.corrected import plus_masks
from pipeline.run.executor import Step
from pipeline.run.folders import StageFolder
from pipeline.run.run import Run
from pipeline.run.table import STAGES, in_order
from pipeline.stages.own_files import CHECKPOINT

TWIN = "supervised twin"

_SHOWN = ("pseudo_labels", "segmentation", "evaluate")


@dataclass
class RunResults:
    """Results of the stages of a run; a stage made with other settings counts as missing."""

    run: Run

    @cached_property
    def steps(self) -> dict[str, Step]:
        """Stages that belong to the run, in order, the twin's last."""
        shown = (*_SHOWN, "relabel") if self.run.stage("relabel").is_done else _SHOWN
        steps = {s.name: Step(self.run, s) for s in in_order(shown, self.run.settings)}
        if self.run.has_twin:
            for name in ("segmentation", "evaluate"):
                steps[f"{name}_twin"] = Step(self.run.twin, STAGES[name])
        return steps

    @cached_property
    def done(self) -> dict[str, StageFolder]:
        """The stages that are done with exactly the settings of this run."""
        return {name: step.folder for name, step in self.steps.items() if step.folder.is_done}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, without background."""
        return self.run.data.classes

    def summary(self, name: str) -> dict[str, Any]:
        """Summary of a stage; empty if it is not done."""
        return self.done[name].summary if name in self.done else {}

    @property
    def segmenters(self) -> dict[str, dict[str, Any]]:
        """Scores of everything that predicted the split, by title."""
        titles = {"evaluate": self.segmenter_title, "evaluate_twin": TWIN}
        scores = {title: self.summary(name).get("scores") for name, title in titles.items()}
        return {title: values for title, values in scores.items() if values}

    @property
    def learned_corrected(self) -> tuple[str, ...]:
        """The images whose corrected masks the run's segmenter learned from."""
        if not self.summary("segmentation").get("corrected_masks"):
            return ()
        from pipeline.tasks.segmenter import corrected_in  # and Lightning: seconds

        return corrected_in(self.done["segmentation"].path / CHECKPOINT)

    @property
    def segmenter_title(self) -> str:
        """Title of the evaluated predictions."""
        settings = self.run.settings
        if settings.evaluate.masks is not None:
            return "given masks"
        plus = plus_masks(self.summary("evaluate").get("corrected_masks", 0))
        if settings.evaluate.checkpoint is not None:
            return f"given segmenter{plus}"
        return f"segmenter{plus}" if settings.segmenter.labels != GROUND_TRUTH else TWIN
