"""Stage 2: image labels to label images, by saliency, thresholds and refinement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import StageFolder, write_bytes
from pipeline.config import SeedConfig
from pipeline.data.catalogue import Catalogue, Item
from pipeline.data.images import enlarge, read_image
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.errors import ConfigError
from pipeline.masks.refine import Refinement
from pipeline.masks.seed import (
    compete,
    confident,
    label_image,
    normalise,
    with_background,
)
from pipeline.scoring import ConfusionMatrix, ThresholdSweep
from pipeline.stages import classifier, saliency
from pipeline.stages.context import Run, build, name_of, number
from pipeline.stages.prediction import Beside, Failures, in_parallel, raise_if_any
from pipeline.stages.refinement import features, refinement, shared_features
from pipeline.stages.training import on_gpu
from pipeline.tasks.features import NetworkFeatures

KINDS = ("seeds", "refined", "masks")


def folder(run: Run) -> StageFolder:
    """Where the label images are, or will be."""
    config, upstream = run.config, [saliency.folder(run)]
    variant = name_of(config.refine)
    settings = {"seed": config.seed, "refine": config.refine}
    return run.stage("pseudo_labels", variant, __name__, upstream, **settings)


def run(run: Run) -> StageFolder:
    """Make three label images of every image of ``train``, or as ``saliency`` has it.

    ``seeds/``: saliency over the background threshold. ``refined/``: the same after refinement.
    ``masks/``: refinement of two thresholds, void where they disagree; the segmenter learns these.
    """
    check_settings(run)
    maker = cache(partial(_maker, run))  # of all that is to be done here, if anything is
    beside = on_gpu(run.config.trainer) and not saliency.folder(run).is_done
    if beside and not folder(run).is_done:
        run.require(classifier.folder(run), "stage=classifier")
    else:
        saliency.run(run)
    done = run.carry_out(folder(run), lambda _stage: _make_all(run, maker(), beside=beside))
    run.score(done, saliency.scored_of(run), lambda: _score(run, maker()))
    for line in describe(done.summary):
        run.say(*line)
    run.say_means(label_scores(done.summary, "seed"))
    run.say("pseudo-masks", str(done.path / "masks"))
    return done


def mask_path(stage: StageFolder, kind: str, item: Item) -> Path:
    """The label image of an image; ``kind`` is one of ``KINDS``."""
    return stage.path / kind / f"{item.id}.png"


def label_scores(summary: dict[str, Any], seeds: str) -> dict[str, dict[str, Any]]:
    """Honest scores by what is scored, ``seeds/`` by a word; empty without ground truth."""
    scores = summary.get("scores")
    kinds = {seeds: "seeds", "refined": "refined", "training masks": "masks"}
    return {title: scores[kind] for title, kind in kinds.items()} if scores else {}


def describe(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The scores as lines: honest threshold first, the oracle beside it."""
    scores = summary.get("scores")
    if not scores:
        return [("pseudo-masks", "not scored: there is no ground truth")]
    oracle, masks, split = scores["oracle"], scores["masks"], scores["split"]
    seeds, refined = number(scores["seeds"]["mIoU"]), number(scores["refined"]["mIoU"])
    best = f"{number(oracle['mIoU'])}, threshold {oracle['threshold']:.2f} chosen with the masks"
    coverage = masks["coverage"] or 0.0
    return [
        (f"seed mIoU ({split}, honest)", f"{seeds}, threshold fixed beforehand"),
        (f"seed mIoU ({split}, oracle)", best),
        (f"refined mIoU ({split}, honest)", refined),
        (
            f"training masks ({split}, void left out)",
            f"{number(masks['mIoU'])} on {coverage:.0%} of the pixels",
        ),
    ]


def check_settings(run: Run) -> None:
    """Build method and refinement once, before any work, so that what cannot work is known now."""
    saliency.check_split(run)
    _ = run.chosen_classes  # which checks them
    count = run.config.saliency.images
    if count is not None and count < 1:
        raise ConfigError(
            f"saliency.images: {count}. Nothing would be explained. Choose 1 or more, or null for "
            "every image of saliency.split."
        )
    check_thresholds(run.config.seed)
    network = classifier.untrained(run)
    refinement(run, lambda: features(run, network))
    method = {**run.config.saliency.method, "model": network}
    build(method, "saliency.method")


def check_thresholds(seed: SeedConfig) -> None:
    """Raise unless 0 < background <= threshold <= foreground < 1 and the rest is in its range."""
    if seed.power <= 0:
        raise ConfigError(f"seed.power: {seed.power}. Maps would turn over. Choose 0 < power.")
    if not 0 < seed.background <= seed.threshold <= seed.foreground < 1:
        raise ConfigError(
            f"seed: background={seed.background}, threshold={seed.threshold}, "
            f"foreground={seed.foreground} are not in order. Pixels would be both foreground and "
            "background. Choose 0 < background <= threshold <= foreground < 1."
        )
    nothing = np.zeros((0, 1, 1), np.float32)
    with_background(nothing, seed.threshold, seed.plane)
    if seed.competition:
        compete(nothing, nothing, seed.competition)


@dataclass(frozen=True)
class _Maker:
    """Label images of one image, written as files."""

    stage: StageFolder
    maps: StageFolder
    seed: SeedConfig
    refine: Refinement
    logits: Callable[[Item], NDArray[np.float32]] | None = None  # by place, of the image's classes

    def is_made(self, item: Item) -> bool:
        return all(mask_path(self.stage, kind, item).exists() for kind in KINDS)

    def read(self, item: Item) -> NDArray[np.float32]:
        """Maps of an image in [0, 1], ready for a threshold."""
        maps = normalise(saliency.read_maps(self.maps, item))
        if self.logits is not None and len(maps) > 1:
            maps = compete(maps, self.logits(item), self.seed.competition)
        return np.asarray(maps**self.seed.power)

    def make(self, item: Item) -> None:
        image = read_image(item.image)
        maps = enlarge(self.read(item), image.shape[:2])
        seed = self.seed
        levels = sorted({seed.threshold, seed.foreground, seed.background})  # equal ones once
        planes = {level: with_background(maps, level, seed.plane) for level in levels}
        results = zip(levels, self.refine(image, list(planes.values())), strict=True)
        refined = {level: label_image(q, item.labels) for level, q in results}
        images = (
            label_image(planes[seed.threshold], item.labels),
            refined[seed.threshold],
            confident(refined[seed.foreground], refined[seed.background]),
        )
        for kind, labels in zip(KINDS, images, strict=True):
            write_bytes(mask_path(self.stage, kind, item), encode_label_image(labels))


def _maker(run: Run) -> _Maker:
    seed, reader = run.config.seed, shared_features(run)
    logits = _logits(run, reader()) if seed.competition else None
    return _Maker(folder(run), saliency.folder(run), seed, refinement(run, reader), logits)


def _logits(run: Run, reader: NetworkFeatures) -> Callable[[Item], NDArray[np.float32]]:
    """The classifier's logits by place for the classes in an item's label, at the finest scale."""
    size = run.config.saliency.size * max(run.config.saliency.scales)
    return lambda item: reader.logits(read_image(item.image), size)[list(item.labels)]


def _explain_and_make(run: Run, maker: _Maker) -> None:
    """Saliency, and beside it the label images of all images that have maps already.

    For a network on a GPU. On a CPU each would wait for the other's threads.
    """
    with Beside(maker.make, _workers(run)) as beside:
        saliency.run(run, then=beside.submit)


def _workers(run: Run) -> int:
    return max(run.config.trainer.workers, 1)


def _make_all(run: Run, maker: _Maker, *, beside: bool) -> dict[str, Any]:
    if beside:
        _explain_and_make(run, maker)
    items = saliency.explained(run).items
    missing = [item for item in items if not maker.is_made(item)]
    failures: Failures = {}
    with run.progress("pseudo-labels", len(missing)) as step:
        results = in_parallel(maker.make, missing, _workers(run))
        for count, (item, result) in enumerate(results, start=1):
            if result is not None:
                failures[item.id] = str(result)
            step(count, len(missing))
    raise_if_any(failures, len(items), "pseudo_labels")
    return {"images": len(items)}


def _score(run: Run, maker: _Maker) -> dict[str, Any] | None:
    """All kinds against ground truth; nothing that the run makes depends on it."""
    catalogue, split = run.catalogue, saliency.scored_of(run)
    if not split.has_masks:
        return None
    sweep = ThresholdSweep(len(catalogue.classes) + 1)
    matrices = {kind: ConfusionMatrix(len(catalogue.classes) + 1) for kind in KINDS}
    matrices["masks"] = ConfusionMatrix(len(catalogue.classes) + 1, void="excluded")
    count = len(split.items)
    with run.progress("scoring", count) as step:
        for done, item in enumerate(split.items, start=1):
            _score_one(maker, item, matrices, sweep)
            step(done, count)
    scores = _scores(catalogue, matrices, sweep)
    return {**scores, "split": split.name, "images": count}


def _score_one(
    maker: _Maker, item: Item, matrices: dict[str, ConfusionMatrix], sweep: ThresholdSweep
) -> None:
    truth = read_label_image(item.mask or "")
    for kind, matrix in matrices.items():
        matrix.update(read_label_image(mask_path(maker.stage, kind, item)), truth)
    sweep.update(maker.read(item), item.labels, truth)


def _scores(
    catalogue: Catalogue, matrices: dict[str, ConfusionMatrix], sweep: ThresholdSweep
) -> dict[str, Any]:
    scores: dict[str, Any] = {
        kind: matrix.as_dict(catalogue.classes) for kind, matrix in matrices.items()
    }
    scores["oracle"] = sweep.as_dict(catalogue.classes)
    return scores
