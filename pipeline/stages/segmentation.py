"""Stage 3: train a segmentation network on label images of the run, or its twin on ground truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.artifacts import StageFolder
from pipeline.config import SegmenterConfig
from pipeline.data.catalogue import BACKGROUND, VOID, Split
from pipeline.data.datasets import EpochData, MaskedImages, segmenter_transform
from pipeline.data.void import VoidIsBackground
from pipeline.errors import ConfigError, DataError
from pipeline.stages import classifier, pseudo_labels, rounds
from pipeline.stages.context import Run, build
from pipeline.stages.rounds import GROUND_TRUTH as GROUND_TRUTH
from pipeline.stages.rounds import PSEUDO as PSEUDO
from pipeline.stages.training import CHECKPOINT, fit
from pipeline.tasks.optimisation import build_optimizer
from pipeline.tasks.segmenter import SegmenterTask, initial_encoder_weights

_VOID = {"ignored": MaskedImages, "background": VoidIsBackground}


def folder(run: Run, labels: str | None = None, round_: int | None = None) -> StageFolder:
    """Where the network is, or will be.

    Args:
        run: Its settings.
        labels: What the network learned from; None for ``segmenter.labels``.
        round_: In which round; None for the last one, ``segmenter.rounds``.
    """
    return rounds.network(run, labels, round_)


def run(run: Run, labels: str | None = None, round_: int | None = None) -> StageFolder:
    """Train to the last epoch; that checkpoint is the result, whatever its score."""
    config = rounds.settings(run, labels, round_)
    if config.labels == PSEUDO:
        _require_masks_of_all(run)
        again = f"stage=relabel segmenter.rounds={config.rounds}"
        command = "stage=pseudo_labels" if config.rounds == 1 else again
        run.require(rounds.learned_from(run, config.rounds), command)
    stage = folder(run, labels, round_)
    done = run.carry_out(stage, lambda stage: _train(run, stage, config))
    run.say(f"network ({rounds.described(config)})", str(done.path / CHECKPOINT))
    return done


def has_twin(run: Run) -> bool:
    """True if the twin is wanted, can be trained, and would be compared with this network."""
    config = run.config
    given = config.evaluate.masks is not None or config.evaluate.checkpoint is not None
    wanted = config.segmenter.twin and config.segmenter.labels == PSEUDO and not given
    return wanted and run.catalogue.train.has_masks


def check_settings(run: Run) -> None:
    """Build the network once, before any work, so that what cannot work is known now."""
    config = rounds.settings(run)
    _check_choices(config)
    if config.labels == PSEUDO:
        _require_masks_of_all(run)
    weights = "none" if config.weights == "download" else config.weights
    task = SegmenterTask.from_config(replace(config, weights=weights), run.catalogue.classes)
    tensors = initial_encoder_weights(config)
    if tensors is not None:
        task.load_encoder(tensors, f"segmenter.weights={config.weights}")
    if config.weights == "classifier":
        network = classifier.untrained(run)
        task.load_encoder(network.state_dict(), "segmenter.weights=classifier")
    build_optimizer(config, task.parameters(), [])
    _check_loss(run)


def _check_loss(run: Run) -> None:
    """Let the loss judge two pixels, one of them void."""
    loss = build(run.config.segmenter.loss, "segmenter.loss")
    logits = torch.zeros(1, len(run.catalogue.classes) + 1, 1, 2)
    try:
        value = loss(logits, torch.tensor([[[BACKGROUND, VOID]]]))
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        name = run.config.segmenter.loss["_target_"]
        raise ConfigError(
            f"segmenter.loss: {name} cannot judge logits [B, L, H, W] and labels [B, H, W] with "
            f"void as {VOID} ({error}). Give its multi-class form and ignore_index={VOID}, as in "
            "'segmenter.loss={_target_: segmentation_models_pytorch.losses.DiceLoss, "
            f"mode: multiclass, ignore_index: {VOID}}}'."
        ) from error
    if not bool(torch.isfinite(value).all()):
        raise ConfigError(
            f"segmenter.loss: {run.config.segmenter.loss} is {value} for one background and one "
            "void pixel. Choose a loss with ignore_index=255."
        )


def _check_choices(config: SegmenterConfig) -> None:
    if config.void not in _VOID:
        raise ConfigError(
            f"segmenter.void: {config.void!r} is unknown. Choose one of {', '.join(_VOID)}."
        )
    if config.freeze_until and config.weights == "none":
        raise ConfigError(
            f"segmenter.freeze_until: {config.freeze_until!r} with segmenter.weights=none. Layers "
            "that learned nothing would stay so. Give the encoder weights, or freeze nothing."
        )


def _train(run: Run, stage: StageFolder, config: SegmenterConfig) -> dict[str, Any]:
    train = run.catalogue.train
    masks = _mask_paths(run, config, train)
    task = SegmenterTask.from_config(config, run.catalogue.classes)
    task.loss = build(config.loss, "segmenter.loss")
    _initialise(run, task, config)
    transform = segmenter_transform(config.size, config.scale, config.colour_jitter)
    # Void of ground truth is the outline of an object, which is nobody's background.
    images = _VOID[config.void] if config.labels == PSEUDO else MaskedImages
    data = EpochData(
        images(train.items, transform, run.config.random_seed, masks),
        config.batch_size,
        run.config.trainer.workers,
    )
    trainer = fit(
        run, stage.path, task, data,
        max_epochs=config.epochs, gradient_clip_val=config.gradient_clip,
    )  # fmt: skip
    loss = trainer.callback_metrics.get("loss")  # None if all epochs were done already
    last = None if loss is None else float(loss)
    return {
        "labels": config.labels, "round": config.rounds, "images": len(train.items),
        "last_loss": last,
    }  # fmt: skip


def _mask_paths(run: Run, config: SegmenterConfig, train: Split) -> dict[str, Path]:
    if config.labels == PSEUDO:
        made = rounds.learned_from(run, config.rounds)
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


def _require_masks_of_all(run: Run) -> None:
    count, split = run.config.saliency.images, run.config.saliency.split
    if split != "train":
        raise ConfigError(
            f"saliency.split: {split}. Those masks are to look at and to score: a network would "
            "learn from images that it is tested on. Set saliency.split=train, or stop at the "
            "masks with stage=masks."
        )
    if count is not None:
        raise ConfigError(
            f"saliency.images: {count}. Only so many images have masks, and a network would learn "
            "from those alone. Set saliency.images=null, or stop at the masks with stage=masks."
        )


def _initialise(run: Run, task: SegmenterTask, config: SegmenterConfig) -> None:
    tensors = initial_encoder_weights(config)
    if config.weights == "classifier":
        tensors = classifier.load(run).network.state_dict()
    if tensors is not None:
        task.load_encoder(tensors, f"segmenter.weights={config.weights}")
