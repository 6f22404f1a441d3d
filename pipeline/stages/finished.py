"""What the stages of a run left, for whoever tells about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.artifacts import StageFolder
from pipeline.stages import (
    classifier,
    evaluate,
    pseudo_labels,
    relabel,
    rounds,
    saliency,
    segmentation,
)
from pipeline.stages.context import Run

TWIN = "supervised twin"

Folders = dict[str, tuple[StageFolder, str]]


@dataclass
class Finished:
    """What the stages of a run left; a stage made with other settings counts as missing."""

    run: Run

    @cached_property
    def folders(self) -> Folders:
        """Stages that belong to the run, in order, with the words of a command that makes each."""
        run, twin = self.run, segmentation.GROUND_TRUTH
        found = {
            "classifier": (classifier.folder(run), "stage=classifier"),
            "saliency": (saliency.folder(run), "stage=pseudo_labels"),
            "pseudo_labels": (pseudo_labels.folder(run), "stage=pseudo_labels"),
        }
        for round_ in self.earlier_rounds:
            found |= self._of_round(round_)
        found["segmentation"] = (segmentation.folder(run), "stage=segmentation")
        found["evaluate"] = (evaluate.folder(run), "stage=evaluate")
        if segmentation.has_twin(run):
            words = f"segmenter.labels={twin}"
            made, scored = segmentation.folder(run, twin), evaluate.folder(run, twin)
            found["segmentation_twin"] = (made, f"stage=segmentation {words}")
            found["evaluate_twin"] = (scored, f"stage=evaluate {words}")
        return found

    def _of_round(self, round_: int) -> Folders:
        """The network of a round, its scores, and the masks that it made for the next."""
        run, words = self.run, f"segmenter.rounds={round_}"
        made, after = segmentation.folder(run, round_=round_), f"segmenter.rounds={round_ + 1}"
        found = {f"segmentation_{round_}": (made, f"stage=segmentation {words}")}
        if evaluate.scores_own_network(run):
            scored = evaluate.folder(run, round_=round_)
            found[f"evaluate_{round_}"] = (scored, f"stage=evaluate {words}")
        again = relabel.folder(run, round_ + 1)
        return found | {f"relabel_{round_ + 1}": (again, f"stage=relabel {after}")}

    @property
    def earlier_rounds(self) -> list[int]:
        """Rounds before the last one, from 1."""
        return list(rounds.all_of(self.run))[:-1]

    @cached_property
    def done(self) -> dict[str, StageFolder]:
        """The stages that are done with exactly the settings of this run."""
        return {name: folder for name, (folder, _) in self.folders.items() if folder.is_done}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, without background."""
        return self.run.catalogue.classes

    def summary(self, name: str) -> dict[str, Any]:
        """What came out of a stage; empty if it is not done."""
        return self.done[name].summary if name in self.done else {}

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """Scores of everything that predicted the split, by title."""
        titles = {f"evaluate_{number}": self.round_title(number) for number in self.earlier_rounds}
        titles |= {"evaluate": self.network_title, "evaluate_twin": TWIN}
        scores = {title: self.summary(name).get("scores") for name, title in titles.items()}
        return {title: values for title, values in scores.items() if values}

    @staticmethod
    def round_title(number: int) -> str:
        """Of the network of an earlier round."""
        return f"network of round {number}"

    @property
    def network_title(self) -> str:
        """Of what the run ends in."""
        config = self.run.config
        if config.evaluate.masks is not None:
            return "given masks"
        if config.evaluate.checkpoint is not None:
            return "given network"
        if config.segmenter.labels != segmentation.PSEUDO:
            return TWIN
        return self.round_title(config.segmenter.rounds) if self.earlier_rounds else "network"
