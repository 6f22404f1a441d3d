"""The device and the precision of networks."""

from __future__ import annotations

import os
from typing import Any

import torch

from pipeline.base.config import Accelerator, TrainerConfig


def on_gpu(settings: TrainerConfig) -> bool:
    """Whether networks run on a GPU."""
    return settings.accelerator != Accelerator.cpu and torch.cuda.is_available()


def training_precision(settings: TrainerConfig) -> Any:
    """Lightning's name of the precision; ``auto`` means bfloat16 if the hardware supports it.

    On CPUs with bfloat16 instructions mixed precision is 1.7 times as fast as float32.
    """
    if settings.precision != "auto":
        return str(settings.precision)
    if on_gpu(settings):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "bf16-mixed" if _cpu_has_bfloat16() else "32-true"


def numerics(settings: TrainerConfig) -> dict[str, Any]:
    """Everything that rounding in a training depends on, for its fingerprint.

    Returns:
        ``precision``: the precision that is used, never ``auto``. ``tf32``: whether a GPU may
        round the factors of float32 products to TensorFloat-32. ``processes``: their number.
    """
    convolutions = torch.backends.cudnn.allow_tf32
    products = torch.backends.cuda.matmul.allow_tf32
    return {
        "precision": training_precision(settings),
        "tf32": on_gpu(settings) and bool(convolutions or products),
        "processes": processes(settings),
    }


def processes(settings: TrainerConfig) -> int:
    """Number of processes requested by the launcher or the settings."""
    return max(int(os.environ.get("WORLD_SIZE", "1")), settings.devices)


def _cpu_has_bfloat16() -> bool:
    detailed = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(detailed()) if detailed else "AMX" in torch.backends.cpu.get_cpu_capability()
