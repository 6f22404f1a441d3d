"""The settings of runs in the words of the command, and how runs differ in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TARGET = "_target_"


@dataclass(frozen=True)
class Setting:
    """The value of a setting.

    Attributes:
        value: The value as text.
        owner: The thing that it is an option of; ``iterations`` of two refinements differ in it.
        owns: For a value with options of its own, their ``owner``; otherwise empty.
    """

    value: str
    owner: str
    owns: str = ""


Settings = Mapping[str, Setting]
Word = Callable[[str, Mapping[str, Any]], str]


def class_word(_group: str, node: Mapping[str, Any]) -> str:
    """The name of a class, and of the classes nested in it.

    Example:
        >>> class_word("refine", {"_target_": "a.Chain", "steps": {"crf": {"_target_": "a.CRF"}}})
        'Chain(CRF)'
    """
    name, parts = str(node[TARGET]).rpartition(".")[2], ", ".join(_parts(node))
    return f"{name}({parts})" if parts else name


def _parts(node: Mapping[str, Any]) -> Iterator[str]:
    for value in node.values():
        if isinstance(value, Mapping):
            yield from [class_word("", value)] if TARGET in value else _parts(value)


def flattened(
    group: str, node: Any, word: Word = class_word, owner: str = "", *, inside: bool = False
) -> dict[str, Setting]:
    """Settings by dotted name; what ``_target_`` names is the value of its group, in a word.

    Classes nested in it (``inside``) are part of this value.

    Example:
        >>> walk = {"_target_": "a.Chain", "steps": {"crf": {"_target_": "a.CRF", "iterations": 5}}}
        >>> {name: setting.value for name, setting in flattened("refine", walk).items()}
        {'refine': 'Chain(CRF)', 'refine.steps.crf.iterations': '5'}
    """
    owner = owner or group
    if not isinstance(node, Mapping):
        return {group: Setting(node if isinstance(node, str) else json.dumps(node), owner)}
    found: dict[str, Setting] = {}
    if TARGET in node:
        value = "" if inside else word(group, node)
        owns = f"{owner}/{group}={node[TARGET]} {value}"
        if not inside:
            found[group] = Setting(value, owner, owns)
        owner, inside = owns, True
    for key, value in node.items():
        if not key.startswith("_"):
            found |= flattened(f"{group}.{key}", value, word, owner, inside=inside)
    return found


def differing(choices: Sequence[Settings]) -> list[str]:
    """Dotted names of the settings that differ between choices.

    An option is compared only among the choices that have its owner: if one has no refinement
    and another the CRF, ``refine`` differs, but the options of the CRF do not.
    """
    names = dict.fromkeys(name for settings in choices for name in settings)
    return [name for name in names if _differs(name, choices)]


def _differs(name: str, choices: Sequence[Settings]) -> bool:
    owners = {settings[name].owner for settings in choices if name in settings}
    return any(
        len({s[name].value if name in s else None for s in choices if _has(s, owner)}) > 1
        for owner in owners
    )


def _has(settings: Settings, owner: str) -> bool:
    return any(owner in (setting.owner, setting.owns) for setting in settings.values())


def described(settings: Settings, names: Sequence[str]) -> str:
    """The values of some settings, in short.

    Example:
        >>> settings = flattened("refine", {"_target_": "CRF", "iterations": 5})
        >>> described(settings, ["refine", "refine.iterations", "seed.power"])
        'refine=CRF, iterations=5'
    """
    words = (f"{n.rpartition('.')[2]}={settings[n].value}" for n in names if n in settings)
    return ", ".join(words) or "all runs"


@dataclass(frozen=True)
class Ablation:
    """Choices that each differ from a reference in one thing.

    Attributes:
        reference: The choice that the others are compared with.
        names: Dotted names of all settings that differ between choices.
    """

    reference: Settings
    names: Sequence[str]

    def changed(self, settings: Settings) -> str:
        """The settings that differ from the reference, as short text."""
        if settings is self.reference:
            return "reference"
        changes = _changes(settings, self.reference, self.names)
        return ", ".join(self._word(settings, name) for name in changes)

    @property
    def choice(self) -> str:
        """The reference's values of the settings that differ, as short text."""
        names = (name for name in self.names if name in self.reference)
        return ", ".join(self._word(self.reference, name) for name in names)

    def _word(self, settings: Settings, name: str) -> str:
        """One setting, by the last part of its name if that is unique."""
        short = name.rpartition(".")[2]
        alike = [other for other in self.names if other.rpartition(".")[2] == short]
        called = short if len(alike) == 1 else name
        return f"{called}={settings[name].value}" if name in settings else f"without {called}"


_FEWEST = 2  # changes of an ablation; a single one is a column of an ordinary table


def ablation_of(choices: Sequence[Settings], names: Sequence[str]) -> Ablation | None:
    """The ablation that the choices form, or None.

    There must be exactly one of them, the reference, from which every other one differs in one
    change. A change is a set of settings; two changes must be equal or disjoint. A grid is not an
    ablation.

    Args:
        choices: The settings of the compared runs.
        names: Settings in which they differ.
    """
    found = [one for one in choices if _is_reference(one, choices, names)]
    return Ablation(found[0], names) if len(found) == 1 else None


def _is_reference(reference: Settings, choices: Sequence[Settings], names: Sequence[str]) -> bool:
    others = [one for one in choices if one is not reference]
    changes = {frozenset(_changes(one, reference, names)) for one in others}
    apart = len(frozenset().union(*changes)) == sum(map(len, changes))
    return len(changes) >= _FEWEST and apart and all(changes)


def _changes(settings: Settings, reference: Settings, names: Sequence[str]) -> list[str]:
    return [name for name in names if _is_changed(name, settings, reference)]


def _is_changed(name: str, settings: Settings, reference: Settings) -> bool:
    """Whether a setting has another value; options of a thing that only one has do not count."""
    pair = (settings, reference)
    values = {one[name].value if name in one else None for one in pair}
    owners = {one[name].owner for one in pair if name in one}
    return len(values) > 1 and all(_has(one, owner) for owner in owners for one in pair)
