"""Runs side by side: a row for each choice of settings, with its spread over random seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from pipeline.report.choices import Ablation, Settings, ablation_of, described, differing
from pipeline.scoring import LABEL_ORACLE

COVERAGE, ORACLE, THRESHOLD = "coverage", "oracle", "threshold"
SEGMENTER, TWIN, FRACTION = "segmenter", "twin", "fraction"
_NAMES = ("saliency", "refine")  # columns if no setting differs
_FOR_AN_IMAGE = ("saliency", "pseudo_labels")
_SHOWN = 3  # decimals of a share that are shown; runs that differ less share a rank


@dataclass(frozen=True)
class Part:
    """One part of a run: the masks, or the segmenter.

    Attributes:
        fingerprint: Fingerprint of everything that it depends on.
        settings: Settings by dotted name.
        values: Scores in [0, 1] by the key of a measure; None if undefined.
        seconds: Time by stage.
        images: Number of images that a score is of, by the key of a measure.
        folder: The folder of the masks, or of the segmenter.
        predictions: The folders of the segmenter's evaluations by protocol.
    """

    fingerprint: str
    settings: Settings
    values: Mapping[str, float | None]
    seconds: Mapping[str, float]
    images: Mapping[str, int] = field(default_factory=dict)
    folder: str = ""
    predictions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One run with one random seed.

    Attributes:
        random_seed: The random seed of the run.
        images: Number of images with masks.
        masks: The part from image labels to masks.
        segmenter: The part of the segmenter; None if there is none.
        classes: Average precision or IoU of each class, by the key of a measure.
    """

    random_seed: int
    images: int
    masks: Part
    segmenter: Part | None = None
    classes: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    @property
    def parts(self) -> list[Part]:
        """The masks, and the segmenter if there is one."""
        return [self.masks, *([self.segmenter] if self.segmenter else [])]

    def merged(self, name: str) -> dict[str, Any]:
        """An attribute of both parts: ``values``, ``seconds`` or ``images``."""
        return {key: value for part in self.parts for key, value in getattr(part, name).items()}


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the random seed."""

    settings: Settings
    results: tuple[Result, ...]

    def text(self, name: str) -> str:
        """The value of a setting; a dash if the group does not have it."""
        return self.settings[name].value if name in self.settings else "-"

    @property
    def random_seeds(self) -> list[int]:
        """The random seeds of the runs."""
        return [result.random_seed for result in self.results]


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
            runs = [r if r in variant else _without_segmenter(r) for r in chosen.values()]
            parts = (variant or masks)[0].parts
            settings = {name: value for part in parts for name, value in part.settings.items()}
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
    def decides(self) -> bool:
        """Whether a higher score is better: no oracle, no twin, no masks that void makes easy."""
        return self.honest and self.kind not in (TWIN, "masks")

    @property
    def is_of_segmenter(self) -> bool:
        """Whether it is a score of a segmenter, whose note is the protocol of the evaluation."""
        return "|" in self.key

    @property
    def full_title(self) -> str:
        """The title with the protocol of a segmenter's evaluation."""
        return f"{self.title} ({self.note})" if self.is_of_segmenter else self.title


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


@dataclass(frozen=True)
class Spread:
    """A score over random seeds: mean, sample standard deviation (n - 1; None of one), count."""

    mean: float
    deviation: float | None
    runs: int


@dataclass(frozen=True)
class Comparison:
    """Groups of runs on the same data.

    Attributes:
        groups: The rows.
        by: The score that they are sorted by; None: by name.
        by_cost: Whether they are sorted by time instead.
    """

    groups: Sequence[Group]
    by: Measure | None = None
    by_cost: bool = False

    def ordered(self, wanted: str | None) -> Comparison:
        """Best first; ties, and groups without the score, in the order of their descriptions.

        Args:
            wanted: The kind of the score, or ``seconds``; None, or a kind that no group has: the
                last honest one that all groups have.
        """
        cost = wanted == "seconds"
        by = None if cost else self.measure(wanted) or self.measure(None)
        value = self.seconds["total"] if cost else -self.means(by) if by else None
        names = [described(group.settings, differing(self._choices)) for group in self.groups]
        frame = pd.DataFrame({"value": 0.0 if value is None else value, "name": names})
        order = frame.sort_values(["value", "name"], kind="stable").index
        return replace(self, groups=[self.groups[k] for k in order], by=by, by_cost=cost)

    @property
    def _choices(self) -> list[Settings]:
        return [group.settings for group in self.groups]

    @cached_property
    def names(self) -> list[str]:
        """Dotted names of the settings that differ; method and refinement if none does."""
        present = [name for name in _NAMES if name in self.groups[0].settings]
        return differing(self._choices) or present

    @cached_property
    def ablation(self) -> Ablation | None:
        """The ablation that the groups form, if the same code made them and all or none learned."""
        coded = any(name.startswith("code") for name in self.names)
        learned = {any(result.segmenter for result in group.results) for group in self.groups}
        return None if coded or len(learned) > 1 else ablation_of(self._choices, self.names)

    def label(self, row: int) -> str:
        """A short description of a group: its settings, or what an ablation changed."""
        settings = self.groups[row].settings
        return self.ablation.changed(settings) if self.ablation else described(settings, self.names)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each run: row of its group, random seed, scores, ``seconds/STAGE``."""
        rows = [
            {"group": k, "random seed": r.random_seed, **r.merged("values"),
             **{f"seconds/{stage}": s for stage, s in r.merged("seconds").items()}}
            for k, group in enumerate(self.groups) for r in group.results
        ]  # fmt: skip
        frame = pd.DataFrame(rows)
        return frame.astype(dict.fromkeys(frame.columns[2:], float))

    @cached_property
    def statistics(self) -> pd.DataFrame:
        """Mean, deviation and count of each score of each group."""
        return self.runs.drop(columns="random seed").groupby("group").agg(["mean", "std", "count"])

    def means(self, measure: Measure) -> pd.Series:
        """The mean of a score for each group."""
        return self.statistics[measure.key, "mean"]

    def spread(self, row: int, key: str) -> Spread | None:
        """A score of a group; None if no run has it."""
        if key not in self.runs:
            return None
        return _spread(self.statistics.loc[row, key])

    @cached_property
    def seconds(self) -> pd.DataFrame:
        """Mean time of each group by stage, ``total`` without scoring, and ``image``.

        A stage that was not timed has none.
        """
        keys = [key for key in self.runs if key.startswith("seconds/")]
        frame = self.statistics.xs("mean", axis=1, level=1)[keys]
        frame = frame.rename(columns=lambda key: key.removeprefix("seconds/"))
        images = pd.Series([max(r.images for r in group.results) for group in self.groups])
        total = frame.drop(columns="evaluate", errors="ignore").sum(axis=1, min_count=1)
        each = frame.reindex(columns=_FOR_AN_IMAGE).sum(axis=1, skipna=False) / images
        return frame.assign(total=total, image=each)

    @cached_property
    def classes(self) -> pd.DataFrame:
        """Mean, deviation and count by group, score and class."""
        rows = [
            (k, key, name, value)
            for k, group in enumerate(self.groups) for r in group.results
            for key, scores in r.classes.items() for name, value in scores.items()
        ]  # fmt: skip
        frame = pd.DataFrame(rows, columns=["group", "score", "class", "value"])
        frame = frame.astype({"value": float}).dropna()
        by = frame.groupby(["group", "score", "class"], sort=False)["value"]
        return by.agg(["mean", "std", "count"])

    @cached_property
    def differences(self) -> pd.DataFrame:
        """The primary score minus that of an ablation's reference, paired by random seed.

        Pairing cancels what runs with the same random seed share, above all the classifier.
        """
        by = self.primary
        if not (self.ablation and by):
            return pd.DataFrame(columns=["mean", "std", "count"])
        reference = next(
            k for k, g in enumerate(self.groups) if g.settings is self.ablation.reference
        )
        wide = self.runs.pivot_table(index="random seed", columns="group", values=by.key)
        if reference not in wide:
            return pd.DataFrame(columns=["mean", "std", "count"])
        less = wide.sub(wide[reference], axis=0).drop(columns=reference)
        return less.agg(["mean", "std", "count"]).T

    def difference(self, row: int) -> Spread | None:
        """The difference of a group to the reference; None of the reference, or without a pair."""
        return _spread(self.differences.loc[row]) if row in self.differences.index else None

    @cached_property
    def ranks(self) -> list[int | None]:
        """The rank of each group; equal numbers, as they are shown, share one."""
        if self.by_cost:
            values = self.seconds["total"].round(1)
        elif self.by:
            values = -self.means(self.by).round(_SHOWN)
        else:
            return [None] * len(self.groups)
        ranks = values.rank(method="min")
        return [None if pd.isna(rank) else int(rank) for rank in ranks]

    @property
    def primary(self) -> Measure | None:
        """The score that the groups are sorted by; with ``by_cost``, the default score."""
        return self.by or self.measure(None)

    @cached_property
    def measures(self) -> list[Measure]:
        """The columns with at least one score, in the order of the pipeline."""
        keys = set(self.runs.columns[self.runs.notna().any()])
        found = [measure for measure in MASKS if measure.key in keys]
        for protocol in self._protocols():
            honest = LABEL_ORACLE not in protocol
            all_of = (
                Measure(f"{k}|{protocol}", t, protocol, honest) for k, t in _SEGMENTER.items()
            )
            found += [measure for measure in all_of if measure.key in keys]
        return found

    def _protocols(self) -> list[str]:
        """Protocols of evaluation: those without an oracle first, then the most frequent first."""
        count: Counter[str] = Counter()
        for group in self.groups:
            keys = {key for result in group.results for key in result.merged("values")}
            count.update({key.partition("|")[2] for key in keys if "|" in key})
        return sorted(count, key=lambda one: (LABEL_ORACLE in one, -count[one], one))

    def measure(self, wanted: str | None) -> Measure | None:
        """The measure of kind ``wanted``, or the last honest one that all groups have, or None.

        Training masks are used only if wanted, since void at difficult pixels raises their score.
        """
        for kind in (wanted,) if wanted else _LAST_FIRST:
            for measure in (m for m in self.measures if m.kind == kind and m.honest):
                if wanted or self.means(measure).notna().all():
                    return measure
        return None

    @cached_property
    def main_measures(self) -> dict[str, Measure]:
        """One measure of each kind, for places without room for all.

        Scores of segmenters have one protocol: that of the primary measure if it is a segmenter's,
        otherwise the first.
        """
        notes = [measure.note for measure in self.measures if measure.is_of_segmenter]
        if self.primary and self.primary.is_of_segmenter:
            notes.insert(0, self.primary.note)
        return {m.kind: m for m in self.measures if not m.is_of_segmenter or m.note == notes[0]}

    @property
    def order(self) -> str:
        """The order of the rows, in words."""
        if self.by_cost:
            return "fastest first"
        if self.by is None:
            return "by name, since no score exists for all of them"
        return f"best {self.by.full_title} first"


def _spread(numbers: pd.Series) -> Spread | None:
    runs = int(numbers["count"])
    deviation = None if runs < 2 else float(numbers["std"])
    return Spread(float(numbers["mean"]), deviation, runs) if runs else None
