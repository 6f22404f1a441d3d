"""Training images whose void pixels count as background."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.data.datasets import MaskedImages


class VoidIsBackground(MaskedImages):
    """Augmented images with label images in which void is replaced by background.

    Padding that the augmentation adds stays void; the random choices are those of
    ``MaskedImages``.
    """

    def _augment(self, key: tuple[int, int], **arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
        mask = arrays["mask"]
        known = np.where(mask == VOID, BACKGROUND, mask).astype(mask.dtype)
        return super()._augment(key, **{**arrays, "mask": known})
