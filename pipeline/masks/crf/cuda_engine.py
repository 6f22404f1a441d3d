"""The torch engine of the dense CRF on a GPU."""

from __future__ import annotations

from functools import partial

import torch

from pipeline.masks.crf import torch_engine
from pipeline.masks.crf.torch_engine import mean_field

__all__ = ["Lattice", "mean_field", "need_device"]

Lattice = partial(torch_engine.Lattice, device="cuda")


def need_device() -> None:
    """Raise unless torch can use a GPU.

    Raises:
        ImportError: It cannot.
    """
    if not torch.cuda.is_available():
        raise ImportError("torch sees no CUDA device")
