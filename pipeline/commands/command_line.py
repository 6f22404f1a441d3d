"""A command line as a whole: names that exist, and the settings that its run has already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pipeline.base.config import RunConfig
from pipeline.base.errors import ConfigError, MissingArtifactError
from pipeline.base.spelling import named, nearest
from pipeline.commands.processes import wanted
from pipeline.commands.remembered import SETTINGS, Remembered, lasting
from pipeline.commands.words import Word, is_sweep, quoted, read_word, split_flags
from pipeline.run.schema import CONFIGS, register_schema
from pipeline.run.settings import plain, require_values

_QUESTIONS = ("--help", "-h", "--hydra-help", "--version", "--info", "-i", "--cfg", "-c", "-sc")
_SHELL = "--shell-completion"
GROUPS = sorted(path.name for path in CONFIGS.iterdir() if path.is_dir())
_LISTS = {"a number": "[0.5,1.0]", "text": "[a,b]"}
_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class CommandLine:
    """What the words of a command mean.

    Attributes:
        arguments: For Hydra: flags, the settings of the run, the settings that were given.
        remembered: Settings that the run has already.
        lasting: What later commands of the run take over.
        processes: How many this one has to start; 1 if it does the work itself.
    """

    arguments: Sequence[str]
    remembered: Remembered | None = None
    lasting: Sequence[str] = ()
    processes: int = 1


def understand(arguments: Sequence[str]) -> CommandLine:
    """Check the words of a command and put the settings of its run before them.

    Raises:
        ConfigError: A word cannot be read, or names what does not exist.
    """
    register_schema()
    flags, texts = split_flags(arguments)
    if any(flag in _QUESTIONS or flag.startswith(_SHELL) for flag in flags):
        return CommandLine(arguments)
    given = [read_word(text, sweep=is_sweep(flags)) for text in texts]
    remembered = Remembered.of(given)
    words = [*(remembered.without(given) if remembered else ()), *given]
    words = [existing(word) for word in words]
    _check_launcher(words, sweep=is_sweep(flags))
    config = _compose(words)
    processes = wanted(config.stage, config.trainer.devices, sweep=is_sweep(flags))
    return CommandLine([*flags, *map(str, words)], remembered, lasting(words), processes)


def _check_launcher(words: Sequence[Word], *, sweep: bool) -> None:
    """Raise if jobs cannot be queued, or there are none."""
    word = next((word for word in words if word.key == "launcher"), None)
    if word is None:
        return
    if not sweep:
        raise ConfigError(f"{word}: only the jobs of a sweep are queued. Add -m, or leave it out.")
    try:
        metadata.version("hydra-submitit-launcher")
    except metadata.PackageNotFoundError as error:
        raise ConfigError(f"{word}: needs the extra 'slurm': pip install 'tsgb[slurm]'") from error


def settings_at(folder: Path) -> RunConfig:
    """The settings that the run in a folder keeps.

    Raises:
        ConfigError: They cannot be read.
        MissingArtifactError: They are not there.
    """
    register_schema()
    given = [quoted(Word("", "run_dir", str(folder)))]
    remembered = Remembered.of(given)
    if remembered is None:
        raise MissingArtifactError(
            f"{folder / SETTINGS}: not there, so the images of the run are unknown. Repeat the "
            f"command `tsgb run` that made the run, with run_dir={folder}; it writes this file."
        )
    words = [existing(word) for word in [*remembered.without(given), *given]]
    return plain(_compose(words))


def existing(word: Word) -> Word:
    """The word, if what it names exists; Hydra needs `++` for keys that no YAML file lists.

    Raises:
        ConfigError: No such group, option, key or value.
    """
    key = word.key.partition("@")[0]
    if key.startswith("hydra"):
        return word
    if key.strip("/") in GROUPS and (word.value or "")[:1] not in "[{":
        for choice in word.choices:
            _check_option(key.strip("/"), choice)
        return word
    kind = _kind(word.key)
    if kind is None:
        raise ConfigError(f"{word}: there is no setting {word.key}. {_similar(word.key)}")
    if word.plus == "~" and kind is not dict:
        raise ConfigError(f"{word}: {word.key} cannot be left out. Give it a value instead.")
    for choice in word.choices:
        _check_member(kind, choice)
    return Word("++", word.key, word.value) if kind is dict and word.value is not None else word


def _check_option(group: str, word: Word) -> None:
    options = sorted(
        path.relative_to(CONFIGS / group).with_suffix("").as_posix()
        for path in (CONFIGS / group).rglob("*.yaml")
    )
    value = (word.value or "").strip("\"'").removesuffix(".yaml")
    if word.value is not None and value != "null" and value not in options:
        raise ConfigError(f"{word}: no option of {group}. {named(value, options)}")


def _check_member(kind: Any, word: Word) -> None:
    members = next((k for k in (kind, *get_args(kind)) if _is_enum(k)), None)
    values = [str(member.value) for member in members] if members else []
    value = (word.value or "").strip("\"'")
    if members and value not in values and not (value == "null" and kind is not members):
        raise ConfigError(f"{word}: no value of {word.key}. {named(value, values)}")


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _kind(key: str) -> Any:
    """The type of a setting; ``dict`` for what the option of a group decides; None: no such key."""
    kind: Any = RunConfig
    for part in key.split("."):
        if not is_dataclass(kind):
            return None
        kind = get_type_hints(kind).get(part)
        if kind is not None and getattr(kind, "__origin__", kind) is dict:
            return dict
    return kind


def _similar(key: str) -> str:
    """A suggestion for a wrong key: a whole key, or keys that end like it."""
    known = list(_keys(RunConfig))
    last = key.rpartition(".")[2]
    same_end = [name for name in known if name.rpartition(".")[2] == last]
    near = nearest(key, known) if "." in key or key in known else None
    if near or same_end:
        return f"Did you mean {near or ' or '.join(same_end)}?"
    group = key.partition(".")[0]
    if group in known:
        inside = [name for name in known if name.startswith(f"{group}.")]
        return f"Known are {', '.join(inside or [group])}."
    return named(key, [name for name in known if "." not in name])


def _keys(kind: Any, prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        yield f"{prefix}{field.name}"
        if is_dataclass(hints[field.name]):
            yield from _keys(hints[field.name], f"{prefix}{field.name}.")


def _compose(words: Sequence[Word]) -> DictConfig:
    """All settings, with the first choice of every sweep; errors explain what Hydra would not.

    Raises:
        ConfigError: Values of another type, or settings that are missing.
    """
    first = [(word.choices or [word])[0] for word in words if not word.key.startswith("hydra")]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = compose("run", [str(word) for word in first])
            require_values(config)
            return config
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explained(error, first)) from error


def _explained(error: Exception, words: Sequence[Word]) -> str:
    first = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
    word = next((word for word in words if str(word) in str(error)), None)
    return f"{word}: {_takes(_kind(word.key)) or first}" if word else first


def _takes(kind: Any) -> str:
    """A sentence about the values of a type; empty for types that need none."""
    origin = getattr(kind, "__origin__", None)
    words = [_EXPECTED[k] for k in (kind, *get_args(kind)) if k in _EXPECTED]
    if not words:
        return ""
    if origin in (list, tuple):
        return f"takes a list in brackets, each entry {words[0]}. Write {_LISTS[words[0]]}."
    return f"takes {words[0]}."
