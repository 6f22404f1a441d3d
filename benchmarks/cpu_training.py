"""What makes a training step fast on a CPU: memory layout, precision, deterministic filling.

All variants run in turn, several rounds, in one process; read the ratios, not the seconds.

    python benchmarks/cpu_training.py --backbone mobilenet_v2 --size 321 --batch 16
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import multilabel_soft_margin_loss

from pipeline.tasks.backbones import build_classifier
from pipeline.tasks.optimisation import freeze_batchnorm_statistics

VARIANTS = [
    ("contiguous, float32", torch.contiguous_format, False, False),
    ("contiguous, bfloat16", torch.contiguous_format, True, False),
    ("channels-last, float32", torch.channels_last, False, False),
    ("channels-last, bfloat16", torch.channels_last, True, False),
    ("the same, deterministic and filling", torch.channels_last, True, True),
]


def seconds_per_step(
    network: nn.Module, images: torch.Tensor, *, layout: torch.memory_format, bfloat16: bool
) -> float:
    """Forward and backward pass of one batch."""
    network.to(memory_format=layout)
    images = images.contiguous(memory_format=layout)
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = network(images)
    multilabel_soft_margin_loss(logits.float(), torch.zeros_like(logits).float()).backward()
    network.zero_grad(set_to_none=True)
    return time.perf_counter() - start


def main() -> None:
    """Print a table of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", default="torchvision")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=321)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    words = parser.parse_args()
    network = build_classifier(words.library, words.backbone, "none", 20).train()
    freeze_batchnorm_statistics(network)
    images = torch.rand(words.batch, 3, words.size, words.size)
    times: dict[str, list[float]] = {name: [] for name, *_ in VARIANTS}
    for _ in range(words.rounds + 1):
        for name, layout, bfloat16, filling in VARIANTS:
            torch.use_deterministic_algorithms(filling)
            times[name].append(seconds_per_step(network, images, layout=layout, bfloat16=bfloat16))
    table = Table("variant", "median s", "of the first", title=f"{words.backbone}, {images.shape}")
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    first = next(iter(medians.values()))
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{median / first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
