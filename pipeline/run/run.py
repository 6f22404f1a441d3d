"""One run: settings, data, and the folder of each stage."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pipeline.base.config import CORRECTED, GROUND_TRUTH, PSEUDO, RunConfig
from pipeline.run.context import RunContext
from pipeline.run.folders import StageFolder
from pipeline.run.table import STAGES


class Run(RunContext):
    """A run, which knows the folder of each stage under its settings.

    Args:
        settings: Every setting.
        folder: Where the folders of the stages are.
        output: Where the command's own files go, its report for example; ``folder`` by default.
    """

    def __init__(self, settings: RunConfig, folder: Path, output: Path | None = None) -> None:
        super().__init__(settings, folder, output)
        self._folders: dict[str, StageFolder] = {}

    def stage(self, name: str) -> StageFolder:
        """The folder of a stage under these settings, with everything its result depends on."""
        if name not in self._folders:
            stage = STAGES[name]
            upstream = [self.stage(need) for need in stage.needs(self.settings)]
            choices = stage.choices(self)
            word = stage.word(self.settings)
            self._folders[name] = self.folder_of(
                name, word, stage.module, upstream, choices, trains=stage.trains
            )
        return self._folders[name]

    @property
    def has_twin(self) -> bool:
        """True if the twin is wanted, can be trained, and would be compared with the segmenter."""
        settings, given = self.settings.segmenter, self.settings.evaluate
        own = given.masks is None and given.checkpoint is None
        return settings.twin and settings.labels == PSEUDO and own and self.data.train.has_masks

    @cached_property
    def twin(self) -> Run:
        """The same run with a segmenter that learns from ground truth."""
        segmenter = replace(self.settings.segmenter, labels=GROUND_TRUTH)
        data = {**self.settings.data, CORRECTED: None}
        settings = replace(self.settings, segmenter=segmenter, data=data)
        twin = Run(settings, self.folder, self.output)
        twin.data, twin.terminal, twin._truths = self.data, self.terminal, self._truths
        return twin
