"""Runs as groups: the settings that differ, mean and deviation over random seeds, and order."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.scoring import LABEL_ORACLE

TARGET = "_target_"
COVERAGE, ORACLE, THRESHOLD = "coverage", "oracle", "threshold"
SEGMENTER, TWIN, FRACTION = "segmenter", "twin", "fraction"


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


def flattened(
    group: str, node: Any, owner: str = "", *, inside: bool = False
) -> dict[str, Setting]:
    """Settings by dotted name; the class named by ``_target_`` is the value of its group.

    Classes nested in it (``inside``) are part of this value.

    Example:
        >>> walk = {"_target_": "a.Chain", "steps": {"crf": {"_target_": "a.CRF", "iterations": 5}}}
        >>> {name: setting.value for name, setting in flattened("refine", walk).items()}
        {'refine': 'Chain(CRF)', 'refine.steps.crf.iterations': '5'}
    """
    owner = owner or group
    if not isinstance(node, Mapping):
        return {group: Setting(_text(node), owner)}
    found: dict[str, Setting] = {}
    if TARGET in node:
        owns = f"{owner}/{group}={node[TARGET]}"
        if not inside:
            found[group] = Setting(_named(node), owner, owns)
        owner, inside = owns, True
    for key, value in node.items():
        if not key.startswith("_"):
            found |= flattened(f"{group}.{key}", value, owner, inside=inside)
    return found


def _named(node: Mapping[str, Any]) -> str:
    """The name of a class, and of the classes nested in it."""
    name, parts = str(node[TARGET]).rpartition(".")[2], ", ".join(_parts(node))
    return f"{name}({parts})" if parts else name


def _parts(node: Mapping[str, Any]) -> Iterator[str]:
    for value in node.values():
        if isinstance(value, Mapping):
            yield from [_named(value)] if TARGET in value else _parts(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class Part:
    """One part of a run: the masks, or the segmenter.

    Attributes:
        fingerprint: Fingerprint of everything that it depends on.
        settings: Settings by dotted name.
        values: Scores in [0, 1] by the key of a measure; None if undefined.
        seconds: Time by stage.
    """

    fingerprint: str
    settings: Settings
    values: Mapping[str, float | None]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """One run with one random seed.

    Attributes:
        folder: The folder of the masks.
        random_seed: The random seed of the run.
        images: Number of images with masks.
        masks: The part from image labels to masks.
        segmenter: The part of the segmenter; None if there is none.
        classes: Average precision or IoU of each class, by the key of a measure.
    """

    folder: str
    random_seed: int
    images: int
    masks: Part
    segmenter: Part | None = None
    classes: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float | None]:
        """All scores."""
        return {**self.masks.values, **(self.segmenter.values if self.segmenter else {})}

    @property
    def seconds(self) -> dict[str, float]:
        """All times."""
        return {**self.masks.seconds, **(self.segmenter.seconds if self.segmenter else {})}


@dataclass(frozen=True)
class Spread:
    """The values of one score over random seeds.

    Example:
        >>> Spread((0.5, 0.7)).mean, Spread((0.5,)).deviation
        (0.6, None)
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation (n - 1); None for a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the random seed."""

    settings: Settings
    results: tuple[Result, ...]

    def spread(self, key: str) -> Spread | None:
        """The values of a score; None if no run has it."""
        return _spread(result.values.get(key) for result in self.results)

    def class_spread(self, key: str, name: str) -> Spread | None:
        """The values of a score of one class; None if no run has it."""
        return _spread(result.classes.get(key, {}).get(name) for result in self.results)

    def seconds(self, stages: Iterable[str]) -> float | None:
        """Total time of some stages, each averaged over the runs; None if one was not timed."""
        spreads = [_spread(r.seconds.get(stage) for r in self.results) for stage in stages]
        known = [spread.mean for spread in spreads if spread is not None]
        return sum(known) if known and len(known) == len(spreads) else None

    @property
    def stages(self) -> list[str]:
        """Stages that were timed."""
        return list(dict.fromkeys(stage for r in self.results for stage in r.seconds))

    @property
    def random_seeds(self) -> list[int]:
        """The random seeds of the runs."""
        return [result.random_seed for result in self.results]

    @property
    def is_scored(self) -> bool:
        """Whether the masks have scores, which need ground truth."""
        return self.spread("refined") is not None

    def text(self, name: str) -> str:
        """The value of a setting; a dash if the group does not have it."""
        return self.settings[name].value if name in self.settings else "-"


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = tuple(value for value in values if value is not None)
    return Spread(known) if known else None


def grouped(results: Sequence[Result]) -> list[Group]:
    """Groups of runs with equal settings; a run that was found twice counts once.

    Masks without a segmenter join the segmenters that learned from equal masks, so that an
    unfinished run does not form a group of its own.
    """
    groups = []
    for masks in _by(results, lambda result: _key(result.masks.settings)):
        trained = [result for result in masks if result.segmenter is not None]
        variants = _by(trained, lambda r: _key(r.segmenter.settings if r.segmenter else {}))
        for variant in variants or [[]]:
            chosen = {result.masks.fingerprint: result for result in [*masks, *variant]}
            runs = [
                result if result in variant else _without_segmenter(result)
                for result in chosen.values()
            ]
            head = (variant or masks)[0]
            settings = {
                **head.masks.settings,
                **(head.segmenter.settings if head.segmenter else {}),
            }
            groups.append(Group(settings, tuple(sorted(runs, key=lambda r: r.random_seed))))
    return groups


def _by(results: Sequence[Result], key: Callable[[Result], Any]) -> list[list[Result]]:
    groups: dict[Any, list[Result]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return list(groups.values())


def _key(settings: Settings) -> Any:
    return tuple(sorted((name, setting.value) for name, setting in settings.items()))


def _without_segmenter(result: Result) -> Result:
    classes = {key: scores for key, scores in result.classes.items() if "|" not in key}
    return replace(result, segmenter=None, classes=classes)


def differing(groups: Sequence[Group]) -> list[str]:
    """Dotted names of the settings that differ between groups.

    An option is compared only among the groups that have its owner: if one group has no refinement
    and another the CRF, ``refine`` differs, but the options of the CRF do not.
    """
    names = dict.fromkeys(name for group in groups for name in group.settings)
    return [name for name in names if _differs(name, groups)]


def _differs(name: str, groups: Sequence[Group]) -> bool:
    owners = {group.settings[name].owner for group in groups if name in group.settings}
    for owner in owners:
        having = [g for g in groups if any(owner in (s.owner, s.owns) for s in g.settings.values())]
        values = {g.settings[name].value if name in g.settings else None for g in having}
        if len(values) > 1:
            return True
    return False


def described(group: Group, names: Sequence[str]) -> str:
    """A short description of a group, for plots and pictures.

    Example:
        >>> settings = flattened("refine", {"_target_": "CRF", "iterations": 5})
        >>> described(Group(settings, ()), ["refine", "refine.iterations", "seed.power"])
        'CRF, iterations=5'
    """
    words = []
    for name in names:
        setting = group.settings.get(name)
        if setting is not None:
            short = name.rpartition(".")[2]
            words.append(setting.value if setting.owns else f"{short}={setting.value}")
    return ", ".join(words) or "all runs"


@dataclass(frozen=True)
class Measure:
    """A column of scores in [0, 1].

    Attributes:
        key: Key of the score.
        title: Title of the column.
        note: How it was made, in small type.
        honest: False for an oracle: a threshold chosen with ground truth, or predictions
            restricted to the image labels.
    """

    key: str
    title: str
    note: str = ""
    honest: bool = True

    @property
    def kind(self) -> str:
        """The key without the protocol of the evaluation."""
        return self.key.partition("|")[0]

    @property
    def is_of_segmenter(self) -> bool:
        """Whether it is a score of a segmenter, whose note is the protocol of the evaluation."""
        return "|" in self.key


MASKS = (
    Measure("classifier", "AP of the classifier"),
    Measure("seed", "seed mIoU", "threshold fixed beforehand"),
    Measure(ORACLE, "seed mIoU, oracle", "threshold chosen with ground truth", honest=False),
    Measure("refined", "refined mIoU"),
    Measure("masks", "training masks mIoU", "void left out"),
)
_SEGMENTER = {
    SEGMENTER: "segmenter mIoU",
    TWIN: "supervised twin mIoU",
    FRACTION: "of full supervision",
}
_LAST_FIRST = (SEGMENTER, "refined", "seed", "classifier")


def measures(groups: Sequence[Group]) -> list[Measure]:
    """The columns with at least one score, in the order of the pipeline."""
    keys = dict.fromkeys(
        key for g in groups for r in g.results for key, v in r.values.items() if v is not None
    )
    found = [measure for measure in MASKS if measure.key in keys]
    for protocol in _protocols(groups):
        for kind, title in _SEGMENTER.items():
            key = f"{kind}|{protocol}"
            if key in keys:
                found.append(Measure(key, title, protocol, honest=LABEL_ORACLE not in protocol))
    return found


def _protocols(groups: Sequence[Group]) -> list[str]:
    """Protocols of evaluation: those without an oracle first, then the most frequent first."""
    found = [
        {key.partition("|")[2] for result in group.results for key in result.values if "|" in key}
        for group in groups
    ]
    count = Counter(protocol for some in found for protocol in some)
    return sorted(
        count, key=lambda protocol: (LABEL_ORACLE in protocol, -count[protocol], protocol)
    )


def measure_to_sort_by(groups: Sequence[Group], wanted: str | None) -> Measure | None:
    """The measure of kind ``wanted``, or the last honest one that all groups have, or None.

    Training masks are used only if wanted, since void at difficult pixels raises their score.
    """
    known = measures(groups)
    for kind in (wanted,) if wanted else _LAST_FIRST:
        having = [m for m in known if m.kind == kind and m.honest]
        for measure in having:
            if wanted or all(group.spread(measure.key) for group in groups):
                return measure
    return None


def ordered(groups: Sequence[Group], by: Measure | None) -> list[Group]:
    """Best first, groups without the score last; ties are in the order of their descriptions."""
    names = differing(groups)

    def place(group: Group) -> tuple[bool, float, str]:
        spread = group.spread(by.key) if by else None
        return spread is None, -spread.mean if spread else 0.0, described(group, names)

    return sorted(groups, key=place)


def ordered_by_cost(groups: Sequence[Group]) -> list[Group]:
    """Fastest first, by total time."""
    return sorted(groups, key=lambda group: total_seconds(group) or 0.0)


def total_seconds(group: Group) -> float | None:
    """Total time up to the segmenter, or to the masks without one; scoring does not count."""
    return group.seconds(stage for stage in group.stages if stage != "evaluate")


def shared_settings(groups: Sequence[Group]) -> dict[str, str]:
    """Settings with the same value in all groups."""
    first, *others = groups
    return {
        name: setting.value
        for name, setting in first.settings.items()
        if all(name in g.settings and g.settings[name] == setting for g in others)
    }
