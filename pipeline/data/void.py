"""Void pixels that count as background."""

from __future__ import annotations

import numpy as np

from pipeline.base.arrays import LabelImage
from pipeline.data.catalogue import BACKGROUND, VOID


def void_is_background(labels: LabelImage) -> LabelImage:
    """A label image in which void is replaced by background.

    Padding that the augmentation adds afterwards stays void.

    Example:
        >>> void_is_background(np.array([[0, 2, 255]], dtype=np.uint8)).tolist()
        [[0, 2, 0]]
    """
    return np.where(labels == VOID, np.uint8(BACKGROUND), labels)
