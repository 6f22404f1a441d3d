"""Between two rounds: a network labels the images that it learned from, for the next network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.artifacts import StageFolder, write_bytes
from pipeline.data.catalogue import VOID, Item
from pipeline.data.images import read_image
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.errors import ConfigError, PipelineError, StorageError
from pipeline.masks.refine import NoRefinement, Refinement
from pipeline.masks.seed import label_image
from pipeline.scoring import ConfusionMatrix
from pipeline.stages import rounds
from pipeline.stages.context import Run, number
from pipeline.stages.prediction import Beside, Failures, predict, raise_if_any
from pipeline.stages.pseudo_labels import KINDS, label_scores, mask_path
from pipeline.stages.refinement import refinement
from pipeline.stages.training import CHECKPOINT, on_gpu
from pipeline.tasks.predictor import LabelledPredictor
from pipeline.tasks.segmenter import SegmenterTask

Floats = NDArray[np.float32]


def folder(run: Run, round_: int | None = None) -> StageFolder:
    """Where the label images of a round are, or will be; None for the last round."""
    return rounds.relabelled(run, _number(run, round_))


def run(run: Run, round_: int | None = None) -> StageFolder:
    """Make three label images of every image of ``train``, as ``pseudo_labels`` does.

    ``seeds/``: what the network of the round before takes for the most probable among background
    and the classes in the image's label. ``refined/``: the same after refinement. ``masks/``:
    void where the network itself is not sure of that; the network of this round learns these.
    """
    check_settings(run)
    round_ = _number(run, round_)
    before = rounds.network(run, rounds.PSEUDO, round_ - 1)
    run.require(before, f"stage=segmentation segmenter.rounds={round_ - 1}")
    done = run.carry_out(folder(run, round_), lambda stage: _label_all(run, stage, before, round_))
    run.score(done, run.catalogue.scored, lambda: _score(run, done))
    for line in describe(done.summary):
        run.say(*line)
    run.say_means(label_scores(done.summary, "network's own"))
    run.say(f"masks of round {round_}", str(done.path / "masks"))
    return done


def describe(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The scores as lines."""
    name, scores = f"round {summary['round']}", summary.get("scores")
    if not scores:
        return [(f"masks of {name}", "not scored: there is no ground truth")]
    masks, split = scores["masks"], scores["split"]
    covered = f"{number(masks['mIoU'])} on {masks['coverage'] or 0.0:.0%} of the pixels"
    return [
        (f"{name}, network's own mIoU ({split}, honest)", number(scores["seeds"]["mIoU"])),
        (f"{name}, refined mIoU ({split}, honest)", number(scores["refined"]["mIoU"])),
        (f"{name}, training masks ({split}, void left out)", covered),
    ]


def check_settings(run: Run) -> None:
    """Raise before any work if ``relabel`` has a value that cannot work."""
    config = run.config.relabel
    if not 0 <= config.certain < 1:
        raise ConfigError(
            f"relabel.certain: {config.certain}. It is the probability below which a pixel is "
            "void, and nearly all would be. Choose a number from 0 (none is) to below 1."
        )
    if not config.scales or min(config.scales) <= 0:
        raise ConfigError(
            f"relabel.scales: {list(config.scales)}. Nothing would be predicted. Give one scale or "
            "more, each above 0."
        )


def _number(run: Run, round_: int | None) -> int:
    number = round_ or rounds.settings(run).rounds
    if number == 1:
        raise ConfigError(
            f"stage=relabel: segmenter.rounds={run.config.segmenter.rounds} and segmenter.labels="
            f"{run.config.segmenter.labels} have one round, which learns from what is there "
            "already. These masks would teach nobody. Set segmenter.rounds=2."
        )
    return number


@dataclass(frozen=True)
class _Maker:
    """Label images of one image, written as files; what fails is noted by id."""

    stage: StageFolder
    certain: float
    refine: Refinement
    failures: Failures = field(default_factory=dict)

    def is_made(self, item: Item) -> bool:
        return all(mask_path(self.stage, kind, item).exists() for kind in KINDS)

    def try_to_make(self, entry: tuple[Item, Floats]) -> None:
        item, probabilities = entry
        try:
            self.make(item, probabilities)
        except StorageError:
            raise
        except (PipelineError, ValueError) as error:
            self.failures[item.id] = str(error)

    def make(self, item: Item, probabilities: Floats) -> None:
        refined = self.refine(read_image(item.image), [probabilities])[0]
        labels = label_image(refined, item.labels)
        # Not the refined probabilities: those of a CRF are near 1 whether right or wrong.
        own = np.take_along_axis(probabilities, refined.argmax(axis=0)[None], axis=0)[0]
        sure = own >= self.certain
        images = (
            label_image(probabilities, item.labels),
            labels,
            np.where(sure, labels, np.uint8(VOID)),
        )
        for kind, content in zip(KINDS, images, strict=True):
            write_bytes(mask_path(self.stage, kind, item), encode_label_image(content))


def _label_all(run: Run, stage: StageFolder, before: StageFolder, round_: int) -> dict[str, Any]:
    config, items = run.config.relabel, run.catalogue.train.items
    refine = refinement(run) if config.refine else NoRefinement()
    maker = _Maker(stage, config.certain, refine)
    missing = [item for item in items if not maker.is_made(item)]
    if missing:
        network = SegmenterTask.from_checkpoint(str(before.path / CHECKPOINT))
        task = LabelledPredictor(network, config.scales, flip=config.flip)
        _predict(run, stage, task, missing, maker)
    raise_if_any(maker.failures, len(items), "relabel")
    return {"images": len(items), "round": round_}


def _predict(
    run: Run, stage: StageFolder, task: LabelledPredictor, items: list[Item], maker: _Maker
) -> None:
    """Predict, and refine beside it where the network leaves the CPU to others."""

    def through(hand_over: Callable[[tuple[Item, Floats]], None]) -> Failures:
        def write(item: Item, probabilities: Tensor) -> None:
            hand_over((item, probabilities.cpu().numpy()))

        return predict(run, stage.path, task, items, write)

    if on_gpu(run.config.trainer):
        with Beside(maker.try_to_make, max(run.config.trainer.workers, 1)) as beside:
            unreadable = through(beside.submit)
    else:
        unreadable = through(maker.try_to_make)
    maker.failures.update(unreadable)


def _score(run: Run, stage: StageFolder) -> dict[str, Any] | None:
    """All kinds against ground truth; nothing that the run makes depends on it."""
    catalogue = run.catalogue
    if not catalogue.scored.has_masks:
        return None
    matrices = {kind: ConfusionMatrix(len(catalogue.classes) + 1) for kind in KINDS}
    matrices["masks"] = ConfusionMatrix(len(catalogue.classes) + 1, void="excluded")
    items = catalogue.scored.items
    with run.progress("scoring", len(items)) as step:
        for count, item in enumerate(items, start=1):
            truth = read_label_image(item.mask or "")
            for kind, matrix in matrices.items():
                matrix.update(read_label_image(mask_path(stage, kind, item)), truth)
            step(count, len(items))
    scores = {kind: matrix.as_dict(catalogue.classes) for kind, matrix in matrices.items()}
    return {**scores, "split": catalogue.scored.name, "images": len(items)}
