"""The loss on held-out images during a training: a curve in the report, which steers nothing."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.data import default_collate

from pipeline.data.datasets import Squashed

LOSS = "held_out_loss"
"""Its name in the log."""

_COST = 50  # images learned from for each held-out one, which has no backward pass: 2 % at most
_MOST, _LEAST = 64, 8  # images; the loss of fewer says nothing
_POINTS = 8  # of the curve, at least


def plan(learned: int, held_out: int, epochs: int) -> tuple[int, int] | None:
    """How many held-out images are looked at, and after how many epochs each time.

    Args:
        learned: Number of images of an epoch.
        held_out: Number of images that can be looked at.
        epochs: Length of the training.

    Returns:
        None if a curve would have too few images for its share of the time.

    Example:
        >>> plan(400, 100, 40), plan(10582, 1449, 8), plan(40, 10, 8)
        ((40, 5), (64, 1), None)
    """
    budget = learned * epochs // _COST
    images = min(budget // min(_POINTS, epochs), held_out, _MOST)
    return (images, math.ceil(epochs / (budget // images))) if images >= _LEAST else None


class HeldOutLoss(Callback):
    """Logs the loss on some images after every few epochs.

    The images stay in memory. Neither the weights, nor their statistics, nor the random numbers of
    the training are touched.

    Args:
        images: Images of one size, with what the network should answer.
        every: Epochs from one look to the next.
    """

    def __init__(self, images: Squashed, every: int) -> None:
        self.images = images
        self.every = every

    @cached_property
    def _batch(self) -> list[Tensor]:
        whole: list[Tensor] = default_collate([self.images[k] for k in range(len(self.images))])
        return whole

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Log the loss, if it is due."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every == 0 or epoch == trainer.max_epochs:
            task.log(LOSS, self._loss(trainer, task), on_epoch=True)

    def _loss(self, trainer: pl.Trainer, task: Any) -> Tensor:
        images, labels = (part.to(task.device) for part in self._batch)
        task.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            loss: Tensor = task.loss_of((images, labels))
        task.train()
        return loss
