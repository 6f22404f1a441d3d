"""The Lightning trainer as this project uses it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.strategies import DDPStrategy

from pipeline.base.ranks import first, here
from pipeline.base.said import silence_lightning
from pipeline.base.terminal import no_step
from pipeline.networks.device import on_gpu
from pipeline.stages.job import Job
from pipeline.tasks.checkpoints import AtomicCheckpoints


def make_trainer(job: Job, **options: Any) -> pl.Trainer:
    """A trainer that logs to ``logs`` in the stage's folder, on the device that the run names."""
    settings, place = job.settings.trainer, here()
    several = place.size > 1
    silence_lightning()
    # Deterministic mode would fill every new tensor before it is written: a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    callbacks: list[Callback] = [*options.pop("callbacks", []), _Progress(job)]
    defaults: dict[str, Any] = {
        "accelerator": "gpu" if on_gpu(settings) else "cpu",
        "devices": place.local_size,
        "num_nodes": place.size // place.local_size,
        # A static graph also takes networks with weights that no output depends on.
        "strategy": DDPStrategy(static_graph=True) if several else "auto",
        "use_distributed_sampler": False,  # which pads; stages share out the images themselves
        "precision": "32-true",
        "logger": False,
        "callbacks": callbacks,
        "plugins": [AtomicCheckpoints(), *([place.environment] if place.environment else [])],
        "enable_progress_bar": False,  # the run has its own, one for everything
        "enable_model_summary": False,
        # torch has it for GPUs; on CPUs each process has the statistics of its own images.
        "sync_batchnorm": several and on_gpu(settings),
        "deterministic": "warn",
        "log_every_n_steps": 1,
        "default_root_dir": job.folder,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
    }
    return pl.Trainer(**{**defaults, **options})


def loggers(job: Job) -> list[Any]:
    """CSV files, and the loggers that the run asks for."""
    csv = CSVLogger(job.folder, name="", version=first(lambda: _free_name(job.folder)))
    chosen = job.settings.logger.values()
    return [csv, *(job.build({**node, "save_dir": str(job.folder)}, "logger") for node in chosen)]


def _free_name(folder: Path) -> str:
    """A log folder of its own for each session, since the logger empties what it is given."""
    sessions = len(list(folder.glob("logs*")))
    return f"logs-{sessions + 1}" if sessions else "logs"


class _Progress(Callback):
    """Shows how far a training or a prediction is, as the run shows everything."""

    def __init__(self, job: Job) -> None:
        self.terminal, self.name = job.terminal, job.name
        self.open, self.step, self.total = ExitStack(), no_step, 0

    def _begin(self, total: float) -> None:
        self.total = int(total)
        self.step = self.open.enter_context(self.terminal.progress(self.name, self.total))

    def _end(self, *_: object) -> None:
        self.open.close()

    def on_train_start(self, trainer: pl.Trainer, _task: pl.LightningModule) -> None:
        """A bar of all epochs."""
        self._begin(trainer.estimated_stepping_batches)

    def on_train_batch_end(
        self, trainer: pl.Trainer, _task: pl.LightningModule, _out: Any, _batch: Any, _index: int
    ) -> None:
        """One step more."""
        epoch = f"{self.name} epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.step(trainer.global_step, self.total, epoch)

    def on_predict_start(self, trainer: pl.Trainer, _task: pl.LightningModule) -> None:
        """A bar of all images of this process."""
        self._begin(sum(trainer.num_predict_batches))

    def on_predict_batch_end(
        self, _trainer: pl.Trainer, _task: pl.LightningModule, _out: Any, _batch: Any, index: int,
        _loader: int = 0,
    ) -> None:  # fmt: skip
        """One image more."""
        self.step(index + 1, self.total)

    on_train_end = on_predict_end = on_exception = _end  # type: ignore[assignment]
