"""Stage 3: train a segmentation network on the pseudo-masks, or its twin on ground truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.artifacts import StageFolder
from pipeline.config import SegmenterConfig
from pipeline.data.catalogue import Split
from pipeline.data.datasets import EpochData, MaskedImages, segmenter_transform
from pipeline.errors import ConfigError, DataError
from pipeline.stages import classifier, pseudo_labels
from pipeline.stages.context import Run, weights_version
from pipeline.stages.training import CHECKPOINT, fit
from pipeline.tasks.optimisation import build_optimizer
from pipeline.tasks.segmenter import SegmenterTask, initial_encoder_weights

PSEUDO, GROUND_TRUTH = "pseudo", "ground_truth"


def folder(run: Run, labels: str | None = None) -> StageFolder:
    """Where the network is, or will be."""
    config = _settings(run, labels)
    upstream = []
    if config.labels == PSEUDO:
        upstream.append(pseudo_labels.folder(run))
    if config.weights == "classifier":
        upstream.append(classifier.folder(run))
    settings = replace(config, weights=weights_version(config.weights))
    learned = run.truth_version(run.catalogue.train) if config.labels == GROUND_TRUTH else None
    return run.stage(
        "segmentation", config.labels, __name__, upstream,
        segmenter=settings, precision=run.config.trainer.precision, ground_truth=learned,
    )  # fmt: skip


def run(run: Run, labels: str | None = None) -> StageFolder:
    """Train to the last epoch; that checkpoint is the result, whatever its score."""
    config = _settings(run, labels)
    if config.labels == PSEUDO:
        run.require(pseudo_labels.folder(run), "stage=pseudo_labels")
    done = run.carry_out(folder(run, labels), lambda stage: _train(run, stage, config))
    run.say(f"network ({config.labels} labels)", str(done.path / CHECKPOINT))
    return done


def has_twin(run: Run) -> bool:
    """True if the twin is wanted, can be trained, and would be compared with this network."""
    config = run.config
    given = config.evaluate.masks is not None or config.evaluate.checkpoint is not None
    wanted = config.segmenter.twin and config.segmenter.labels == PSEUDO and not given
    return wanted and run.catalogue.train.has_masks


def check_settings(run: Run) -> None:
    """Build the network once, before any work, so that what cannot work is known now."""
    config = _settings(run, None)
    weights = "none" if config.weights == "download" else config.weights
    task = SegmenterTask.from_config(replace(config, weights=weights), run.catalogue.classes)
    tensors = initial_encoder_weights(config)
    if tensors is not None:
        task.load_encoder(tensors, f"segmenter.weights={config.weights}")
    if config.weights == "classifier":
        network = classifier.untrained(run)
        task.load_encoder(network.state_dict(), "segmenter.weights=classifier")
    build_optimizer(config, task.parameters(), [])


def _settings(run: Run, labels: str | None) -> SegmenterConfig:
    config = replace(run.config.segmenter, labels=labels or run.config.segmenter.labels, twin=False)
    if config.labels not in (PSEUDO, GROUND_TRUTH):
        raise ConfigError(
            f"segmenter.labels: {config.labels!r} is unknown. Choose {PSEUDO} or {GROUND_TRUTH}."
        )
    return config


def _train(run: Run, stage: StageFolder, config: SegmenterConfig) -> dict[str, Any]:
    train = run.catalogue.train
    masks = _mask_paths(run, config, train)
    task = SegmenterTask.from_config(config, run.catalogue.classes)
    _initialise(run, task, config)
    transform = segmenter_transform(config.size, config.scale, config.colour_jitter)
    data = EpochData(
        MaskedImages(train.items, transform, run.config.random_seed, masks),
        config.batch_size,
        run.config.trainer.workers,
    )
    trainer = fit(
        run, stage.path, task, data,
        max_epochs=config.epochs, gradient_clip_val=config.gradient_clip,
    )  # fmt: skip
    loss = trainer.callback_metrics.get("loss")  # None if all epochs were done already
    last = None if loss is None else float(loss)
    return {"labels": config.labels, "images": len(train.items), "last_loss": last}


def _mask_paths(run: Run, config: SegmenterConfig, train: Split) -> dict[str, Path]:
    if config.labels == PSEUDO:
        made = pseudo_labels.folder(run)
        return {item.id: pseudo_labels.mask_path(made, "masks", item) for item in train.items}
    without = [item.id for item in train.items if item.mask is None]
    if without:
        raise DataError(
            f"segmenter.labels=ground_truth: {len(without)} of {len(train.items)} images of "
            f"{train.name!r} have no mask, the first is {without[0]!r}. The twin would learn from "
            "less than the network that it is compared with. Set segmenter.twin=false, or give "
            "masks for all of them (on VOC: data.train_masks=SegmentationClassAug)."
        )
    return {item.id: item.mask for item in train.items if item.mask is not None}


def _initialise(run: Run, task: SegmenterTask, config: SegmenterConfig) -> None:
    tensors = initial_encoder_weights(config)
    if config.weights == "classifier":
        tensors = classifier.load(run).network.state_dict()
    if tensors is not None:
        task.load_encoder(tensors, f"segmenter.weights={config.weights}")
