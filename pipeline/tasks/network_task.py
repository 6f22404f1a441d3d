"""What both training tasks are: a network with settings, of which a part may stay as it was."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import nn

from pipeline.base.config import ClassifierConfig, SegmenterConfig
from pipeline.networks.depthwise import quicken_depthwise
from pipeline.networks.freezing import layers_before
from pipeline.tasks.optimisation import batch_norms


class NetworkTask(pl.LightningModule):
    """A network that learns. Subclasses make ``network``, then call ``keep``.

    Args:
        settings: Fields of the task's configuration as plain values, so that a checkpoint holds
            nothing but numbers and text.
        classes: Class names without the background.
    """

    network: nn.Module

    def __init__(self, settings: dict[str, Any], classes: list[str]) -> None:
        super().__init__()
        self.save_hyperparameters({"settings": settings, "classes": classes})
        self.classes = classes
        self._still: list[nn.Module] = []

    @classmethod
    def from_config(
        cls, config: ClassifierConfig | SegmenterConfig, classes: tuple[str, ...]
    ) -> Self:
        """A task with the plain values of a configuration."""
        return cls({key: _plain(value) for key, value in asdict(config).items()}, list(classes))

    @classmethod
    def from_checkpoint(cls, path: str) -> Self:
        """The trained network of a checkpoint, in eval mode on the CPU.

        The weights that training started from are not needed any more, so they are not read.
        """
        content = torch.load(path, map_location="cpu", weights_only=True)
        hyper = content["hyper_parameters"]
        task = cls({**hyper["settings"], "weights": "none"}, hyper["classes"])
        tensors = content["state_dict"]
        task.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("loss.")})
        return task.eval()

    def keep(self, part: nn.Module, until: str, option: str, *, statistics: bool) -> None:
        """Keep a part of the network as it is, in training too.

        Args:
            part: Of the network, the one that was trained before.
            until: Its layers before this one learn nothing; empty for none.
            option: Where a person gives that name, for the error.
            statistics: Whether its batch statistics stay; weights and biases still learn.

        Raises:
            ConfigError: There is no such layer.
        """
        first = layers_before(part, until, option) if until else []
        for layer in first:
            layer.requires_grad_(False)
        self._still = [*first, *(batch_norms(part) if statistics else [])]

    def train(self, mode: bool = True) -> Self:
        """Training mode; what is to stay frozen does."""
        super().train(mode)
        for layer in self._still:
            layer.eval()
        return self

    def on_train_start(self) -> None:
        """Training mode: Lightning takes each layer in the mode that it finds it in."""
        quicken_depthwise(self.network)
        self.train()


def _plain(value: Any) -> Any:
    """A value that a checkpoint can hold and that is read back without running code."""
    if isinstance(value, StrEnum):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
