"""Optimisers of the training tasks: two learning rates, each with a polynomial schedule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LambdaLR

from pipeline.base.config import Optimizer

_POWER = 0.9  # exponent of the polynomial schedule, the usual value in segmentation


class OptimiserSettings(Protocol):
    """The settings that an optimiser needs."""

    optimizer: Optimizer
    learning_rate: float
    head_learning_rate: float
    weight_decay: float
    warmup: float


def build_optimizer(
    settings: OptimiserSettings,
    backbone: Iterable[nn.Parameter],
    head: Iterable[nn.Parameter],
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, with a separate learning rate for the head."""
    groups = [
        {"params": list(backbone), "lr": settings.learning_rate},
        {"params": list(head), "lr": settings.head_learning_rate},
    ]
    if settings.optimizer == Optimizer.adamw:
        return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    return torch.optim.SGD(groups, momentum=0.9, weight_decay=settings.weight_decay)


def polynomial_schedule(optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> LambdaLR:
    """Learning rates that rise over a share ``warmup`` of the steps, then decay as (1 - t)^0.9."""

    def factor(step: int) -> float:
        done = min(step / max(steps, 1), 1.0)
        if done < warmup:
            return max(done / warmup, 1e-3)
        return float((1.0 - (done - warmup) / (1.0 - warmup)) ** _POWER)

    return LambdaLR(optimizer, factor)


def optimizer_and_schedule(
    settings: OptimiserSettings,
    backbone: Iterable[nn.Parameter],
    head: Iterable[nn.Parameter],
    steps: int,
) -> OptimizerLRSchedulerConfig:
    """The return value of Lightning's ``configure_optimizers``, with a schedule per step."""
    optimizer = build_optimizer(settings, backbone, head)
    schedule = polynomial_schedule(optimizer, steps, settings.warmup)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """The batch normalisation layers of a network."""
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
