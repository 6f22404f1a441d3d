"""The device and the precision of networks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipeline.base import ranks
from pipeline.base.config import Accelerator, TrainerConfig
from pipeline.base.errors import ConfigError

# Of every device but CPUs and CUDA.
UNTRIED = "is refused: nobody has tried this project on it, so that results could be wrong unseen."

_BESIDE_A_CPU, _BESIDE_A_GPU = 2, 8  # processes that load images


def check_trainer(settings: TrainerConfig) -> None:
    """Refuse what this machine does not have.

    Raises:
        ConfigError: There is no GPU, or not one for each process, or processes do not know of each
            other.
    """
    if settings.accelerator == Accelerator.gpu and not torch.cuda.is_available():
        raise ConfigError(
            f"trainer.accelerator: gpu, but torch sees none{_but_apples()}. Choose trainer=cpu or "
            "trainer=auto, or install the driver and a torch for CUDA."
        )
    place = ranks.here()
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if place.size == 1 and max(asked, settings.devices) > 1 and not ranks.is_launched():
        raise ConfigError(
            f"trainer.devices={settings.devices}, WORLD_SIZE={asked}: this process is on its own. "
            "Let `tsgb run`, torchrun or srun start the processes; a sweep has one for each job."
        )
    if on_gpu(settings) and place.local_size > torch.cuda.device_count():
        raise ConfigError(
            f"{place.local_size} processes on this machine, which see {torch.cuda.device_count()} "
            "GPU(s); each needs its own. Start fewer, or choose trainer=cpu. On SLURM let every "
            "task see all GPUs of its machine: --gres=gpu:N, not --gpus-per-task."
        )


def on_gpu(settings: TrainerConfig) -> bool:
    """Whether networks run on a GPU."""
    return settings.accelerator != Accelerator.cpu and torch.cuda.is_available()


def device_of(settings: TrainerConfig) -> str:
    """The device of this process's networks as torch calls it.

    Numbered, since "cuda" alone means the first GPU in every new thread.
    """
    return f"cuda:{ranks.here().local_rank}" if on_gpu(settings) else "cpu"


def workers_of(settings: TrainerConfig) -> int:
    """Processes that load images for this process; no result depends on their number.

    A GPU computes faster than two processes load; networks on a CPU need the cores themselves.
    """
    if settings.workers is not None:
        return settings.workers
    if not on_gpu(settings):
        return _BESIDE_A_CPU
    return max(min(_cores() // ranks.here().local_size, _BESIDE_A_GPU), 1)


def _cores() -> int:
    """Cores that this process may use: on a cluster those of its job."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


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
    """What rounding in a training depends on beside the number of processes.

    Returns:
        ``precision``: the precision that is used, never ``auto``. ``tf32``: whether a GPU may
        round the factors of float32 products to TensorFloat-32.
    """
    convolutions = torch.backends.cudnn.allow_tf32
    products = torch.backends.cuda.matmul.allow_tf32
    return {
        "precision": training_precision(settings),
        "tf32": on_gpu(settings) and bool(convolutions or products),
    }


@contextmanager
def exact_products() -> Iterator[None]:
    """No TensorFloat-32 in the block: float32 products on a GPU keep all their bits.

    TensorFloat-32 has 10 bits of mantissa in place of 23. Relevance is made of ratios, which would
    be right to three digits only.

    Example:
        >>> with exact_products():
        ...     torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        (False, False)
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    try:
        convolutions.allow_tf32 = products.allow_tf32 = False
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


def _but_apples() -> str:
    return f" but Apple's (mps), which {UNTRIED[:-1]}" if torch.backends.mps.is_available() else ""


def backend(settings: TrainerConfig) -> str:
    """How processes talk, in the words of torch.distributed: NCCL between GPUs, else gloo."""
    return "cpu:gloo,cuda:nccl" if on_gpu(settings) else "gloo"


def _cpu_has_bfloat16() -> bool:
    detailed = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(detailed()) if detailed else "AMX" in torch.backends.cpu.get_cpu_capability()
