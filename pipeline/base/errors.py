"""Errors that a person can act on: they state the cause and the remedy."""

from __future__ import annotations

from collections.abc import Sequence


class PipelineError(Exception):
    """Base of every error that the pipeline raises on purpose."""


class ConfigError(PipelineError):
    """A configuration value is invalid."""


class DataError(PipelineError):
    """Images, labels or masks cannot be used."""


class MissingArtifactError(PipelineError):
    """A stage needs the result of an earlier stage that has not run."""


class StageIncompleteError(PipelineError):
    """Some images of a stage failed; the results of the others are kept."""


class StorageError(PipelineError):
    """A file could not be written, most often because the disk is full."""


def at_most(problems: Sequence[str], limit: int = 20) -> str:
    """An indented list of the first ``limit`` problems and a count of the rest.

    Example:
        >>> print(at_most(["a.jpg: unreadable", "b.jpg: unreadable"], limit=1))
          - a.jpg: unreadable
          ... and 1 more
    """
    lines = [f"  - {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more")
    return "\n".join(lines)
