"""Speed of training on a CPU by memory layout, precision, depthwise layers and reader processes.

Variants run in turn, for several rounds, in one process. Ratios are reliable, seconds are not.

    python benchmarks/cpu_training.py --backbone mobilenet_v2 --size 321 --batch 16
"""

from __future__ import annotations

import argparse
import statistics
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import multilabel_soft_margin_loss

from pipeline.base.config import ClassifierConfig, SegmenterConfig
from pipeline.data.catalogue import Item
from pipeline.data.datasets import EpochData, LabelledImages, classifier_transform
from pipeline.networks.backbones import build_classifier
from pipeline.networks.colours import IMAGENET
from pipeline.networks.depthwise import speed_up_depthwise
from pipeline.networks.freezing import layers_before
from pipeline.tasks.optimisation import batch_norms
from pipeline.tasks.segmenter import SegmenterTask


@dataclass(frozen=True)
class Variant:
    """Settings of a training step."""

    layout: torch.memory_format = torch.channels_last
    bfloat16: bool = True
    fast: bool = True  # faster depthwise layers, see pipeline/networks/depthwise.py
    filling: bool = False  # fill new tensors, the default of torch's deterministic algorithms
    frozen: bool = False  # freeze the first layers


CLASSIFIER = {
    "contiguous, float32": Variant(torch.contiguous_format, bfloat16=False, fast=False),
    "contiguous, bfloat16": Variant(torch.contiguous_format, fast=False),
    "channels-last, float32": Variant(bfloat16=False, fast=False),
    "channels-last, bfloat16": Variant(fast=False),
    "and fast depthwise layers": Variant(),
    "the same, deterministic and filling": Variant(filling=True),
    "the same without filling, first layers frozen": Variant(frozen=True),
}
SEGMENTER = {
    "channels-last, float32": Variant(bfloat16=False, fast=False),
    "channels-last, bfloat16": Variant(fast=False),
    "and fast depthwise layers": Variant(),
}


def seconds_per_step(network: nn.Module, images: torch.Tensor, variant: Variant) -> float:
    """Time of the forward and backward pass of one batch."""
    network.to(memory_format=variant.layout)
    images = images.contiguous(memory_format=variant.layout)
    torch.use_deterministic_algorithms(variant.filling)
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=variant.bfloat16):
        logits = network(images)
    logits.float().square().mean().backward()
    network.zero_grad(set_to_none=True)
    torch.use_deterministic_algorithms(False)
    return time.perf_counter() - start


def time_steps(
    network: nn.Module,
    images: torch.Tensor,
    variants: dict[str, Variant],
    rounds: int,
    freeze_until: str = "",
) -> dict[str, list[float]]:
    """Seconds of each variant: one warm-up round, then ``rounds`` rounds of all variants."""
    fast = deepcopy(network)
    speed_up_depthwise(fast)
    first_layers = layers_before(fast, freeze_until, "--freeze") if freeze_until else []
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, variant in variants.items():
            for layer in first_layers:
                layer.requires_grad_(not variant.frozen)
            chosen = fast if variant.fast else network
            times[name].append(seconds_per_step(chosen, images, variant))
    return times


def seconds_per_batch(network: nn.Module, data: EpochData, *, bfloat16: bool) -> float:
    """Mean time of a step whose batches are read and augmented by worker processes.

    The first step is left out, since workers start only once in a training.
    """
    network.to(memory_format=torch.channels_last)
    start, batches = 0.0, -1
    for images, labels in data.train_dataloader():
        pixels = IMAGENET.normalise(images).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = network(pixels)
        multilabel_soft_margin_loss(logits.float(), labels).backward()
        network.zero_grad(set_to_none=True)
        batches += 1
        start = start or time.perf_counter()
    return (time.perf_counter() - start) / batches


def photos(folder: Path, count: int) -> LabelledImages:
    """A training set of ``count`` random pictures of 500 x 375 px."""
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
    """Print medians and their ratios to the first variant, without the warm-up round."""
    table = Table("variant", "median s", "ratio to the first", title=title)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    first = next(iter(medians.values()))
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{median / first:.2f}")
    Console().print(table)


def main() -> None:
    """Print three tables of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", default="torchvision")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--encoder", default="mobilenet_v2", help="encoder of the segmenter")
    parser.add_argument("--size", type=int, default=321)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--freeze", default="backbone.7", help="first layer that learns (last row)")
    words = parser.parse_args()
    network = build_classifier(words.library, words.backbone, "none", 20).train()
    for layer in batch_norms(network):
        layer.eval()
    images = torch.rand(words.batch, 3, words.size, words.size)
    times = time_steps(network, images, CLASSIFIER, words.rounds, words.freeze)
    print_medians(f"{words.backbone}, one step, {tuple(images.shape)}", times)
    config = SegmenterConfig(encoder=words.encoder, freeze_batchnorm=False)
    segmenter = SegmenterTask.from_config(config, ("class",) * 20).network.train()
    times = time_steps(segmenter, torch.rand(8, 3, 256, 256), SEGMENTER, words.rounds)
    print_medians(f"{config.arch} on {words.encoder}, one step, (8, 3, 256, 256)", times)
    speed_up_depthwise(network)
    readers: dict[str, list[float]] = {f"workers={count}": [] for count in (0, 1, 2)}
    with TemporaryDirectory() as folder:
        dataset = photos(Path(folder), 10 * words.batch)
        for _ in range(words.rounds + 1):
            for name, values in readers.items():
                data = EpochData(dataset, words.batch, int(name.partition("=")[2]))
                values.append(seconds_per_batch(network, data, bfloat16=True))
    print_medians(f"{words.backbone}, a step with reading and augmentation", readers)


if __name__ == "__main__":
    main()
