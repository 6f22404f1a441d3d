"""What a segmenter says about one photo."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipeline.base.arrays import Floats, Image, LabelImage
from pipeline.data.palette import encode_label_image
from pipeline.masks.seed import label_image
from pipeline.report.pictures import overlay_labels


@dataclass(frozen=True)
class Prediction:
    """Labels and probabilities of one photo, at its own size.

    Attributes:
        probabilities: Float32 [classes + 1, H, W] of background and all classes, sum 1.
        classes: Names of the classes, without the background; value k + 1 is class k.
        image: The photo, RGB uint8 [H, W, 3], upright.

    Example:
        >>> planes = np.array([[[0.7, 0.2]], [[0.3, 0.8]]], dtype=np.float32)
        >>> result = Prediction(planes, ("cat",), np.zeros((1, 2, 3), np.uint8))
        >>> result.labels.tolist(), result.confidence.tolist(), result.pixels
        ([[0, 1]], [[0.699999988079071, 0.800000011920929]], {'background': 1, 'cat': 1})
    """

    probabilities: Floats
    classes: tuple[str, ...]
    image: Image = field(repr=False)

    @cached_property
    def labels(self) -> LabelImage:
        """The most probable label of each pixel, uint8 [H, W]; 0 is background."""
        return label_image(self.probabilities, range(len(self.classes)))

    @cached_property
    def confidence(self) -> Floats:
        """The probability of the label that was chosen, float32 [H, W] in [0, 1]."""
        return np.asarray(self.probabilities.max(axis=0))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all labels, the background first."""
        return ("background", *self.classes)

    @property
    def pixels(self) -> dict[str, int]:
        """Number of pixels of each label."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, counts, strict=True)}

    @property
    def certainty(self) -> dict[str, float | None]:
        """Mean confidence over the pixels of each label; None where it has none."""
        places = [self.labels == label for label in range(len(self.names))]
        means = [float(self.confidence[here].mean()) if here.any() else None for here in places]
        return dict(zip(self.names, means, strict=True))

    def overlay(self) -> Image:
        """The labels in colour over the grey photo, RGB uint8 [H, W, 3]."""
        return overlay_labels(self.image, self.labels)

    def png(self) -> bytes:
        """The labels as an indexed PNG file with the palette of VOC."""
        return encode_label_image(self.labels)
