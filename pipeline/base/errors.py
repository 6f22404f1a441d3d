"""Errors that a person can act on: what is wrong, what would have happened, what to do."""

from __future__ import annotations

from collections.abc import Sequence


class PipelineError(Exception):
    """Base of every error that the pipeline raises on purpose."""


class ConfigError(PipelineError):
    """A configuration value that cannot work."""


class DataError(PipelineError):
    """Images, labels or masks that cannot be used."""


class MissingArtifactError(PipelineError):
    """A stage needs what an earlier stage has not made yet."""


class StageIncompleteError(PipelineError):
    """A stage did all it could, but some images failed; the rest is kept."""


class StorageError(PipelineError):
    """A file could not be written, most often because the disk is full."""


def at_most(problems: Sequence[str], limit: int = 20) -> str:
    """Problems as an indented list, cut after ``limit`` with a count of the rest.

    Example:
        >>> print(at_most(["a.jpg: unreadable", "b.jpg: unreadable"], limit=1))
          - a.jpg: unreadable
          ... and 1 more
    """
    lines = [f"  - {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more")
    return "\n".join(lines)
