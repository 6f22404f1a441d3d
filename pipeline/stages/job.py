"""What the work of a stage is given: settings, data, folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig
from pipeline.base.terminal import Terminal
from pipeline.data.catalogue import Catalogue

Summary = dict[str, Any]
"""What came out of a stage, as plain values for its manifest."""


@dataclass(frozen=True)
class Job:
    """One stage of one run.

    Attributes:
        settings: Every setting of the run.
        data: Images, image labels and, for scores, ground truth.
        folder: Where the results go.
        inputs: Folders of the stages that this one reads, by name.
        terminal: Shows progress.
        build: The object that settings with a ``_target_`` describe; the second argument names
            the setting in messages.
    """

    settings: RunConfig
    data: Catalogue
    folder: Path
    inputs: Mapping[str, Path]
    terminal: Terminal
    build: Callable[[Mapping[str, Any], str], Any]

    @property
    def name(self) -> str:
        """The name of the stage, as people read it."""
        return self.folder.parent.name.replace("_", " ")
