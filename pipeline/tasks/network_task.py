"""Base class of the training tasks: a network, its settings, and optional frozen layers."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Self

import pytorch_lightning as pl
from torch import Tensor, nn

from pipeline.base.config import ClassifierConfig, SegmenterConfig
from pipeline.base.errors import DataError
from pipeline.data.bands import Bands
from pipeline.networks.colours import IMAGENET, Colours, colours_of, with_colours
from pipeline.networks.depthwise import speed_up_depthwise
from pipeline.networks.freezing import layers_before
from pipeline.networks.pixels import memory_format
from pipeline.tasks.checkpoints import read_checkpoint
from pipeline.tasks.optimisation import batch_norms


class NetworkTask(pl.LightningModule):
    """A network to be trained. Subclasses set ``settings``, call ``use``, then ``freeze_part``.

    Args:
        settings: The fields of the task's configuration as plain values, so that a checkpoint
            contains only numbers and text.
        classes: Class names without the background.
        bands: The bands of the images as plain values; None for photos.

    Attributes:
        bands: The bands of the images; None for photos.
        colours: The mean and deviation that the network is trained with.
    """

    settings: ClassifierConfig | SegmenterConfig
    network: nn.Module
    colours: Colours
    group: ClassVar[str]  # of the settings, for messages
    source: ClassVar[str]  # the command that trains it, for messages

    def __init__(
        self, settings: dict[str, Any], classes: list[str], bands: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        facts = {"kind": kind, "settings": settings, "classes": classes, "bands": bands}
        self.save_hyperparameters(facts)
        self.bands = Bands.from_plain(bands) if bands else None
        self.classes = classes
        self._always_eval: list[nn.Module] = []

    @classmethod
    def from_config(
        cls,
        config: ClassifierConfig | SegmenterConfig,
        classes: tuple[str, ...],
        bands: Bands | None = None,
    ) -> Self:
        """A task with the settings of a configuration, and the network's own mean and deviation."""
        settings = asdict(with_colours(config, bands=bands))
        plain = {key: _plain(value) for key, value in settings.items()}
        return cls(plain, list(classes), bands.plain() if bands else None)

    @classmethod
    def from_checkpoint(cls, path: Path) -> Self:
        """The trained network of a checkpoint, in eval mode on the CPU.

        The initial weights of the training are not loaded again.

        Raises:
            DataError: It is damaged, of another kind of task, or of another version.
        """
        content = read_checkpoint(path)
        hyper, tensors = content["hyper_parameters"], content["state_dict"]
        if hyper.get("kind") != cls.__name__:
            raise DataError(
                f"{path}: a checkpoint of {hyper.get('kind', 'something else')}, where one of "
                f"{cls.__name__} is needed. {cls.source} writes those."
            )
        try:
            settings = {**_BEFORE, **hyper["settings"], "weights": "none"}
            task = cls(settings, hyper["classes"], hyper.get("bands"))
            task.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("loss.")})
        except (KeyError, TypeError, RuntimeError) as error:
            raise DataError(
                f"{path}: made by another version of this project ({error}). Train it again."
            ) from error
        return task.eval()

    def use(self, network: nn.Module) -> None:
        """Train this network, with the mean and deviation in ``settings``."""
        self._layout = memory_format(network)
        self.network = network.to(memory_format=self._layout)
        self.colours = colours_of(self.settings, self.bands)

    def inputs(self, images: Tensor) -> Tensor:
        """Normalised images of pixels, both [B, C, H, W]; see :meth:`Colours.normalise`."""
        return self.colours.normalise(images).contiguous(memory_format=self._layout)

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return self.bands.channels if self.bands else 3

    @property
    def title(self) -> str:
        """The settings that name the network."""
        raise NotImplementedError

    def loss_of(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of one batch of images and labels."""
        raise NotImplementedError

    def freeze_part(self, part: nn.Module, until: str, option: str, *, statistics: bool) -> None:
        """Freeze the first layers of a part of the network, and its batch statistics.

        Args:
            part: The pretrained part of the network.
            until: First layer of the part that learns; empty: all layers learn.
            option: Name of the setting with this layer, for the error.
            statistics: Whether to freeze batch statistics; weights and biases still learn.

        Raises:
            ConfigError: The layer does not exist.
        """
        first = layers_before(part, until, option) if until else []
        for layer in first:
            layer.requires_grad_(False)
        self._always_eval = [*first, *(batch_norms(part) if statistics else [])]

    def train(self, mode: bool = True) -> Self:
        """Set the training mode, except for frozen layers, which stay in eval mode."""
        super().train(mode)
        for layer in self._always_eval:
            layer.eval()
        return self

    def on_train_start(self) -> None:
        """Set the training mode, since Lightning keeps the mode that each layer is in."""
        speed_up_depthwise(self.network)
        self.train()


# What checkpoints lack that were written before means and deviations were settings.
_BEFORE = {"mean": list(IMAGENET.mean), "deviation": list(IMAGENET.deviation)}


def _plain(value: Any) -> Any:
    """A value that a checkpoint can store and read back without running code."""
    if isinstance(value, StrEnum):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
