"""A chain of finished stages as one plain result: settings, scores, seconds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.base.config import CORRECTED
from pipeline.base.errors import ConfigError
from pipeline.base.files import fingerprint
from pipeline.means import mean_over, miou
from pipeline.report.choices import Setting, flattened
from pipeline.report.comparison import (
    COVERAGE,
    FRACTION,
    ORACLE,
    SEGMENTER,
    THRESHOLD,
    TWIN,
    Part,
    Result,
)
from pipeline.run.lineage import Lineage, Record
from pipeline.run.options import word_of

Scores = Mapping[str, Any]

_DOTTED = {"numerics": "trainer", CORRECTED: "segmenter"}  # under what name a person sets it
_SHORTER = {"saliency.method": "saliency"}  # which is what a command says
_KINDS = {"seed": "seeds", "refined": "refined", "masks": "masks"}  # measures, label images
_LEFT_OUT = ("learned", "learned_from", "given", "images")  # facts about data, no choices


def result_of(way: Lineage, classes: Sequence[str] | None) -> Result:
    """Scores and settings of a lineage's masks and of the segmenter that learned from them.

    Args:
        way: A lineage of finished stages.
        classes: Every mIoU is the mean over background and these; None for all that occur.

    Raises:
        ConfigError: A class that the data do not have.
    """
    stages = way.masks.ancestors()
    masks = Part(
        fingerprint=way.masks.fingerprint,
        settings=_settings(stages, "code of the masks"),
        values=_mask_scores(stages, classes),
        seconds={stage.kind: stage.seconds for stage in stages},
        images=_mask_images(stages),
        folder=str(way.masks.path),
    )
    return Result(
        random_seed=int(way.masks.parts["random_seed"]),
        images=int(way.masks.summary["images"]),
        masks=masks,
        segmenter=_segmenter(way, classes),
        classes=_by_class(way),
    )


def _segmenter(way: Lineage, classes: Sequence[str] | None) -> Part | None:
    if way.segmenter is None:
        return None
    seconds: dict[str, float] = {}
    for stage in way.training:  # a second segmenter's, the first one's included
        seconds[stage.kind] = seconds.get(stage.kind, 0.0) + stage.seconds
    if way.scored:
        seconds["evaluate"] = sum(stage.seconds for stage in way.scored)
    settings = _settings(way.training, "code of the segmenter")
    count = int(way.segmenter.summary.get("corrected_masks", 0))
    return Part(
        fingerprint=way.segmenter.fingerprint,
        settings={**settings, "corrected masks": Setting(f"+{count}", "corrected masks")},
        values=_segmenter_scores(way, classes),
        seconds=seconds,
        images={
            f"{kind}|{protocol}": int(_scores(stage).get("images", 0))
            for protocol, stage in _protocols(way.scored).items()
            for kind in (SEGMENTER, TWIN, FRACTION)
        },
        folder=str(way.segmenter.path),
        predictions={_scores(s).get("protocol", ""): str(s.path) for s in way.scored},
    )


def _mask_images(stages: Sequence[Record]) -> dict[str, int]:
    """Number of images that each score of the masks is of."""
    trained = next((s.summary for s in stages if s.kind == "classifier"), {})
    scored = (stages[-1].summary.get("scores") or {}).get("images", 0)
    return {
        "classifier": int(trained.get("held_out", 0)), **dict.fromkeys((*_KINDS, ORACLE), scored)
    }  # fmt: skip


def _settings(stages: Iterable[Record], code: str) -> dict[str, Setting]:
    """All choices by dotted name, and the version of the code.

    Versions are compared only where all choices are equal: another method has other code anyway.
    """
    found: dict[str, Setting] = {}
    versions = []
    for stage in stages:
        versions.append(stage.parts["code"])
        for name, value in stage.settings.items():
            if name not in _LEFT_OUT and value is not None:  # null is what was not used
                found |= flattened(_DOTTED.get(name, name), value, word_of)
        if "processes" in stage.parts:
            found |= flattened("trainer.processes", stage.parts["processes"])
    found = {_SHORTER.get(name, name): setting for name, setting in found.items()}
    chosen = fingerprint({name: setting.value for name, setting in found.items()})
    return {**found, code: Setting(fingerprint(versions)[:6], chosen)}


def _mask_scores(
    stages: Sequence[Record], classes: Sequence[str] | None
) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for stage in stages:
        if stage.kind == "classifier":
            values["classifier"] = _mean_precision(stage.summary, classes)
    scores = stages[-1].summary.get("scores")
    if scores:
        values |= {key: _miou(scores[kind], classes) for key, kind in _KINDS.items()}
        values[COVERAGE] = scores["masks"].get("coverage")
        values |= _oracle(scores["oracle"], classes)
    return values


def _oracle(found: Mapping[str, Any], classes: Sequence[str] | None) -> dict[str, float | None]:
    """The best mIoU over thresholds, and the threshold."""
    if not classes:
        return {ORACLE: found["mIoU"], THRESHOLD: found["threshold"]}
    names = ["background", *classes]
    curves = [found["IoU"][name] for name in names]  # along the thresholds
    at_each = (dict(zip(names, values, strict=True)) for values in zip(*curves, strict=True))
    means = [mean_over({"IoU": values}, names) or 0.0 for values in at_each]
    best = means.index(max(means))
    return {ORACLE: means[best], THRESHOLD: found["thresholds"][best]}


def _mean_precision(summary: Mapping[str, Any], classes: Sequence[str] | None) -> float | None:
    if not classes:
        value: float | None = summary.get("mAP")
        return value
    known = [ap for name in classes if (ap := summary.get("AP", {}).get(name)) is not None]
    return statistics.fmean(known) if known else None


def _miou(scores: Scores, classes: Sequence[str] | None) -> float | None:
    unknown = [name for name in classes or () if name not in scores["IoU"]]
    if unknown:
        known = ", ".join(name for name in scores["IoU"] if name != "background")
        raise ConfigError(
            f"compare.classes: {', '.join(unknown)} not among the classes of the data ({known}). "
            "Their mean could not be shown. Correct the names."
        )
    return miou(scores, classes or ())


def _segmenter_scores(way: Lineage, classes: Sequence[str] | None) -> dict[str, float | None]:
    """By protocol the segmenter, its twin where there is one, and the share of the first."""
    values: dict[str, float | None] = {}
    for protocol, stage in _protocols(way.scored).items():
        own, twin = _miou(_scores(stage), classes), _twin_of(stage, way)
        values[f"{SEGMENTER}|{protocol}"] = own
        if twin is not None:
            full = _miou(_scores(twin), classes)
            values[f"{TWIN}|{protocol}"] = full
            same = _scores(stage).get("images") == _scores(twin).get("images")
            values[f"{FRACTION}|{protocol}"] = own / full if same and own and full else None
    return values


def _protocols(evaluations: Iterable[Record]) -> dict[str, Record]:
    """Evaluations by how they were scored; the last of those that are told apart by no word."""
    return {_scores(stage)["protocol"]: stage for stage in evaluations if _scores(stage)}


def _scores(evaluation: Record) -> Scores:
    """Its scores; empty without ground truth."""
    return evaluation.summary.get("scores") or {}


def _twin_of(evaluation: Record, way: Lineage) -> Record | None:
    """The twin's evaluation that used the same protocol, refinement and classifier."""
    alike = (twin for twin in way.twin_scored if _how(twin) == _how(evaluation))
    return next((twin for twin in alike if _scores(twin)), None)


def _how(evaluation: Record) -> Any:
    """All that scores depend on but the segmenter."""
    classifiers = [parent.path for parent in evaluation.parents if parent.kind == "classifier"]
    return evaluation.settings, classifiers


def _by_class(way: Lineage) -> dict[str, Mapping[str, float | None]]:
    """AP and IoU of each class by the key of their mean."""
    found: dict[str, Mapping[str, float | None]] = {}
    for stage in way.masks.ancestors():
        if stage.kind == "classifier":
            found["classifier"] = stage.summary.get("AP", {})
    scores = way.masks.summary.get("scores") or {}
    found |= {key: scores[kind]["IoU"] for key, kind in _KINDS.items() if kind in scores}
    for protocol, stage in _protocols(way.scored).items():
        found[f"{SEGMENTER}|{protocol}"] = _scores(stage)["IoU"]
        twin = _twin_of(stage, way)
        if twin is not None:
            found[f"{TWIN}|{protocol}"] = _scores(twin)["IoU"]
    return found
