"""The multi-label classifier as a Lightning task."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.functional import multilabel_soft_margin_loss
from torchmetrics.classification import BinaryAveragePrecision

from pipeline.base.config import ClassifierConfig
from pipeline.networks.backbones import ClassifierNet, build_classifier
from pipeline.tasks.losses import of_step
from pipeline.tasks.network_task import NetworkTask
from pipeline.tasks.optimisation import optimizer_and_schedule


class ClassifierTask(NetworkTask):
    """Learns from image labels which classes an image shows.

    Batches are ``(images [B, C, H, W], labels float [B, classes])``.

    Args:
        settings: The fields of ``ClassifierConfig`` as plain values, so that a checkpoint
            contains only numbers and text.
        classes: Class names.
        bands: The bands of the images as plain values; None for photos.
    """

    settings: ClassifierConfig
    network: ClassifierNet

    group, source = "classifier", "stage=classifier"

    def __init__(
        self, settings: dict[str, Any], classes: list[str], bands: dict[str, Any] | None = None
    ) -> None:
        super().__init__(settings, classes, bands)
        config = self.settings = ClassifierConfig(**settings)
        name, weights = config.backbone, config.weights
        self.use(build_classifier(config.library, name, weights, len(classes), self.channels))
        self.freeze_part(
            self.network,
            self.settings.freeze_until,
            "classifier.freeze_until",
            statistics=self.settings.freeze_batchnorm,
        )
        # One for each class: torchmetrics' multi-label metric refuses a single class.
        self.average_precisions = nn.ModuleList(BinaryAveragePrecision() for _ in classes)

    @property
    def title(self) -> str:
        """Library and name of the network."""
        return f"{self.settings.library}/{self.settings.backbone}"

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        logits: Tensor = self.network(self.inputs(images))
        return logits

    def loss_of(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The multi-label soft margin loss of one batch; of several processes, of their step."""
        images, labels = batch
        count = torch.full((), len(labels), device=labels.device)
        loss = multilabel_soft_margin_loss(self(images).float(), labels)
        return loss * (count / of_step(count))

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        """The loss of one batch, logged."""
        loss = self.loss_of(batch)
        self.log("loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        """Collect probabilities for the average precision."""
        images, labels = batch
        probabilities = self(images).float().sigmoid()
        for k, metric in enumerate(self.average_precisions):
            metric.update(probabilities[:, k], labels[:, k].int())  # type: ignore[operator]

    def on_validation_epoch_end(self) -> None:
        """Log the average precision of each class; it is undefined for classes without images."""
        for name, metric in zip(self.classes, self.average_precisions, strict=True):
            self.log(f"AP/{name}", metric.compute())  # type: ignore[operator]
            metric.reset()  # type: ignore[operator]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Two learning rates, each with a polynomial schedule over the steps."""
        backbone = [p for p in self.network.backbone.parameters() if p.requires_grad]
        head = self.network.head.parameters()
        steps = int(self.trainer.estimated_stepping_batches)
        return optimizer_and_schedule(self.settings, backbone, head, steps)
