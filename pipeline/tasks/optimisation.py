"""What both training tasks share: two learning rates, a polynomial schedule, batch norms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pipeline.errors import ConfigError

_POWER = 0.9  # of the polynomial schedule, as everywhere in this field


class OptimiserSettings(Protocol):
    """The part of a configuration that an optimiser is made from."""

    optimizer: str
    learning_rate: float
    head_learning_rate: float
    weight_decay: float
    warmup: float


def build_optimizer(
    settings: OptimiserSettings,
    backbone: Iterable[nn.Parameter],
    head: Iterable[nn.Parameter],
) -> Optimizer:
    """SGD with momentum or AdamW, the head with a rate of its own.

    Raises:
        ConfigError: Another name.
    """
    groups = [
        {"params": list(backbone), "lr": settings.learning_rate},
        {"params": list(head), "lr": settings.head_learning_rate},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=settings.weight_decay)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    raise ConfigError(f"optimizer: {settings.optimizer!r} is unknown. Choose sgd or adamw.")


def polynomial_schedule(optimizer: Optimizer, steps: int, warmup: float) -> LambdaLR:
    """Learning rates that rise over ``warmup`` of the steps, then fall to zero as (1 - t)^0.9."""

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
    """What Lightning wants of ``configure_optimizers``; the schedule moves with every step."""
    optimizer = build_optimizer(settings, backbone, head)
    schedule = polynomial_schedule(optimizer, steps, settings.warmup)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Its batch normalisations: in eval mode their statistics stay, weights and biases learn."""
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
