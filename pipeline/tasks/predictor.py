"""Prediction of class probabilities of every pixel, as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from pipeline.base.errors import DataError, failure_of_image
from pipeline.networks.pixels import resize
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.segmenter import SegmenterTask

Batch = tuple[Tensor, Tensor, Sequence[str]]


class ClassifierPrior(nn.Module):
    """One factor per class, by which a classifier reduces the segmenter's probabilities.

    The factor of a class is its odds ``p / (1 - p)`` in the image, at most 1: probabilities of a
    class with p >= 0.5 are unchanged, those of a class with p = 0.1 are divided by nine.

    Args:
        classifier: A classifier of the segmenter's classes, in the same order.
    """

    def __init__(self, classifier: ClassifierTask) -> None:
        super().__init__()
        self.classifier = classifier
        self.side = classifier.settings.size

    def forward(self, image: Tensor, *, flip: bool) -> Tensor:
        """Factors [classes + 1] of one image [1, C, H, W]; that of the background is 1.

        The image is resized to a square, as for the validation of the classifier.
        """
        odds = self.believed(image, flip=flip).logit().exp()
        return torch.cat([odds.new_ones(1), odds.clamp(max=1)])

    def believed(self, image: Tensor, *, flip: bool) -> Tensor:
        """The classifier's probability of each class, [classes], in an image like that."""
        square = resize(image.float(), (self.side, self.side))
        batch = torch.cat([square, square.flip(-1)]) if flip else square
        probabilities: Tensor = self.classifier(batch).float().sigmoid().mean(0)
        return probabilities


class ImagePredictor(pl.LightningModule):
    """Predicts one image a batch: ``(image [1, C, H, W], classes of its label [1, K], id)``.

    Subclasses define :meth:`predict_image`.

    Attributes:
        at_once: How many of an image and its mirror image the network gets in one batch.
    """

    at_once = 2

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _loader: int) -> Batch:
        """The image moves; its classes stay on the CPU, where they are checked and counted."""
        return batch[0].to(device, non_blocking=True), batch[1], batch[2]

    def predict_step(self, batch: Batch, _index: int) -> Tensor | Exception:
        """The prediction for a batch of one image, or the reason why it has none."""
        image, targets = batch[0], batch[1]
        if image.numel() == 0:
            return DataError("cannot be read any more")
        try:
            return self.predicted(image, targets)
        except Exception as error:
            if failure_of_image(error) is None:
                raise
            return error.with_traceback(None)  # the trace holds on to the memory of the image

    def predicted(self, image: Tensor, targets: Tensor) -> Tensor:
        """:meth:`predict_image`; if a GPU has too little memory for it, again with less at once.

        Raises:
            torch.OutOfMemoryError: That was too much, too.
        """
        try:
            return self.predict_image(image, targets)
        except torch.OutOfMemoryError:
            self.at_once = 1  # and no more in this block: the error holds on to the memory
        torch.cuda.empty_cache()
        try:
            return self.predict_image(image, targets)
        finally:
            self.at_once = 2

    def predict_image(self, image: Tensor, targets: Tensor) -> Tensor:
        """The prediction for an image [1, C, H, W] with the classes [1, K]."""
        raise NotImplementedError


class Predictor(ImagePredictor):
    """Class probabilities [classes + 1, H, W] of one image at its own size.

    Args:
        network: The segmenter.
        scales: Scales of the image; probabilities are averaged over them.
        flip: Average over the mirrored image too.
        prior: Factors of the classes by which the probabilities are multiplied.
    """

    def __init__(
        self,
        network: SegmenterTask,
        scales: Sequence[float],
        *,
        flip: bool,
        prior: ClassifierPrior | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.scales = scales
        self.flip = flip
        self.prior = prior

    @torch.no_grad()
    def predict_image(self, image: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Probabilities of background and all classes, sum 1."""
        planes = self.network.predict_probabilities(
            image, self.scales, flip=self.flip, at_once=self.at_once
        )
        if self.prior is None:
            return planes
        return _sum_to_one(planes * self.prior(image, flip=self.flip)[:, None, None])


class LabelledPredictor(Predictor):
    """Probabilities [K + 1, H, W] of the background and the K classes in the image's label.

    For images with a known label, such as training images.
    """

    def predict_image(self, image: Tensor, targets: Tensor) -> Tensor:
        """Probabilities of background and the classes in the label, sum 1."""
        planes = super().predict_image(image, targets)
        chosen = (targets[0] + 1).to(planes.device, non_blocking=True)
        return _sum_to_one(torch.cat([planes[:1], planes[chosen]]))


def _sum_to_one(planes: Tensor) -> Tensor:
    return planes / planes.sum(0).clamp(min=1e-20)
