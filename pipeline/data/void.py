"""What the open pixels of a label image count as."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.data.datasets import MaskedImages


class VoidIsBackground(MaskedImages):
    """Images with a label image whose void pixels are background.

    What augmentation adds outside of the image stays void, and its chances are the same.
    """

    def _augment(self, key: tuple[int, int], **arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
        mask = arrays["mask"]
        known = np.where(mask == VOID, BACKGROUND, mask).astype(mask.dtype)
        return super()._augment(key, **{**arrays, "mask": known})
