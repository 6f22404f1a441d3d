"""Names for the arrays that rooms hand to each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""Maps, probabilities or logits; a docstring gives the shape."""

Image = NDArray[np.uint8]
"""RGB [H, W, 3]."""

Pixels = NDArray[Any]
"""What a network is given: RGB uint8 [H, W, 3], or bands as float32 [H, W, channels]."""

LabelImage = NDArray[np.uint8]
"""[H, W]: 0 is background, class index + 1 a class, 255 void."""

BoolImage = NDArray[np.bool_]
"""[H, W]."""
