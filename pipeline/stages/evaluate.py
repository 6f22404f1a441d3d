"""Stage 4: predictions of a network, or a folder of label images, against ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.artifacts import StageFolder, fingerprint, write_bytes
from pipeline.config import EvaluateConfig, SegmenterConfig
from pipeline.data.catalogue import Item, Split
from pipeline.data.checks import require_labels
from pipeline.data.images import read_image
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.errors import ConfigError, DataError, at_most
from pipeline.masks.refine import NeedsFeatures, Refinement
from pipeline.masks.seed import label_image
from pipeline.scoring import NAMES_GIVEN, score
from pipeline.stages import classifier, rounds, segmentation
from pipeline.stages.context import Run, build, number
from pipeline.stages.prediction import predict, raise_if_any
from pipeline.stages.refinement import refinement
from pipeline.stages.training import CHECKPOINT
from pipeline.tasks.predictor import ClassifierPrior, LabelledPredictor, Predictor
from pipeline.tasks.segmenter import SegmenterTask

EXPORT = Path("results/VOC2012/Segmentation/comp6_test_cls")


def folder(run: Run, labels: str | None = None, round_: int | None = None) -> StageFolder:
    """Where predictions and scores are, or will be; arguments as for the network."""
    config = replace(run.config.evaluate, classes=None, export=False)  # both are added afterwards
    given = _given_version(run, config)
    upstream = [] if given else [segmentation.folder(run, labels, round_)]
    if _needs_classifier(run):
        upstream.append(classifier.folder(run))
    name = "given" if given else rounds.variant(rounds.settings(run, labels, round_))
    return run.stage(
        "evaluate", f"{name}_{config.split}",
        __name__, upstream, evaluate=config, given=given,
        refine=run.config.refine if config.crf else None,
        ground_truth=run.truth_version(split_of(run)),
    )  # fmt: skip


def run(run: Run, labels: str | None = None, round_: int | None = None) -> StageFolder:
    """Score the run's network, ``evaluate.checkpoint`` or ``evaluate.masks`` on a split."""
    check_settings(run)
    config = rounds.settings(run, labels, round_)
    if scores_own_network(run):
        command = f"segmenter.labels={config.labels} segmenter.rounds={config.rounds}"
        network = segmentation.folder(run, labels, round_)
        run.require(network, f"stage=segmentation {command}")
    if _needs_classifier(run):
        run.require(classifier.folder(run), "stage=classifier")
    stage = folder(run, labels, round_)
    done = run.carry_out(stage, lambda stage: _evaluate(run, stage, config))
    scores, name = done.summary["scores"], rounds.described(config)
    if scores is None:
        run.say(f"network ({name})", "not scored: the split has no ground truth")
    else:
        run.say(f"mIoU, {name} ({scores['protocol']})", number(scores["mIoU"]))
        run.say_means({"mIoU": scores})
    run.say("predictions", str(done.summary["predictions"]))
    if run.config.evaluate.export:
        run.say("for the VOC server", str(_export(run, done)))
    return done


def scores_own_network(run: Run) -> bool:
    """False if another network, or masks, are given."""
    return run.config.evaluate.masks is None and run.config.evaluate.checkpoint is None


def _needs_classifier(run: Run) -> bool:
    """True if predictions depend on the run's classifier other than through the network."""
    config = run.config.evaluate
    looks = config.crf and isinstance(build(run.config.refine, "refine"), NeedsFeatures)
    return config.masks is None and (config.classifier_prior or looks)


def check_settings(run: Run) -> None:
    """Raise before any work if ``evaluate`` names what does not exist, or labels are missing."""
    split = split_of(run)
    if run.config.evaluate.names_given:
        require_labels(split, "evaluate.names_given=true")
    _ = run.chosen_classes  # which checks them
    for name in ("checkpoint", "masks"):
        given = getattr(run.config.evaluate, name)
        if given is not None and not Path(given).exists():
            raise ConfigError(
                f"evaluate.{name}: {given!r} does not exist. There would be nothing to score. "
                "Correct the path."
            )


def prediction_path(stage: StageFolder, item: Item) -> Path:
    """The label image predicted for an image."""
    return stage.path / "predictions" / f"{item.id}.png"


def _given_version(run: Run, config: EvaluateConfig) -> str | None:
    """Fingerprint of the masks or the network that is scored in place of the run's own."""
    if config.masks is not None:
        paths = (Path(config.masks) / f"{name}.png" for name in split_of(run).ids)
        return fingerprint([(str(p), p.stat().st_mtime_ns) for p in paths if p.exists()])
    if config.checkpoint is not None:
        path = Path(config.checkpoint)
        return f"{path}:{path.stat().st_mtime_ns if path.exists() else 'missing'}"
    return None


def split_of(run: Run) -> Split:
    """The split that ``evaluate.split`` names."""
    splits = {"train": run.catalogue.train, "scored": run.catalogue.scored,
              "val": run.catalogue.val}  # fmt: skip
    if run.config.evaluate.split not in splits:
        raise ConfigError(
            f"evaluate.split: {run.config.evaluate.split!r} is unknown. "
            f"Choose one of {', '.join(splits)}; data.val names the list behind val."
        )
    return splits[run.config.evaluate.split]


def _evaluate(run: Run, stage: StageFolder, recipe: SegmenterConfig) -> dict[str, Any]:
    config, split = run.config.evaluate, split_of(run)
    if config.masks is None:
        _predict(run, stage, split, recipe)
        masks = {item.id: prediction_path(stage, item) for item in split.items}
    else:
        masks = _given_masks(Path(config.masks), split)
    scores = _score(run, split, masks) if split.has_masks else None
    return {
        "scores": scores,
        "predictions": str(config.masks or stage.path / "predictions"),
        "labels": recipe.labels,
        "round": recipe.rounds,
    }


def _predict(run: Run, stage: StageFolder, split: Split, recipe: SegmenterConfig) -> None:
    refine = refinement(run) if run.config.evaluate.crf else None

    config, every_class = run.config.evaluate, range(len(run.catalogue.classes))

    def write(item: Item, probabilities: Tensor) -> None:
        classes = item.labels if config.names_given else every_class
        labels = _label_image(item, probabilities.cpu().numpy(), classes, refine)
        write_bytes(prediction_path(stage, item), encode_label_image(labels))

    missing = [item for item in split.items if not prediction_path(stage, item).exists()]
    prior = ClassifierPrior(classifier.load(run)) if config.classifier_prior else None
    predictor = LabelledPredictor if config.names_given else Predictor
    task = predictor(_network(run, recipe), config.scales, flip=config.flip, prior=prior)
    failures = predict(run, stage.path, task, missing, write) if missing else {}
    raise_if_any(failures, len(split.items), "evaluate")


def _label_image(
    item: Item,
    probabilities: NDArray[np.float32],
    classes: Sequence[int],
    refine: Refinement | None,
) -> NDArray[np.uint8]:
    """Probabilities of background and ``classes`` as a label image."""
    if refine is not None:
        probabilities = refine(read_image(item.image), [probabilities])[0]
    return label_image(probabilities, classes)


def _network(run: Run, recipe: SegmenterConfig) -> SegmenterTask:
    own = segmentation.folder(run, recipe.labels, recipe.rounds).path / CHECKPOINT
    path = run.config.evaluate.checkpoint or str(own)
    if not Path(path).is_file():
        raise ConfigError(f"evaluate.checkpoint: no file {path!r}. Give the path of a .ckpt file.")
    network = SegmenterTask.from_checkpoint(path)
    if tuple(network.classes) != run.catalogue.classes:
        raise ConfigError(
            f"evaluate.checkpoint: {path} knows {len(network.classes)} classes "
            f"({', '.join(network.classes)}), the data have {len(run.catalogue.classes)} "
            f"({', '.join(run.catalogue.classes)}). The scores would mean nothing. "
            "Choose the data that the network was trained on."
        )
    return network


def _given_masks(folder: Path, split: Split) -> dict[str, Path]:
    paths = {item.id: folder / f"{item.id}.png" for item in split.items}
    missing = [f"{path}: missing" for path in paths.values() if not path.is_file()]
    if missing:
        raise DataError(
            f"evaluate.masks: {len(missing)} of {len(paths)} images of {split.name!r} have no "
            "prediction. Leaving them out would inflate the score. Add them, or choose a split "
            f"that lists only what was predicted.\n{at_most(missing)}"
        )
    return paths


def _export(run: Run, stage: StageFolder) -> Path:
    """Write the layout of the VOC evaluation server."""
    source, target = Path(stage.summary["predictions"]), stage.path / EXPORT
    for name in split_of(run).ids:
        labels = read_label_image(source / f"{name}.png")
        write_bytes(target / f"{name}.png", encode_label_image(labels))
    return target


def _score(run: Run, split: Split, masks: dict[str, Path]) -> dict[str, Any]:
    classes = run.catalogue.classes
    with run.progress("scoring", len(split.items)) as step:

        def images() -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
            for count, item in enumerate(split.items, start=1):
                truth = read_label_image(item.mask or "")
                yield item.id, read_label_image(masks[item.id]), truth
                step(count, len(split.items))

        matrix = score(images(), len(classes) + 1)
    return {**matrix.as_dict(classes), "split": split.name, "images": len(split.items),
            "protocol": protocol(run.config.evaluate, split)}  # fmt: skip


def protocol(config: EvaluateConfig, split: Split) -> str:
    """In one line, how a number was made.

    Example:
        >>> protocol(EvaluateConfig(flip=True), Split("val", ()))
        'val, scale 1, flip, no CRF'
        >>> protocol(EvaluateConfig(crf=True), Split("val", ()))
        'val, scale 1, no flip, refined'
    """
    if config.masks is not None:
        return f"{split.name}, given masks"
    scales = "scale" if len(config.scales) == 1 else "scales"
    values = " ".join(f"{scale:g}" for scale in config.scales)
    flip = "flip" if config.flip else "no flip"
    crf = "refined" if config.crf else "no CRF"  # by the run's own refinement, whatever that is
    prior = ", times the classifier's odds" if config.classifier_prior else ""
    names = f", {NAMES_GIVEN}" if config.names_given else ""
    return f"{split.name}, {scales} {values}, {flip}, {crf}{prior}{names}"
