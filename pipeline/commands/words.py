"""The words of a command line: `KEY=VALUE`, checked and completed before Hydra reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from pipeline.base.config import Command
from pipeline.base.errors import ConfigError
from pipeline.base.spelling import nearest

_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-name", "-cn", "--config-dir", "-cd")
_SWEEP = ("-m", "--multirun")
_STRUCTURE = "[{('\"$"  # a value that starts with one of these is meant for Hydra's grammar


@dataclass(frozen=True)
class Word:
    """One setting of a command line.

    Attributes:
        plus: What stands before the key: nothing, `+`, `++` or `~`.
        key: Such as ``segmenter.epochs``, or the name of a group.
        value: As Hydra's grammar wants it; None without `=`.
    """

    plus: str
    key: str
    value: str | None

    def __str__(self) -> str:
        return f"{self.plus}{self.key}" + ("" if self.value is None else f"={self.value}")

    @property
    def parsed(self) -> Override:
        """What Hydra's grammar makes of it."""
        return OverridesParser.create().parse_override(str(self))

    @property
    def choices(self) -> list[Word]:
        """One word for each value of a sweep; the word itself if it is none."""
        override = self.parsed
        if not override.is_sweep_override():
            return [self]
        if not override.is_discrete_sweep():
            return []
        values = override.sweep_string_iterator()
        return [Word(self.plus, self.key, str(value)) for value in values]


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags of Hydra with their values, and the settings.

    Example:
        >>> split_flags(["stage=report", "--cfg", "job", "-m"])
        (['--cfg', 'job', '-m'], ['stage=report'])
    """
    flags: list[str] = []
    settings: list[str] = []
    for text in arguments:
        belongs = text.startswith("-") or bool(flags and flags[-1] in _WITH_VALUE)
        (flags if belongs else settings).append(text)
    return flags, settings


def is_sweep(flags: Iterable[str]) -> bool:
    """Whether flags ask for several jobs."""
    return any(flag in _SWEEP for flag in flags)


def read_word(text: str, *, sweep: bool = False) -> Word:
    """A setting in Hydra's grammar: paths are quoted where they need it, and `~` is expanded.

    A value that the grammar refuses is text, as paths with `=`, `(`, `#` or `ü` are; one that
    begins like a list, a dictionary or a quotation is a mistake.

    Raises:
        ConfigError: It is no setting, or its value cannot be read.

    Example:
        >>> str(read_word("data.images=/photos/a=b"))
        'data.images="/photos/a=b"'
    """
    match = re.fullmatch(r"(\+{0,2}|~)([^=+~]+)(?:=(.*))?", text, re.DOTALL)
    if match is None or (match[3] is None and match[1] != "~"):
        raise ConfigError(_no_setting(text))
    word = Word(match[1], match[2], match[3])
    if word.value is None:
        return word
    value = re.sub(r"(?:(?<=^)|(?<=[\[,]))~(?=/|$)", str(Path.home()), word.value)
    return _readable(Word(word.plus, word.key, value), sweep)


def _readable(word: Word, sweep: bool) -> Word:
    value = word.value or ""
    try:
        override = word.parsed
        is_text = override.is_sweep_override() and Path(value).exists()
        if override.is_sweep_override() and not sweep and not is_text:
            raise ConfigError(
                f"{word}: several values, which only a sweep takes. Add -m for one job each, or "
                f"quote a value that contains a comma: {_for_shell(quoted(word))}"
            )
    except HydraException as error:
        is_text = value[:1] not in _STRUCTURE and not (sweep and "," in value)
        if not is_text and not Path(value).exists():
            raise ConfigError(
                f"{word}: cannot be read ({str(error).splitlines()[0]}). Quote a value that is "
                f"meant as text: {_for_shell(quoted(word))}"
            ) from error
        is_text = True
    return quoted(word) if is_text else word


def quoted(word: Word) -> Word:
    """The same word with its value as text.

    Example:
        >>> str(quoted(Word("", "run_dir", "a=b")))
        'run_dir="a=b"'
    """
    text = re.sub(r'(\\*)"', r'\1\1\\"', word.value or "")
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return Word(word.plus, word.key, f'"{text}"')


def _for_shell(word: Word) -> str:
    return "'" + str(word).replace("'", "'\\''") + "'"


def _no_setting(text: str) -> str:
    if text in set(Command):
        return f"{text}: settings are KEY=VALUE. Did you mean stage={text}?"
    near = nearest(text, list(Command))
    hint = f" Did you mean stage={near}?" if near else ""
    return f"{text}: not a setting. Settings are KEY=VALUE, such as stage=report.{hint}"
