"""An ablation among compared runs: one choice, and the same with one thing changed at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from pipeline.report.comparison import Group, Spread

_FEWEST = 2  # things that are changed, each by itself; one thing is a column of its own


@dataclass(frozen=True)
class Ablation:
    """Groups that are all one choice, the reference, but for one thing.

    Attributes:
        reference: The group that the others were made from.
        names: Dotted names of all settings that are changed somewhere.
    """

    reference: Group
    names: Sequence[str]

    def changed(self, group: Group) -> str:
        """What is not as in the reference, in a few words."""
        if group is self.reference:
            return "reference"
        return self._described(group, _changes(group, self.reference, self.names))

    @property
    def choice(self) -> str:
        """What the reference is, as far as others are not."""
        names = [name for name in self.names if name in self.reference.settings]
        return self._described(self.reference, names)

    def difference(self, group: Group, key: str) -> Spread | None:
        """A score less that of the reference, each run less the one with the same random seed.

        What a random seed does to both, the classifier above all, is not in its deviation. None
        for the reference, and where no random seed has both.
        """
        base = {r.random_seed: r.values.get(key) for r in self.reference.results}
        pairs = [(r.values.get(key), base.get(r.random_seed)) for r in group.results]
        known = tuple(own - other for own, other in pairs if own is not None and other is not None)
        return Spread(known) if known and group is not self.reference else None

    def _described(self, group: Group, names: Sequence[str]) -> str:
        return ", ".join(self._word(group, name) for name in names)

    def _word(self, group: Group, name: str) -> str:
        """One setting; by its last word if no other one has that."""
        short = name.rpartition(".")[2]
        alike = [other for other in self.names if other.rpartition(".")[2] == short]
        called = short if len(alike) == 1 else name
        setting = group.settings.get(name)
        if setting is None:
            return f"without {called}"
        return setting.value if setting.owns else f"{called}={setting.value}"


def ablation_of(groups: Sequence[Group], names: Sequence[str]) -> Ablation | None:
    """The ablation that groups are; None if they are not one.

    From one of them, and from no other, each of the others is one change away, and two changes are
    of the same settings or have none in common. A grid of choices is no ablation, nor are masks
    beside segmenters.

    Args:
        groups: To be compared.
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
    """Whether a setting has another value; of what only one of them has, no option counts."""
    if group.text(name) == reference.text(name):
        return False
    owners = {g.settings[name].owner for g in (group, reference) if name in g.settings}
    return all(
        any(owner in (setting.owner, setting.owns) for setting in g.settings.values())
        for owner in owners
        for g in (group, reference)
    )
