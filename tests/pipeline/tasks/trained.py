"""A few real training steps of a task, as small as they come."""

import warnings

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


def noise():
    """Four images of 64 px and their label images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (4, 3, 64, 64), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 3, (4, 64, 64), generator=generator, dtype=torch.uint8)


def fitted(task, callbacks=(), labels=None):
    """The task after four steps on noise, with label images or with other labels."""
    images, label_images = noise()
    targets = label_images if labels is None else labels
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no loader for validation, few workers
        trainer.fit(task, DataLoader(TensorDataset(images, targets)))
    return task
