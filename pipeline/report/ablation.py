"""Detection of an ablation among compared runs: a reference, and variants with one change each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from pipeline.report.comparison import Group, Spread

_FEWEST = 2  # changes of an ablation; a single one is a column of an ordinary table


@dataclass(frozen=True)
class Ablation:
    """Groups that each differ from a reference group in one thing.

    Attributes:
        reference: The group that the others are compared with.
        names: Dotted names of all settings that differ between groups.
    """

    reference: Group
    names: Sequence[str]

    def changed(self, group: Group) -> str:
        """The settings that differ from the reference, as short text."""
        if group is self.reference:
            return "reference"
        return self._described(group, _changes(group, self.reference, self.names))

    @property
    def choice(self) -> str:
        """The reference's values of the settings that differ, as short text."""
        names = [name for name in self.names if name in self.reference.settings]
        return self._described(self.reference, names)

    def difference(self, group: Group, key: str) -> Spread | None:
        """The score minus that of the reference, paired by random seed.

        Pairing cancels what runs with the same random seed share, above all the classifier. None
        for the reference, and if there is no pair.
        """
        base = {r.random_seed: r.values.get(key) for r in self.reference.results}
        pairs = [(r.values.get(key), base.get(r.random_seed)) for r in group.results]
        known = tuple(own - other for own, other in pairs if own is not None and other is not None)
        return Spread(known) if known and group is not self.reference else None

    def _described(self, group: Group, names: Sequence[str]) -> str:
        return ", ".join(self._word(group, name) for name in names)

    def _word(self, group: Group, name: str) -> str:
        """One setting, by the last part of its name if that is unique."""
        short = name.rpartition(".")[2]
        alike = [other for other in self.names if other.rpartition(".")[2] == short]
        called = short if len(alike) == 1 else name
        setting = group.settings.get(name)
        if setting is None:
            return f"without {called}"
        return setting.value if setting.owns else f"{called}={setting.value}"


def ablation_of(groups: Sequence[Group], names: Sequence[str]) -> Ablation | None:
    """The ablation that the groups form, or None.

    There must be exactly one group, the reference, from which every other one differs in one
    change. A change is a set of settings; two changes must be equal or disjoint. A grid is not an
    ablation, and neither is a mixture of groups with and without segmenters.

    Args:
        groups: The compared groups.
        names: Settings in which they differ.
    """
    have_segmenters = {any(result.segmenter for result in group.results) for group in groups}
    if len(have_segmenters) > 1:
        return None
    found = [group for group in groups if _is_reference(group, groups, names)]
    return Ablation(found[0], names) if len(found) == 1 else None


def _is_reference(reference: Group, groups: Sequence[Group], names: Sequence[str]) -> bool:
    others = [group for group in groups if group is not reference]
    changes = {frozenset(_changes(group, reference, names)) for group in others}
    apart = all(one.isdisjoint(other) for one, other in combinations(changes, 2))
    return len(changes) >= _FEWEST and apart and all(changes)


def _changes(group: Group, reference: Group, names: Sequence[str]) -> list[str]:
    return [name for name in names if _is_changed(name, group, reference)]


def _is_changed(name: str, group: Group, reference: Group) -> bool:
    """Whether a setting has another value; options of a thing that only one has do not count."""
    if group.text(name) == reference.text(name):
        return False
    owners = {g.settings[name].owner for g in (group, reference) if name in g.settings}
    return all(
        any(owner in (setting.owner, setting.owns) for setting in g.settings.values())
        for owner in owners
        for g in (group, reference)
    )
