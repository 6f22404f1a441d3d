"""What lies in a run's folder: stages that are done or not, and which was made from which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import MANIFEST, StageFolder

Found = dict[str, "Stage"]  # by the name of the folder, which has the choices in it

_ASIDE = ("saliency_benchmark",)  # no mask is made from it


@dataclass(frozen=True)
class Stage:
    """A stage's folder.

    Attributes:
        path: Of the folder.
        manifest: What it says about itself; empty if that cannot be read.
        parents: The stages that it was made from, as far as they are there.
        problem: Why its result does not count; empty if it does.
    """

    path: Path
    manifest: Mapping[str, Any]
    parents: tuple[Stage, ...] = ()
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
        """All that its result depends on."""
        return dict(self.manifest.get("parts", {}))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its own choices."""
        return dict(self.parts.get("settings", {}))

    @property
    def summary(self) -> Mapping[str, Any]:
        """What came out."""
        return dict(self.manifest.get("summary", {}))

    @property
    def seconds(self) -> float:
        """What it took beyond the stages before it that were made at the same time."""
        own = float(self.manifest.get("seconds", 0.0))
        beside = (parent.manifest for parent in self.parents if self._includes(parent))
        return max(own - sum(float(manifest["seconds"]) for manifest in beside), 0.0)

    def _includes(self, parent: Stage) -> bool:
        """True if it began before the other, as masks do that are made while maps still are."""
        began, before = self.manifest.get("started"), parent.manifest.get("started")
        return began is not None and before is not None and bool(began <= before)

    def ancestors(self) -> list[Stage]:
        """Every stage on the way to this one, in order, itself the last; each once."""
        way = {stage.path: stage for parent in self.parents for stage in parent.ancestors()}
        return [*way.values(), self]


@dataclass(frozen=True)
class Lineage:
    """A set of pseudo-masks, and what was made from it.

    Attributes:
        masks: The stage that made the pseudo-masks.
        network: A network that learned from them, maybe by way of earlier ones; None for none.
        scored: Evaluations of the network.
        twin_scored: Evaluations of networks that learned from ground truth by the same recipe.
    """

    masks: Stage
    network: Stage | None = None
    scored: tuple[Stage, ...] = ()
    twin_scored: tuple[Stage, ...] = ()

    @property
    def training(self) -> list[Stage]:
        """Everything from the masks to the network, in order: one network, or several rounds."""
        before = {stage.path for stage in self.masks.ancestors()}
        way = self.network.ancestors() if self.network else []
        return [stage for stage in way if stage.path not in before]


def stages_in(run: Path) -> list[Stage]:
    """Every stage in a run's folder, finished or not, sorted by name."""
    paths = sorted(path.parent for path in run.glob(f"*/*/{MANIFEST}"))
    folders = {path.name: path for path in paths if path.parent.name not in _ASIDE}
    found: Found = {}
    for name in folders:
        _resolve(name, folders, found)
    return sorted(found.values(), key=lambda stage: stage.name)


def lineages(stages: Sequence[Stage]) -> Iterator[Lineage]:
    """Every finished set of pseudo-masks, once for each finished network that learned from it."""
    finished = [stage for stage in stages if not stage.problem]
    for masks in (stage for stage in finished if stage.kind == "pseudo_labels"):
        networks = _networks_of(masks, finished)
        for network in networks:
            scored = _made_from([network], finished)
            twins = [s for s in _of("segmentation", finished) if _is_twin(s, network)]
            yield Lineage(masks, network, scored, _made_from(twins, finished))
        if not networks:
            yield Lineage(masks)


def _networks_of(masks: Stage, finished: Sequence[Stage]) -> list[Stage]:
    """Networks that learned from the masks, without those that only taught a later one."""
    networks = [stage for stage in _of("segmentation", finished) if masks in stage.ancestors()]
    steps = [step for network in networks for step in network.ancestors()[:-1]]
    return [n for n in networks if n not in steps or _made_from([n], finished)]


def loose_ends(stages: Sequence[Stage]) -> list[tuple[Stage, str]]:
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
            ends.append((stage, "scores of given masks or a given network, whose making is open"))
    return ends


def _of(kind: str, stages: Sequence[Stage]) -> list[Stage]:
    return [stage for stage in stages if stage.kind == kind]


def _made_from(networks: Sequence[Stage], finished: Sequence[Stage]) -> tuple[Stage, ...]:
    evaluations = _of("evaluate", finished)
    return tuple(stage for stage in evaluations if any(n in stage.parents for n in networks))


def _is_twin(other: Stage, network: Stage) -> bool:
    labels = other.settings.get("segmenter", {}).get("labels")
    return labels == "ground_truth" and _recipe(other) == _recipe(network)


def _recipe(network: Stage) -> dict[str, Any]:
    """All that the network depends on but the labels that it learned from, in how many rounds."""
    settings = {key: value for key, value in network.settings.items() if key != "ground_truth"}
    segmenter = {**settings.get("segmenter", {}), "labels": "", "rounds": 1}
    return {
        "settings": {**settings, "segmenter": segmenter},
        "data": network.parts.get("data"),
        "random_seed": network.parts.get("random_seed"),
        "from": [parent.path for parent in network.parents if parent.kind == "classifier"],
    }


def _resolve(name: str, folders: Mapping[str, Path], found: Found) -> Stage:
    """The stage, after those before it."""
    if name not in found:
        path = folders[name]
        manifest = StageFolder(path, {}).manifest
        names = manifest.get("parts", {}).get("from", [])
        parents = tuple(_resolve(name, folders, found) for name in names if name in folders)
        problem = _problem(StageFolder(path, manifest.get("parts", {})), manifest, parents, names)
        found[name] = Stage(path, manifest, parents, problem)
    return found[name]


def _problem(
    folder: StageFolder, manifest: Mapping[str, Any], parents: Sequence[Stage], names: Sequence[str]
) -> str:
    if not manifest:
        return f"its {MANIFEST} cannot be read"
    if manifest.get("state") != "done":
        return "not finished: killed, or still at work"
    if not folder.is_done:
        return "some of its files are gone"
    if len(parents) < len(names):
        gone = ", ".join(sorted(set(names) - {parent.path.name for parent in parents}))
        return f"what it was made from ({gone}) is gone"
    if manifest["parts"]["upstream"] != [p.manifest.get("fingerprint") for p in parents]:
        return "what it was made from was made again since, by other code"
    broken = next((parent for parent in parents if parent.problem), None)
    if broken is not None:
        return f"made from {broken.name}, which does not count: {broken.problem}"
    masks = folder.path.parent.name in ("pseudo_labels", "relabel")
    if masks and "truth" not in manifest["summary"]:
        return "not scored yet: killed on the way"
    return ""
