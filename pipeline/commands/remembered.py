"""The settings of a run, kept in its folder, so that later commands need the folder alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.base.errors import ConfigError
from pipeline.base.files import write_bytes
from pipeline.commands.words import Word, quoted, read_word
from pipeline.run.shipped import TARGET, shipped_targets

SETTINGS = "settings.txt"
_TITLE = """\
# The settings of this run, one per line. Commands with run_dir=THIS_FOLDER start from these and
# change only what they are given. Edit the file to change them for good.
"""
# Settings of a single command, which the run does not keep.
_PASSING = ("stage", "run_dir", "predict", "explain", "compare", "benchmark", "launcher", "hydra")
_LOSSES = "pipeline.tasks.losses."
_REFERENCE = re.compile(r"\$\{[\w.]+\}")  # to another setting; resolvers can do anything


@dataclass(frozen=True)
class Remembered:
    """Settings that were read from the folder of a run.

    Attributes:
        path: The file that they come from.
        words: One for each setting.
    """

    path: Path
    words: tuple[Word, ...]

    @classmethod
    def of(cls, given: Sequence[Word]) -> Remembered | None:
        """The settings of the run that these words name; None if they name none, or a new one.

        Raises:
            ConfigError: The file cannot be read.
        """
        folders = [word.parsed.value() for word in given if word.key == "run_dir"]
        path = Path(str(folders[-1])) / SETTINGS if folders else None
        if path is None or not path.is_file():
            return None
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not UTF-8 ({error}). Restore or remove it.") from error
        return cls(path, tuple(read_word(line) for line in lines if line and line[0] != "#"))

    def without(self, given: Sequence[Word]) -> list[Word]:
        """Those that the given words leave standing: a group chosen anew drops its own settings.

        Raises:
            ConfigError: One of them could run code. The folder may come from somebody else.
        """
        keys = {word.key for word in given}
        left = [word for word in self.words if not {word.key, word.key.partition(".")[0]} & keys]
        for word in left:
            if not _is_harmless(word):
                raise ConfigError(
                    f"{self.path}: {word}: a run's folder may not choose code outside of this "
                    "project, nor what no run keeps, since it can come from anybody. If you "
                    "trust it, give this setting in the command; else remove the line."
                )
        return left


def _is_harmless(word: Word) -> bool:
    """Whether a setting chooses among what this project ships, and names no other code."""
    text = word.value or ""
    if not re.fullmatch(r"[\w.]+", word.key) or word.key.partition(".")[0] in _PASSING:
        return False
    if "." not in word.key and not re.fullmatch(r"\w*", text.strip("\"'")):
        return False  # a group as a list or a dictionary could load any file
    if "${" in _REFERENCE.sub("", text):
        return False
    found = TARGET.findall(str(word))
    return all(name in shipped_targets() or name.startswith(_LOSSES) for name in found)


def lasting(words: Iterable[Word]) -> list[str]:
    """The words that a run keeps, with absolute paths; those of a sweep are not kept.

    Example:
        >>> lasting([Word("", "stage", "all"), Word("", "segmenter.epochs", "3")])
        ['segmenter.epochs=3']
    """
    kept = [word for word in words if word.key.partition(".")[0] not in _PASSING]
    kept = [word for word in kept if word.choices == [word]]
    return [str(replace(_absolute(word), plus=word.plus.strip("+"))) for word in kept]


def _absolute(word: Word) -> Word:
    """The word with an absolute path, if its value is the relative path of what exists."""
    value = word.parsed.value()
    if "." not in word.key or not isinstance(value, str) or not value:
        return word
    path = Path(value)
    looks_like_one = len(path.parts) > 1 or bool(path.suffix) or word.key.startswith("data.")
    if not looks_like_one or path.is_absolute() or not path.exists():
        return word
    return read_word(str(quoted(Word(word.plus, word.key, str(path.absolute())))))


def remember(folder: Path, words: Sequence[str]) -> None:
    """Write the settings of a new run; those of an old one stay as they are."""
    path = folder / SETTINGS
    if not path.exists():
        write_bytes(path, (_TITLE + "".join(f"{word}\n" for word in words)).encode())
