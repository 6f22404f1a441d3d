"""Speed and memory of every stage on a GPU, beside the limit of each.

The limit of a stage is what it cannot be faster than: a plain forward pass for maps and
predictions, forward and backward pass of the bare network for a training step. Pixels and weights
are random; nothing is downloaded. Maps and predictions are made in float32; trainings in "float32"
round convolutions to TensorFloat-32, as torch does by itself. The tests that compare a GPU with the
CPU run first, for at most three minutes; measurements end after the minutes that are given.

    python benchmarks/gpu.py

On a machine without a GPU, and with --quick, everything is tiny, to see that it runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pipeline.base.config import ClassifierConfig, SegmenterConfig, TrainerConfig
from pipeline.data.catalogue import Item
from pipeline.data.datasets import (
    EpochData,
    LabelledImages,
    MaskedImages,
    classifier_transform,
    segmenter_transform,
)
from pipeline.masks.refine import CRFRefinement
from pipeline.networks.colours import IMAGENET
from pipeline.networks.device import device_of, exact_products, on_gpu, workers_of
from pipeline.stages.measuring import peak_bytes, timed
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.network_task import NetworkTask
from pipeline.tasks.optimisation import build_optimizer
from pipeline.tasks.segmenter import SegmenterTask
from tsgb import TSGB

ROOT = Path(__file__).parent.parent
PHOTO = (375, 500)  # height and width of most photos of VOC, px
CLASSES = tuple(f"class {k}" for k in range(20))
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
Work = Callable[[], object]


@dataclass(frozen=True)
class Plan:
    """What is measured, on which networks."""

    library: str = "torchvision"
    backbone: str = "resnet50"
    arch: str = "deeplabv3plus"
    encoder: str = "resnet50"
    layer: str = "backbone.layer3"
    sizes: tuple[int, ...] = (224, 512)
    batches: tuple[int, ...] = (1, 16, 128)
    counts: tuple[int, ...] = (1, 4, 20)  # classes of an image
    photo: tuple[int, int] = PHOTO
    images: int = 256  # of the loader and the CRF
    seconds: float = 0.5  # of each measurement, after the warm-up


QUICK = Plan(
    library="timm", backbone="test_resnet", arch="linknet", encoder="tu-test_resnet",
    sizes=(64,), batches=(1, 2), counts=(1, 2), photo=(48, 64), images=8, seconds=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One measurement: how many images a call of ``work`` is about, and of its limit, if any."""

    stage: str
    what: str
    images: int
    work: Work
    limit: Work | None = None


class Bench:
    """Measures rows until the time is up, and prints them as one table."""

    def __init__(self, plan: Plan, device: str, deadline: float) -> None:
        self.plan = plan
        self.device = torch.device(device)
        self.deadline = deadline
        self.table = Table(
            "stage", "what", "images/s", "limit, images/s", "share", "peak MiB", title=machine()
        )

    def add(self, row: Row) -> None:
        """Measure a row; say why, where that is not possible."""
        if time.monotonic() > self.deadline:
            self.table.add_row(row.stage, row.what, "time is up", "", "", "")
            return
        try:
            rate, limit = self.rate(row.images, row.work), None
            if row.limit is not None:
                limit = self.rate(row.images, row.limit)
            memory = peak_bytes(row.work, self.device) / 2**20 if self.on_gpu else None
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            self.table.add_row(row.stage, row.what, "out of memory", "", "", "")
            return
        share = None if limit is None else rate / limit
        cells = (_cell(rate, "1"), _cell(limit, "1"), _cell(share, "2"), _cell(memory, "0"))
        self.table.add_row(row.stage, row.what, *cells)

    def rate(self, images: int, work: Work) -> float:
        """Images per second: the fastest call of those that fit into the time, after two others."""
        for _ in range(2):
            work()
        best, until = float("inf"), time.monotonic() + self.plan.seconds
        while best == float("inf") or time.monotonic() < until:
            best = min(best, timed(work, self.device)[1])
        return images / best

    @property
    def on_gpu(self) -> bool:
        """Whether this is a measurement of a GPU."""
        return self.device.type == "cuda"


def _cell(value: float | None, digits: str) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def machine() -> str:
    """The hardware, in words."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{gpu}, {os.cpu_count()} cores, torch {torch.__version__}"


def classifier_of(plan: Plan) -> ClassifierTask:
    """An untrained classifier."""
    config = ClassifierConfig(library=plan.library, backbone=plan.backbone)  # type: ignore[arg-type]
    return ClassifierTask.from_config(config, CLASSES)


def segmenter_of(plan: Plan) -> SegmenterTask:
    """An untrained segmenter."""
    config = SegmenterConfig(arch=plan.arch, encoder=plan.encoder)
    return SegmenterTask.from_config(config, CLASSES)


def noise(count: int, height: int, width: int, device: torch.device) -> Tensor:
    """Random photos."""
    return IMAGENET.noise(count, height, width).to(device)


def forward(network: torch.nn.Module, pixels: Tensor) -> Work:
    """A plain forward pass, in float32 without rounding."""

    def work() -> object:
        with torch.no_grad(), exact_products():
            return network(pixels)

    return work


def maps_rows(plan: Plan, device: torch.device) -> Iterator[Row]:
    """TSGB at the layer that the pipeline reads, beside a forward pass."""
    task = classifier_of(plan).to(device).eval()
    method = TSGB(task.network, layer=plan.layer)
    for size, batch in product(plan.sizes, plan.batches):
        pixels = task.inputs(noise(batch, size, size, device))
        limit = forward(task.network, pixels)
        for count in plan.counts:
            targets = torch.arange(count).repeat(batch, 1)
            work = partial(_attribute, method, pixels, targets)
            yield Row("maps", f"{size} px, batch {batch}, K = {count}", batch, work, limit)


def _attribute(method: TSGB, pixels: Tensor, targets: Tensor) -> Tensor:
    with exact_products():
        return method.attribute(pixels, targets)


def training_rows(
    make: Callable[[Plan], NetworkTask], name: str, plan: Plan, device: torch.device
) -> Iterator[Row]:
    """A whole step of training, beside forward and backward pass of the bare network."""
    task = make(plan).to(device).train()
    optimizer = build_optimizer(task.settings, task.parameters(), [])
    for size, batch, precision in product(plan.sizes, plan.batches, PRECISIONS):
        images = noise(batch, size, size, device)
        labels = torch.zeros(batch, size, size, dtype=torch.uint8, device=device)
        if isinstance(task, ClassifierTask):
            labels = torch.zeros(batch, len(CLASSES), device=device)
        if batch > 1 or isinstance(task, ClassifierTask):  # DeepLab normalises single values
            work = partial(_step, task, optimizer, (images, labels), PRECISIONS[precision])
            limit = partial(_bare, task.network, task.inputs(images), PRECISIONS[precision])
            yield Row(name, f"{size} px, batch {batch}, {precision}", batch, work, limit)


def _step(
    task: NetworkTask,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    precision: torch.dtype | None,
) -> None:
    with torch.autocast(batch[0].device.type, precision, enabled=precision is not None):
        loss = task.loss_of(batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _bare(network: torch.nn.Module, pixels: Tensor, precision: torch.dtype | None) -> None:
    with torch.autocast(pixels.device.type, precision, enabled=precision is not None):
        logits = network(pixels)
    logits.float().mean().backward()
    network.zero_grad()


def prediction_rows(plan: Plan, device: torch.device) -> Iterator[Row]:
    """A prediction with and without the mirrored image, beside a forward pass of one image."""
    task = segmenter_of(plan).to(device).eval()
    for size, flip in product(plan.sizes, (False, True)):
        image = noise(1, size, size, device)
        work = partial(_predict, task, image, flip)
        limit = forward(task.network, task.inputs(image.repeat(2 if flip else 1, 1, 1, 1)))
        what = "with its mirror image" if flip else "alone"
        yield Row("prediction", f"{size} px, an image {what}", 1, work, limit)


@torch.no_grad()
def _predict(task: SegmenterTask, image: Tensor, flip: bool) -> Tensor:
    with exact_products():
        return task.predict_probabilities(image, [1.0], flip=flip)


def crf_rows(plan: Plan, device: torch.device) -> Iterator[Row]:
    """Masks of photos by the dense CRF: on all cores, and on the GPU."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (plan.photo[0] // 8, plan.photo[1] // 8, 3), np.uint8)
    image = cv2.resize(small, plan.photo[::-1], interpolation=cv2.INTER_CUBIC)
    places = {f"{os.cpu_count()} threads": CRFRefinement(engine="numba")}
    if device.type == "cuda":
        places["the GPU"] = CRFRefinement().on(str(device))
    count = max(plan.images // 8, 2)
    for classes, (place, refine) in product(plan.counts, places.items()):
        planes = generator.random((classes + 1, *plan.photo), np.float32)
        planes /= planes.sum(0)
        work = partial(_in_threads, partial(refine, image, [planes]), count)
        yield Row("dense CRF", f"{plan.photo[1]} px, K = {classes}, on {place}", count, work)


def _in_threads(work: Work, count: int) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [pool.submit(work) for _ in range(count)]:
            done.result()


def loader_rows(plan: Plan, folder: Path, trainer: TrainerConfig) -> Iterator[Row]:
    """Reading and augmenting photos, without a network; the workers' start is left out."""
    items = _photos(plan, folder)
    config, size = ClassifierConfig(), plan.sizes[-1]
    cropped = classifier_transform(
        size, config.crop_area, config.colour_jitter, 0.0, vertical_flip=False
    )
    scaled = segmenter_transform(size, (0.5, 2.0), config.colour_jitter, IMAGENET.mean)
    blank = np.zeros(plan.photo, np.uint8)
    sets = {
        "classifier": LabelledImages(items, cropped, 0, len(CLASSES)),
        "segmenter": MaskedImages(items, scaled, 0, lambda _: blank, len(CLASSES)),
    }
    for name, images in sets.items():
        batch = min(16, len(items) // 2)
        loader = EpochData(images, batch, workers_of(trainer), pinned=on_gpu(trainer))
        batches = loader.train_dataloader()
        what = f"{name}, {size} px, {workers_of(trainer)} processes"
        count = len(items) // batch * batch
        yield Row("loader", what, count, partial(_read, batches))


def _read(batches: torch.utils.data.DataLoader[object]) -> None:
    for _ in batches:
        pass


def _photos(plan: Plan, folder: Path) -> list[Item]:
    generator = np.random.default_rng(0)
    items = []
    for index in range(plan.images):
        small = generator.integers(0, 256, (plan.photo[0] // 8, plan.photo[1] // 8, 3), np.uint8)
        path = folder / f"{index}.jpg"
        cv2.imwrite(str(path), cv2.resize(small, plan.photo[::-1], interpolation=cv2.INTER_CUBIC))
        items.append(Item(str(index), path, (0,)))
    return items


def run_tests(say: Callable[[str], None]) -> None:
    """Run the tests that compare this GPU with the CPU; they end the benchmark if they fail."""
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "gpu", "tests"]
    try:
        done = subprocess.run(words, cwd=ROOT, timeout=180, check=False)
    except subprocess.TimeoutExpired:
        say("The tests were stopped after three minutes; those until then have passed.")
        return
    if done.returncode:
        raise SystemExit("The GPU does not do what the CPU does; see above. Nothing was measured.")


def measure(plan: Plan, trainer: TrainerConfig, minutes: float) -> Table:
    """The table of all stages."""
    bench = Bench(plan, device_of(trainer), time.monotonic() + 60 * minutes)
    with TemporaryDirectory() as folder:
        stages: Sequence[Iterator[Row]] = (
            maps_rows(plan, bench.device),
            crf_rows(plan, bench.device),
            training_rows(classifier_of, "classifier step", plan, bench.device),
            training_rows(segmenter_of, "segmenter step", plan, bench.device),
            prediction_rows(plan, bench.device),
            loader_rows(plan, Path(folder), trainer),
        )
        for rows in stages:
            for row in rows:
                bench.add(row)
    return bench.table


def main(words: Sequence[str] | None = None) -> None:
    """Run the tests, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny networks and sizes, no tests")
    parser.add_argument("--minutes", type=float, default=4.5, help="of measuring (default 4.5)")
    asked = parser.parse_args(words)
    trainer, console = TrainerConfig(), Console(width=120)
    quick = asked.quick or not on_gpu(trainer)
    if not quick:
        run_tests(console.print)
    console.print(measure(QUICK if quick else Plan(), trainer, asked.minutes))


if __name__ == "__main__":
    main()
