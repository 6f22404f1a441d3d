"""Training to the last epoch, from the last checkpoint where a killed run left one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from pipeline.base.errors import DataError
from pipeline.base.files import put_aside
from pipeline.base.ranks import first
from pipeline.data.datasets import Augmented, EpochData
from pipeline.networks.device import on_gpu, training_precision, workers_of
from pipeline.stages.job import Job
from pipeline.stages.own_files import CHECKPOINT
from pipeline.stages.trainer import loggers, make_trainer
from pipeline.tasks.checkpoints import check_whole, previous


def seed_everything(job: Job) -> None:
    """Seed Python, numpy and torch, so that a network begins with the same weights."""
    pl.seed_everything(job.settings.random_seed, workers=True, verbose=False)


class LengthSettings(Protocol):
    """The settings that the length of a training depends on."""

    epochs: int
    min_steps: int
    batch_size: int


def enough_epochs(settings: LengthSettings, images: int) -> int:
    """``epochs``, or more where ``images`` are so few that they give fewer than ``min_steps``.

    An epoch has only whole batches, but at least one.

    Example:
        >>> from pipeline.base.config import SegmenterConfig
        >>> few = SegmenterConfig(epochs=9, min_steps=400, batch_size=8)
        >>> [enough_epochs(few, images) for images in (5, 48, 1000)]
        [400, 67, 9]
    """
    steps = max(images // settings.batch_size, 1)
    return max(settings.epochs, math.ceil(settings.min_steps / steps))


class _SeedEveryStep(Callback):
    """Gives dropout the same masks in a step whether or not the run was killed before it."""

    def __init__(self, random_seed: int) -> None:
        self.random_seed = random_seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, _task: pl.LightningModule, _batch: object, _index: int
    ) -> None:
        """Seed torch by random seed, step and process."""
        parts = [self.random_seed, trainer.global_step, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1)[0]))


def training_data(job: Job, images: Augmented, batch_size: int) -> EpochData:
    """Batches of the images, loaded as the run's settings of the hardware say."""
    trainer = job.settings.trainer
    return EpochData(images, batch_size, workers_of(trainer), pinned=on_gpu(trainer))


def fit(
    job: Job,
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> pl.Trainer:
    """Train to the last epoch; resume a killed session from its last whole checkpoint."""
    checkpoint = job.folder / CHECKPOINT
    resumed = first(lambda: _resumable(job, checkpoint))
    keeper = ModelCheckpoint(
        job.folder,
        filename=checkpoint.stem,
        save_top_k=1,
        monitor=None,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    trainer = make_trainer(
        job,
        callbacks=[keeper, _SeedEveryStep(job.settings.random_seed), *callbacks],
        logger=loggers(job),
        precision=training_precision(job.settings.trainer),
        limit_val_batches=0,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(task, data, ckpt_path=str(resumed) if resumed else None, weights_only=True)
    first(lambda: previous(checkpoint).unlink(missing_ok=True))
    return trainer


def _resumable(job: Job, checkpoint: Path) -> Path | None:
    """The newest whole checkpoint of a killed session; damaged ones are put aside."""
    for path in (checkpoint, previous(checkpoint)):
        try:
            if path.exists():
                check_whole(path)
                return path
        except DataError as error:
            job.terminal.note(f"{error} It was renamed {put_aside(path).name}.")
    return None
