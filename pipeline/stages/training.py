"""The Lightning trainer as this project uses it."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger

from pipeline.config import TrainerConfig
from pipeline.errors import ConfigError
from pipeline.stages.context import Run

CHECKPOINT = "last.ckpt"

_HARMLESS = (
    # The score comes after training, so that it cannot choose the checkpoint.
    ".*no `val_dataloader`.*",
    # An image without pixels has no result; it is noted and reported at the end.
    ".*predict returned None.*",
    # Few batches, few workers: both are choices here.
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*number of training batches.*",
    # Schedules are stepped by Lightning; its own order on resume is right.
    ".*lr_scheduler.step.*before.*optimizer.step.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*available but not used.*",
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",
)


def make_trainer(run: Run, folder: Path, **options: Any) -> pl.Trainer:
    """A trainer that logs to ``folder/logs`` and reads its device settings from the run."""
    settings = run.config.trainer
    check_one_process(settings)
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Deterministic mode would fill every new tensor before it is written: a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    callbacks: list[Callback] = list(options.pop("callbacks", []))
    if settings.progress:
        callbacks.append(TQDMProgressBar(refresh_rate=1 if os.isatty(2) else 20))
    loggers: list[Any] = [CSVLogger(folder, name="", version=_free_name(folder))]
    loggers += [instantiate(node, save_dir=folder) for node in run.config.logger.values()]
    defaults: dict[str, Any] = {
        "accelerator": settings.accelerator,
        "devices": settings.devices,
        "precision": "32-true",
        "logger": loggers,
        "callbacks": callbacks,
        "enable_progress_bar": settings.progress,
        "enable_model_summary": False,
        "deterministic": "warn",
        "log_every_n_steps": 1,
        "default_root_dir": folder,
    }
    if not any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
        defaults["enable_checkpointing"] = False
    return pl.Trainer(**{**defaults, **options})


class _SeedEveryStep(Callback):
    """Gives dropout the same chance in a step whether or not the run was killed before it."""

    def __init__(self, random_seed: int) -> None:
        self.random_seed = random_seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, _task: pl.LightningModule, _batch: object, _index: int
    ) -> None:
        """Seed torch by random seed, step and process."""
        parts = [self.random_seed, trainer.global_step, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1)[0]))


def check_one_process(settings: TrainerConfig) -> None:
    """Raise unless the run is one process on one device."""
    if settings.devices != 1 or int(os.environ.get("WORLD_SIZE", "1")) != 1:
        raise ConfigError(
            f"trainer.devices={settings.devices}, WORLD_SIZE={os.environ.get('WORLD_SIZE', '1')}: "
            "a run of several processes is not supported. They would remove each other's files. "
            "Use one device; split the list of images over several runs instead."
        )


def _free_name(folder: Path) -> str:
    """A log folder of its own for each session, since the logger empties what it is given."""
    sessions = len(list(folder.glob("logs*")))
    return f"logs-{sessions + 1}" if sessions else "logs"


def fit(run: Run, folder: Path, task: pl.LightningModule, data: Any, **options: Any) -> pl.Trainer:
    """Train to the last epoch, from the last checkpoint if a killed run left one.

    The checkpoint of every epoch replaces the one before it; the last one is kept.
    """
    checkpoint = folder / CHECKPOINT
    keeper = ModelCheckpoint(
        folder,
        filename=checkpoint.stem,
        save_top_k=1,
        monitor=None,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    trainer = make_trainer(
        run,
        folder,
        callbacks=[keeper, _SeedEveryStep(run.config.random_seed)],
        precision=training_precision(run.config.trainer),
        limit_val_batches=0,
        num_sanity_val_steps=0,
        **options,
    )
    resume = str(checkpoint) if checkpoint.exists() else None
    trainer.fit(task, data, ckpt_path=resume)
    return trainer


def training_precision(settings: TrainerConfig) -> Any:
    """What ``auto`` means: bfloat16 where the hardware multiplies it, else float32.

    On CPUs with bfloat16 instructions mixed precision is 1.7 times as fast as float32.
    """
    if settings.precision != "auto":
        return settings.precision
    if on_gpu(settings):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "bf16-mixed" if _cpu_has_bfloat16() else "32-true"


def on_gpu(settings: TrainerConfig) -> bool:
    """True if networks run on a GPU, and leave the CPU to others."""
    return settings.accelerator != "cpu" and torch.cuda.is_available()


def _cpu_has_bfloat16() -> bool:
    capabilities = torch.backends.cpu.get_cpu_capability() if hasattr(torch, "cpu") else ""
    detailed = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(detailed()) if detailed else "AMX" in capabilities
