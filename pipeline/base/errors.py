"""Errors that a person can act on: they state the cause and the remedy."""

from __future__ import annotations

from collections.abc import Sequence

# What torch says, on a CPU and on a GPU.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


class PipelineError(Exception):
    """Base of every error that the pipeline raises on purpose."""


class ConfigError(PipelineError):
    """A configuration value is invalid."""


class DataError(PipelineError):
    """Images, labels or masks cannot be used."""


class DamagedFileError(DataError):
    """A file that the pipeline wrote is damaged; it was put aside, so that it is made anew."""


class MissingArtifactError(PipelineError):
    """A stage needs the result of an earlier stage that has not run."""


class StageIncompleteError(PipelineError):
    """Some images of a stage failed; the results of the others are kept."""


class StorageError(PipelineError):
    """A file could not be written, most often because the disk is full."""


class LostProcessError(PipelineError):
    """Another process of the run has ended before its work was done."""


def failure_of_image(error: Exception) -> str | None:
    """Why one image cannot be used; None for an error that concerns more than that image.

    Example:
        >>> failure_of_image(DataError("a.jpg: unreadable"))
        'a.jpg: unreadable'
        >>> failure_of_image(StorageError("the disk is full")) is None
        True
    """
    if isinstance(error, StorageError | ConfigError | LostProcessError):
        return None
    if isinstance(error, PipelineError | ValueError):
        return str(error)
    if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
        return (
            "not enough memory for this image. Make it smaller, lower the sizes and scales of the "
            "stage, or take it off the list."
        )
    return None


def reason(error: Exception) -> str:
    """What an error of a library says, as a sentence; its kind if it says nothing.

    Example:
        >>> reason(AssertionError()), reason(ValueError("height (100) must be even"))
        ('AssertionError, without a word.', 'height (100) must be even.')
    """
    words = str(error).strip().rstrip(".")
    return f"{words or f'{type(error).__name__}, without a word'}."


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
