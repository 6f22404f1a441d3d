"""A stage of the pipeline, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.base.config import RunConfig
from pipeline.base.terminal import Value
from pipeline.data.catalogue import Catalogue, Split
from pipeline.run.context import RunContext
from pipeline.stages.job import Job, Summary

if TYPE_CHECKING:
    from pipeline.run.checks import Checks
    from pipeline.run.trials import Trials

Lines = Iterable[tuple[str, Value]]
"""Names and values for the summary at the end of a command."""


@dataclass(frozen=True)
class Outcome:
    """A finished stage, for those who tell about it."""

    settings: RunConfig
    folder: Path
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """How a stage's result is compared with ground truth.

    Attributes:
        split: The images that are scored.
        work: Makes the scores; None where the split has no ground truth.
        module: What that imports is the code of the scores.
    """

    module: ClassVar[str] = "pipeline.stages.scores"

    split: Callable[[RunConfig, Catalogue], Split]
    work: Callable[[Job], dict[str, Any] | None]


@dataclass(frozen=True)
class Stage:
    """One step from image labels to a scored segmenter.

    Attributes:
        name: The word after ``stage=`` and the name of the folder.
        needs: Names of the stages whose results it reads.
        word: A word about its settings, for the name of its folder.
        choices: The settings that its result depends on, as plain values or dataclasses.
        check: Raises before any work if these settings cannot work.
        trains: Whether it trains a network: the number of processes then belongs to its result.
        trial: Tries its network before any work, unless the stage is done, and returns the seconds
            that its networks will take; None for no network.
        work: Makes the result and returns its summary.
        lines: Tells about the result.
        score: None for a stage that is not compared with ground truth.
        afterwards: Done every time the stage is asked for, also if its result was there already.
    """

    name: str
    needs: Callable[[RunConfig], Sequence[str]]
    word: Callable[[RunConfig], str]
    choices: Callable[[RunContext], Mapping[str, Any]]
    check: Callable[[Checks], None]
    work: Callable[[Job], Summary]
    lines: Callable[[Outcome], Lines]
    score: Score | None = None
    afterwards: Callable[[Job], Lines] | None = None
    trial: Callable[[Trials], float] | None = None
    trains: bool = False

    @property
    def module(self) -> str:
        """The module of its work; what that imports is its code."""
        return f"pipeline.stages.{self.name}"
