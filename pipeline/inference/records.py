"""The stage of a run that trained a network, and what the run knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.config import GROUND_TRUTH
from pipeline.base.errors import MissingArtifactError, at_most
from pipeline.formats.corrected import plus_masks
from pipeline.run.manifest import MANIFEST
from pipeline.stages.own_files import CHECKPOINT

if TYPE_CHECKING:
    from pipeline.run.lineage import Record


def evaluated(record: Record) -> Mapping[str, Any]:
    """The settings of the last evaluation of a network; empty if there is none."""
    scored = evaluations(record)
    return scored[-1].settings["evaluate"] if scored else {}


def evaluations(record: Record) -> list[Record]:
    """Finished evaluations of a network in its run, the last one at the end."""
    from pipeline.run.lineage import stages_in

    found = [
        stage
        for stage in stages_in(record.path.parents[1])
        if stage.kind == "evaluate" and record.path in [parent.path for parent in stage.parents]
        if stage.manifest and stage.manifest.is_done
        if not stage.settings["evaluate"]["label_oracle"]
    ]
    return sorted(found, key=lambda stage: stage.manifest.began if stage.manifest else 0.0)


def network_record(place: Path) -> Record:
    """The one finished segmenter in a folder that learned from weak labels."""
    from pipeline.run.lineage import stages_in  # and Hydra with it

    if not place.is_dir():
        raise MissingArtifactError(
            f"{place}: no such file or folder. Name the folder of a run, such as runs/shapes."
        )
    is_stage = (place / MANIFEST).is_file() and (place / CHECKPOINT).is_file()
    run = place.absolute().parents[1] if is_stage else place
    found = [stage for stage in stages_in(run) if stage.kind == "segmentation"]
    done = [stage for stage in found if stage.manifest and stage.manifest.is_done]
    if is_stage:
        done = [stage for stage in done if stage.path.name == place.absolute().name]
    else:
        done = [s for s in done if s.settings["segmenter"]["labels"] != GROUND_TRUTH]
    return _only(place, done, began=bool(found))


def _only(place: Path, networks: list[Record], *, began: bool) -> Record:
    if len(networks) == 1:
        return networks[0]
    if networks:
        names = [f"{stage.path} ({_score(stage)})" for stage in networks]
        raise MissingArtifactError(
            f"{place}: has {len(networks)} networks. Name the folder of one.\n{at_most(names)}"
        )
    state = "its network is not finished" if began else "has no network"
    raise MissingArtifactError(
        f"{place}: {state}. Run `tsgb run run_dir={place} stage=all` to the end, or name another "
        "folder of a run."
    )


def _score(record: Record) -> str:
    scored = [stage.summary.get("scores") or {} for stage in evaluations(record)]
    known = [scores for scores in scored if scores.get("mIoU") is not None]
    words = f"mIoU {known[-1]['mIoU']:.3f} on {known[-1]['split']}" if known else "not scored"
    learned = f"{record.settings['segmenter']['labels']} labels{plus_masks(corrected(record))}"
    return f"{words}, {learned}"


def corrected(record: Record) -> int:
    """How many corrected masks a network learned from."""
    return int(record.summary.get("corrected_masks", 0))


def made(record: Record | None, kind: str) -> Record:
    """The stage of a kind that a network was made from."""
    stages = [stage for stage in record.ancestors() if stage.kind == kind] if record else []
    if stages:
        return stages[0]
    where = record.path if record else "a single file"
    raise MissingArtifactError(
        f"{where}: the run's {kind} is not there, which prior and refinement need. Name the whole "
        "folder of the run, or leave both out."
    )
