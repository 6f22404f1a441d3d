"""Where networks run, and in which precision."""

from __future__ import annotations

import os
from typing import Any

import torch

from pipeline.base.config import Accelerator, TrainerConfig


def on_gpu(settings: TrainerConfig) -> bool:
    """True if networks run on a GPU and leave the CPU to other work."""
    return settings.accelerator != Accelerator.cpu and torch.cuda.is_available()


def training_precision(settings: TrainerConfig) -> Any:
    """Lightning's word for the precision; ``auto`` is bfloat16 where the hardware multiplies it.

    On CPUs with bfloat16 instructions mixed precision is 1.7 times as fast as float32.
    """
    if settings.precision != "auto":
        return str(settings.precision)
    if on_gpu(settings):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "bf16-mixed" if _cpu_has_bfloat16() else "32-true"


def numerics(settings: TrainerConfig) -> dict[str, Any]:
    """What rounding in a training depends on, as plain values for its fingerprint.

    Returns:
        ``precision``: the one that is used, never ``auto``. ``tf32``: whether a GPU may round
        the factors of float32 products to TensorFloat-32. ``processes``: how many share a step.
    """
    convolutions = torch.backends.cudnn.allow_tf32
    products = torch.backends.cuda.matmul.allow_tf32
    return {
        "precision": training_precision(settings),
        "tf32": on_gpu(settings) and bool(convolutions or products),
        "processes": processes(settings),
    }


def processes(settings: TrainerConfig) -> int:
    """Number of processes that the launcher or the settings ask for."""
    return max(int(os.environ.get("WORLD_SIZE", "1")), settings.devices)


def _cpu_has_bfloat16() -> bool:
    detailed = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(detailed()) if detailed else "AMX" in torch.backends.cpu.get_cpu_capability()
