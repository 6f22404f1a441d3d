"""The segmenter as a Lightning task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import segmentation_models_pytorch as smp
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from segmentation_models_pytorch.encoders import encoders
from torch import Tensor, nn

from pipeline.base.config import SegmenterConfig
from pipeline.base.errors import ConfigError, reason
from pipeline.networks.first_layer import adapted
from pipeline.networks.pixels import pad_to_multiple, resize
from pipeline.tasks.checkpoints import read_checkpoint
from pipeline.tasks.losses import CrossEntropy, Loss
from pipeline.tasks.network_task import NetworkTask
from pipeline.tasks.optimisation import optimizer_and_schedule
from tsgb.explain.networks import published
from tsgb.explain.state_dicts import WeightsError, load_strictly, read_state_dict

_CORRECTED = "corrected"  # of a checkpoint
_STRIDE = 32  # largest stride of an encoder; sides must be multiples of it


class SegmenterTask(NetworkTask):
    """Learns a label for every pixel from label images; void pixels are ignored.

    Batches are ``(images [B, C, H, W], label images [B, H, W])``.

    Args:
        settings: The fields of ``SegmenterConfig`` as plain values.
        classes: Class names without the background.
        bands: The bands of the images as plain values; None for photos.

    Attributes:
        loss: The loss; it can be replaced by any callable of logits and labels.
    """

    settings: SegmenterConfig

    group, source = "segmenter", "stage=segmentation"

    def __init__(
        self, settings: dict[str, Any], classes: list[str], bands: dict[str, Any] | None = None
    ) -> None:
        super().__init__(settings, classes, bands)
        self.settings = SegmenterConfig(**settings)
        self.loss: Loss = CrossEntropy()
        _check_decay(self.settings.ema)
        self.use(_build(self.settings, len(classes) + 1, self.channels))
        self.freeze_part(
            self.encoder,
            self.settings.freeze_until,
            "segmenter.freeze_until",
            statistics=self.settings.freeze_batchnorm,
        )

    @property
    def title(self) -> str:
        """Names of architecture and encoder."""
        return f"arch={self.settings.arch} with encoder={self.settings.encoder}"

    @property
    def encoder(self) -> nn.Module:
        """The encoder; the rest of the network is decoder and head."""
        return cast(nn.Module, self.network.encoder)

    def note_corrected(self, ids: Sequence[str]) -> None:
        """Have the checkpoint list the images whose corrected masks it learns from."""
        self.hparams[_CORRECTED] = list(ids)

    def load_encoder(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Initialise the encoder with the weights of a classification network.

        Names may differ by a prefix (``backbone.``, ``features.``, ``model.``); the file must
        contain every tensor of the encoder in the right shape.

        Raises:
            ConfigError: A tensor is missing or has another shape; the message lists them.
        """
        wanted = set(self.encoder.state_dict())
        best = max((_renamed(tensors, a, b) for a in _FILE_PREFIXES for b in _ENCODER_PREFIXES),
                   key=lambda names: len(wanted & set(names)))  # fmt: skip
        try:
            best = adapted(best, self.encoder.state_dict(), self.channels)
            load_strictly(self.encoder, best, source, allow_unused=True)
        except WeightsError as error:
            raise ConfigError(str(error)) from error

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes + 1, H, W] of images [B, C, H, W]."""
        height, width = images.shape[-2:]
        logits: Tensor = self.network(self.inputs(pad_to_multiple(images.float(), _STRIDE)))
        return logits[..., :height, :width]

    def loss_of(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss over the pixels that are not void."""
        images, labels = batch
        return self.loss(self(images).float(), labels.long())

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        """The loss of one batch, logged."""
        loss = self.loss_of(batch)
        self.log("loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def predict_probabilities(
        self, image: Tensor, scales: Sequence[float], *, flip: bool, at_once: int = 2
    ) -> Tensor:
        """Class probabilities [classes + 1, H, W] of one image [1, C, H, W].

        Probabilities, not logits, are averaged over scales and flips, at the image's own size.
        ``at_once`` is the largest batch.
        """
        height, width = image.shape[-2:]
        total = torch.zeros(len(self.classes) + 1, height, width, device=image.device)
        for scale in scales:
            pixels = resize(image.float(), (round(height * scale), round(width * scale)))
            views = torch.cat([pixels, pixels.flip(-1)]) if flip else pixels
            logits = (one for some in views.split(at_once) for one in self(some).float())
            for index, one in enumerate(logits):
                straight = one.flip(-1) if index else one
                total += resize(straight[None], (height, width)).softmax(1)[0]
        return total / (len(scales) * (2 if flip else 1))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Two learning rates, each with a polynomial schedule over the steps."""
        known = {id(parameter) for parameter in self.encoder.parameters()}
        encoder = [p for p in self.encoder.parameters() if p.requires_grad]
        head = [p for p in self.network.parameters() if id(p) not in known]
        steps = int(self.trainer.estimated_stepping_batches)
        return optimizer_and_schedule(self.settings, encoder, head, steps)

    def configure_callbacks(self) -> list[Callback]:
        """With ``ema``, a callback that saves the moving average of the weights."""
        return [EMAWeightAveraging(decay=self.settings.ema)] if self.settings.ema else []


def corrected_in(checkpoint: Path) -> tuple[str, ...]:
    """Ids of the images whose corrected masks the segmenter in a checkpoint learned from.

    Raises:
        DataError: The file is damaged, or no checkpoint.
    """
    return tuple(read_checkpoint(checkpoint)["hyper_parameters"].get(_CORRECTED, ()))


_FROM_TIMM = "tu-"  # before the names of timm's networks in segmentation-models-pytorch
_FILE_PREFIXES = ("", "backbone.", "features.", "model.")  # possible prefixes of names in a file
_ENCODER_PREFIXES = ("", "features.", "model.")  # possible prefixes of names in an encoder


def _renamed(tensors: Mapping[str, Tensor], taken: str, given: str) -> dict[str, Tensor]:
    return {given + k[len(taken) :]: v for k, v in tensors.items() if k.startswith(taken)}


def _check_decay(decay: float) -> None:
    if not 0 <= decay < 1:
        raise ConfigError(
            f"segmenter.ema: {decay}. Choose a number in [0, 1): 0 for no average; 1 - 1/N "
            "averages over about the last N steps."
        )


def _build(settings: SegmenterConfig, classes: int, channels: int) -> nn.Module:
    download = settings.weights == "download"
    try:
        network: nn.Module = smp.create_model(
            settings.arch,
            encoder_name=settings.encoder,
            encoder_weights="imagenet" if download else None,
            classes=classes,
            in_channels=channels,
            **settings.options,
        )
    except Exception as error:  # libraries raise what they like, bare assertions included
        raise ConfigError(
            f"segmenter: segmentation-models-pytorch cannot make arch={settings.arch!r} with "
            f"encoder={settings.encoder!r}, weights={settings.weights!r} and options="
            f"{settings.options}: {reason(error)} Check the names (timm encoders are called "
            "tu-NAME), or choose another pair, since not every encoder suits every architecture. "
            f"Without an internet connection set segmenter.weights=FILE to the state dict of the "
            f"encoder{_published(settings.encoder)}."
        ) from error
    return network


def _published(encoder: str) -> str:
    """Where its library gets the weights of an encoder; empty where no record says so."""
    if encoder.startswith(_FROM_TIMM):
        return f": {published('timm', encoder.removeprefix(_FROM_TIMM))}"
    record = encoders.get(encoder, {}).get("pretrained_settings", {}).get("imagenet", {})
    place = record.get("repo_id")
    return f": model.safetensors of {place} on the Hugging Face hub" if place else ""


def initial_encoder_weights(settings: SegmenterConfig) -> dict[str, Tensor] | None:
    """The tensors of ``segmenter.weights`` if it is the path of a file, otherwise None.

    Raises:
        ConfigError: The file does not exist, or contains no tensors.
    """
    if settings.weights in ("none", "download", "classifier"):
        return None
    try:
        return read_state_dict(settings.weights)
    except WeightsError as error:
        raise ConfigError(f"segmenter.weights: {error}") from error
