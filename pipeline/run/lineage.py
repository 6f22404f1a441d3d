"""The stages in a run's folder, done or not, and which was made from which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.config import CORRECTED, GROUND_TRUTH
from pipeline.base.errors import StorageError
from pipeline.run.folders import StageFolder
from pipeline.run.manifest import MANIFEST, Manifest
from pipeline.run.table import STAGES

Found = dict[str, "Record"]  # by the name of the folder, which has the choices in it


@dataclass(frozen=True)
class Record:
    """A stage as its folder describes it.

    Attributes:
        path: The folder.
        manifest: Its manifest; None if that cannot be read.
        parents: The stages that it was made from, as far as they are there.
        problem: Why its result does not count; empty if it does.
    """

    path: Path
    manifest: Manifest | None
    parents: tuple[Record, ...] = ()
    problem: str = ""

    @property
    def kind(self) -> str:
        """Which stage it is: ``classifier``, ``saliency``..."""
        return self.path.parent.name

    @property
    def name(self) -> str:
        """The folder within the run."""
        return f"{self.kind}/{self.path.name}"

    @property
    def parts(self) -> Mapping[str, Any]:
        """Everything that its result depends on."""
        return self.manifest.parts if self.manifest else {}

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its own choices."""
        return dict(self.parts.get("settings", {}))

    @property
    def summary(self) -> Mapping[str, Any]:
        """Summary of the result."""
        return self.manifest.summary if self.manifest else {}

    @property
    def fingerprint(self) -> str:
        """Fingerprint of these parts."""
        return self.manifest.fingerprint if self.manifest else ""

    @property
    def made_by(self) -> Mapping[str, Any]:
        """Versions and revision that made it."""
        return self.manifest.made_by if self.manifest else {}

    @property
    def seconds(self) -> float:
        """How long the work took."""
        return self.manifest.seconds if self.manifest else 0.0

    def ancestors(self) -> list[Record]:
        """Every stage that this one was made from, in order, each once; itself last."""
        way = {stage.path: stage for parent in self.parents for stage in parent.ancestors()}
        return [*way.values(), self]


@dataclass(frozen=True)
class Lineage:
    """A set of pseudo-masks, and what was made from it.

    Attributes:
        masks: The stage that made the pseudo-masks.
        segmenter: A segmenter that learned from them, or from what such a segmenter made of them;
            None where there is none.
        scored: Evaluations of the segmenter.
        twin_scored: Evaluations of segmenters that learned from ground truth by the same recipe.
    """

    masks: Record
    segmenter: Record | None = None
    scored: tuple[Record, ...] = ()
    twin_scored: tuple[Record, ...] = ()

    @property
    def training(self) -> list[Record]:
        """Every stage between the masks and the segmenter, in order, the segmenter last."""
        before = {stage.path for stage in self.masks.ancestors()}
        way = self.segmenter.ancestors() if self.segmenter else []
        return [stage for stage in way if stage.path not in before]


def stages_in(run: Path) -> list[Record]:
    """Every stage in a run's folder, finished or not, sorted by name."""
    paths = sorted(path.parent for path in run.glob(f"*/*/{MANIFEST}"))
    folders = {path.name: path for path in paths if path.parent.name in STAGES}
    found: Found = {}
    for name in folders:
        _resolve(name, folders, found)
    return sorted(found.values(), key=lambda stage: stage.name)


def lineages(stages: Sequence[Record]) -> Iterator[Lineage]:
    """Every finished set of pseudo-masks, once for each finished segmenter that learned from it."""
    finished = [stage for stage in stages if not stage.problem]
    for masks in (stage for stage in finished if stage.kind == "pseudo_labels"):
        segmenters = _segmenters_of(masks, finished)
        for segmenter in segmenters:
            scored = _made_from([segmenter], finished)
            twins = [s for s in _of("segmentation", finished) if _is_twin(s, segmenter)]
            yield Lineage(masks, segmenter, scored, _made_from(twins, finished))
        if not segmenters:
            yield Lineage(masks)


def _segmenters_of(masks: Record, finished: Sequence[Record]) -> list[Record]:
    """Segmenters that learned from the masks, without those that only labelled for a later one."""
    found = [record for record in _of("segmentation", finished) if masks in record.ancestors()]
    steps = [step for segmenter in found for step in segmenter.ancestors()[:-1]]
    return [s for s in found if s not in steps or _made_from([s], finished)]


def loose_ends(stages: Sequence[Record]) -> list[tuple[Record, str]]:
    """Stages that are in no lineage, each with the reason in words."""
    masks = [stage for stage in stages if stage.kind == "pseudo_labels" and not stage.problem]
    used = {ancestor.path for stage in masks for ancestor in stage.ancestors()}
    ends = []
    for stage in stages:
        if stage.problem:
            ends.append((stage, stage.problem))
        elif stage.kind in ("classifier", "saliency") and stage.path not in used:
            ends.append((stage, "done, but no finished pseudo-masks were made from it"))
        elif stage.kind == "evaluate" and not _of("segmentation", stage.parents):
            ends.append((stage, "scores of given masks, or of a given segmenter"))
    return ends


def _of(kind: str, stages: Sequence[Record]) -> list[Record]:
    return [stage for stage in stages if stage.kind == kind]


def _made_from(segmenters: Sequence[Record], finished: Sequence[Record]) -> tuple[Record, ...]:
    evaluations = _of("evaluate", finished)
    return tuple(stage for stage in evaluations if any(n in stage.parents for n in segmenters))


def _is_twin(other: Record, segmenter: Record) -> bool:
    labels = other.settings.get("segmenter", {}).get("labels")
    return labels == GROUND_TRUTH and _recipe(other) == _recipe(segmenter)


def _recipe(segmenter: Record) -> dict[str, Any]:
    """Everything that the segmenter depends on but the labels that it learned from."""
    labels = ("learned", "learned_from", CORRECTED)
    settings = {key: value for key, value in segmenter.settings.items() if key not in labels}
    recipe = {**settings.get("segmenter", {}), "labels": ""}
    return {
        "settings": {**settings, "segmenter": recipe},
        "data": segmenter.parts.get("data"),
        "random_seed": segmenter.parts.get("random_seed"),
        "from": [parent.path for parent in segmenter.parents if parent.kind == "classifier"],
    }


def _resolve(name: str, folders: Mapping[str, Path], found: Found) -> Record:
    """The stage, after those before it."""
    if name not in found:
        path = folders[name]
        try:
            manifest, problem = Manifest.read(path), ""
        except StorageError as error:
            manifest, problem = None, str(error)
        names = _names_of_parents(manifest)
        parents = tuple(_resolve(name, folders, found) for name in names if name in folders)
        problem = _problem(path, manifest, parents, names) if manifest else problem
        found[name] = Record(path, manifest, parents, problem)
    return found[name]


def _names_of_parents(manifest: Manifest | None) -> list[str]:
    """Folders that a stage read, and the one that a segmenter was given its labels from."""
    parts = manifest.parts if manifest else {}
    given = parts.get("settings", {}).get("learned_from")
    return [*parts.get("from", []), *([given] if given else [])]


def _problem(
    path: Path,
    manifest: Manifest,
    parents: Sequence[Record],
    names: Sequence[str],
) -> str:
    if not manifest.is_done:
        return "not finished: killed, or still at work"
    if not StageFolder(path, manifest.parts).is_done:
        return "some of its files are gone"
    if len(parents) < len(names):
        gone = ", ".join(sorted(set(names) - {parent.path.name for parent in parents}))
        return f"what it was made from ({gone}) is gone"
    read = parents[: len(manifest.parts["from"])]
    if manifest.parts["upstream"] != [p.fingerprint for p in read]:
        return "what it was made from was remade since, by other code"
    broken = next((parent for parent in parents if parent.problem), None)
    if broken is not None:
        return f"made from {broken.name}, which does not count: {broken.problem}"
    scored = STAGES[path.parent.name].score is not None
    if scored and "scored_by" not in manifest.summary:
        return "not scored yet: killed before that"
    return ""
