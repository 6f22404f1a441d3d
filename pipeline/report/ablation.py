"""An ablation among compared runs: one choice, and the same with one thing changed at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.comparison import Group, Spread, described

_FEWEST = 3  # things that are changed, each by itself; fewer are a table of their own settings


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
        return described(group, _changes(group, self.reference, self.names))

    def difference(self, group: Group, key: str) -> Spread | None:
        """A score less that of the reference, each run less the one with the same random seed.

        What a random seed does to both, the classifier above all, is not in its deviation. None
        for the reference, and where no random seed has both.
        """
        base = {r.random_seed: r.values.get(key) for r in self.reference.results}
        pairs = [(r.values.get(key), base.get(r.random_seed)) for r in group.results]
        known = tuple(own - other for own, other in pairs if own is not None and other is not None)
        return Spread(known) if known and group is not self.reference else None


def ablation_of(groups: Sequence[Group], names: Sequence[str]) -> Ablation | None:
    """The ablation that groups are; None if they are not one.

    In an ablation at least three different things are changed, and nothing is changed together
    with something that another group changes alone: a grid of choices is no ablation.

    Args:
        groups: To be compared.
        names: Settings in which they differ.
    """
    for reference in groups:
        changes = {
            frozenset(_changes(group, reference, names))
            for group in groups
            if group is not reference
        }
        alone = not any(some < other for some in changes for other in changes)
        if len(changes) >= _FEWEST and alone:
            return Ablation(reference, names)
    return None


def _changes(group: Group, reference: Group, names: Sequence[str]) -> list[str]:
    return [name for name in names if group.text(name) != reference.text(name)]
