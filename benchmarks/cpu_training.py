"""What makes training fast on a CPU: memory layout, precision, filling, frozen layers, readers.

Variants run in turn, several rounds, in one process; read the ratios, not the seconds.

    python benchmarks/cpu_training.py --backbone mobilenet_v2 --size 321 --batch 16
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import multilabel_soft_margin_loss

from pipeline.config import ClassifierConfig
from pipeline.data.catalogue import Item
from pipeline.data.datasets import EpochData, LabelledImages, classifier_transform
from pipeline.tasks.backbones import build_classifier
from pipeline.tasks.freezing import layers_before
from pipeline.tasks.optimisation import freeze_batchnorm_statistics
from pipeline.tasks.pixels import normalise_colours

VARIANTS = [
    ("contiguous, float32", torch.contiguous_format, False, False, False),
    ("contiguous, bfloat16", torch.contiguous_format, True, False, False),
    ("channels-last, float32", torch.channels_last, False, False, False),
    ("channels-last, bfloat16", torch.channels_last, True, False, False),
    ("the same, deterministic and filling", torch.channels_last, True, True, False),
    ("the same without filling, first layers frozen", torch.channels_last, True, False, True),
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


def seconds_per_batch(network: nn.Module, data: EpochData, *, bfloat16: bool) -> float:
    """Forward and backward pass of a batch that is read and augmented beside it, on average.

    Timed from the end of the first one, since workers start once in a training.
    """
    network.to(memory_format=torch.channels_last)
    start, batches = 0.0, -1
    for images, labels in data.train_dataloader():
        pixels = normalise_colours(images).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = network(pixels)
        multilabel_soft_margin_loss(logits.float(), labels).backward()
        network.zero_grad(set_to_none=True)
        batches += 1
        start = start or time.perf_counter()
    return (time.perf_counter() - start) / batches


def photos(folder: Path, count: int) -> LabelledImages:
    """A training set of ``count`` pictures of 500 x 375 px."""
    generator = np.random.default_rng(0)
    items = []
    for index in range(count):
        pixels = generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        path = folder / f"{index}.jpg"
        cv2.imwrite(str(path), cv2.resize(pixels, (500, 375), interpolation=cv2.INTER_CUBIC))
        items.append(Item(str(index), path, (0,)))
    config = ClassifierConfig()
    transform = classifier_transform(
        config.size, config.crop_area, config.colour_jitter, 0.0, vertical_flip=False
    )
    return LabelledImages(items, transform, 0, 20)


def print_medians(title: str, times: dict[str, list[float]]) -> None:
    """A table of medians and their ratios to the first; the first round warms up."""
    table = Table("variant", "median s", "of the first", title=title)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    first = next(iter(medians.values()))
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{median / first:.2f}")
    Console().print(table)


def main() -> None:
    """Print two tables of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", default="torchvision")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=321)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--freeze", default="backbone.7", help="first layer that learns, last row")
    words = parser.parse_args()
    network = build_classifier(words.library, words.backbone, "none", 20).train()
    freeze_batchnorm_statistics(network)
    first_layers = layers_before(network, words.freeze, "--freeze")
    images = torch.rand(words.batch, 3, words.size, words.size)
    times: dict[str, list[float]] = {name: [] for name, *_ in VARIANTS}
    for _ in range(words.rounds + 1):
        for name, layout, bfloat16, filling, frozen in VARIANTS:
            torch.use_deterministic_algorithms(filling)
            for layer in first_layers:
                layer.requires_grad_(not frozen)
            times[name].append(seconds_per_step(network, images, layout=layout, bfloat16=bfloat16))
    torch.use_deterministic_algorithms(False)
    network.requires_grad_(True)
    print_medians(f"{words.backbone}, one step, {tuple(images.shape)}", times)
    readers: dict[str, list[float]] = {f"workers={count}": [] for count in (0, 1, 2)}
    with TemporaryDirectory() as folder:
        dataset = photos(Path(folder), 10 * words.batch)
        for _ in range(words.rounds):
            for name, values in readers.items():
                data = EpochData(dataset, words.batch, int(name.partition("=")[2]))
                values.append(seconds_per_batch(network, data, bfloat16=True))
    print_medians(f"{words.backbone}, a step with reading and augmentation", readers)


if __name__ == "__main__":
    main()
