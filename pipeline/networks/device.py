"""The device and the precision of networks."""

from __future__ import annotations

import os
from typing import Any

import torch

from pipeline.base.config import Accelerator, TrainerConfig
from pipeline.base.errors import ConfigError


def check_trainer(settings: TrainerConfig) -> None:
    """Refuse what this machine does not have, and what this project cannot use.

    Raises:
        ConfigError: There is no GPU, or there are several processes.
    """
    if settings.accelerator == Accelerator.gpu and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.accelerator: gpu, but torch sees none. Choose trainer=cpu or trainer=auto, or "
            "install the driver and a torch for CUDA."
        )
    if processes(settings) != 1:
        raise ConfigError(
            f"trainer.devices={settings.devices}, WORLD_SIZE={processes(settings)}: a run of "
            "several processes is not supported. Use one device; split the list of images "
            "over several runs instead."
        )


def on_gpu(settings: TrainerConfig) -> bool:
    """Whether networks run on a GPU."""
    return settings.accelerator != Accelerator.cpu and torch.cuda.is_available()


def device_of(settings: TrainerConfig) -> str:
    """The device of networks as torch calls it."""
    return "cuda" if on_gpu(settings) else "cpu"


def training_precision(settings: TrainerConfig) -> Any:
    """Lightning's name of the precision; ``auto`` means bfloat16 if the hardware supports it.

    On CPUs with bfloat16 instructions mixed precision is 1.7 times as fast as float32.
    """
    if settings.precision != "auto":
        return str(settings.precision)
    if on_gpu(settings):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if native else "16-mixed"
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
