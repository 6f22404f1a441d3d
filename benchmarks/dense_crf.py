"""What the dense CRF costs, beside the authors' program and by parts.

The two run in turn, several rounds, in one process; read the ratios, not the milliseconds. The
other program is `pip install '.[benchmark]'`, which needs a C++ compiler; where it cannot be built
the figures in docs/performance.md have to do. Without --photos the pictures are the built-in ones,
which are smoother than photos, and so quicker.

    python benchmarks/dense_crf.py --photos VOCdevkit/VOC2012/JPEGImages
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipeline.base.arrays import Floats, Image
from pipeline.data.images import read_image
from pipeline.data.scenes import draw_scene
from pipeline.masks.crf import mean_field
from pipeline.masks.dense_crf import (
    Bilateral,
    DenseCRF,
    Gaussian,
    unary_from_probabilities,
    warm_up,
)

try:
    from pydensecrf import densecrf
except ImportError:
    densecrf = None

Work = Callable[[Image, Floats], Floats]

WIDTH, HEIGHT, ITERATIONS = 500, 375, 10
PRESETS = {  # Gaussian sxy and compat, bilateral sxy, srgb and compat
    "A": (3, 3, 80, 13, 10),
    "B": (3, 3, 50, 5, 10),
    "C": (1, 3, 67, 3, 4),
}
LABELS = {"2": (2, 2), "3": (3, 3), "21, 3 present": (21, 3), "21, all present": (21, 21)}


def photos(folder: Path | None, count: int) -> list[Image]:
    """The first ``count`` pictures of 500 x 375 in the folder, or drawn ones."""
    if folder is None:
        drawn = [draw_scene(np.random.default_rng(k), WIDTH).image for k in range(count)]
        return [np.ascontiguousarray(image[:HEIGHT]) for image in drawn]
    images = (read_image(path) for path in sorted(folder.glob("*.jpg")))
    return list(islice((i for i in images if i.shape == (HEIGHT, WIDTH, 3)), count))


def unary(seed: int, labels: int, present: int) -> Floats:
    """Such as a network gives: blobs of the classes that are present, the others 1e-4 of them."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 3, (present, HEIGHT // 25, WIDTH // 25)).astype(np.float32)
    blobs = [cv2.resize(plane, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for plane in coarse]
    logits = np.empty((labels, HEIGHT, WIDTH), dtype=np.float32)
    logits[:present] = blobs
    logits[present:] = logits[:present].max(axis=0) - 9.2
    logits[present:] -= rng.exponential(0.5, logits[present:].shape)
    powers = np.exp(logits - logits.max(axis=0))
    return unary_from_probabilities(powers / powers.sum(axis=0))


def our_crf(preset: str) -> DenseCRF:
    """With numba, however many threads call it."""
    sxy, compat, bilateral_sxy, srgb, bilateral_compat = PRESETS[preset]
    kernels = (Gaussian(sxy, compat), Bilateral(bilateral_sxy, srgb, bilateral_compat))
    return DenseCRF(kernels, ITERATIONS, engine="numba")


def theirs(preset: str, image: Image, energies: Floats) -> Floats:
    """The same by the authors' program."""
    sxy, compat, bilateral_sxy, srgb, bilateral_compat = PRESETS[preset]
    labels, height, width = energies.shape
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(energies.reshape(labels, -1)))
    crf.addPairwiseGaussian(sxy=sxy, compat=compat)
    crf.addPairwiseBilateral(sxy=bilateral_sxy, srgb=srgb, rgbim=image, compat=bilateral_compat)
    return np.array(crf.inference(ITERATIONS), dtype=np.float32).reshape(energies.shape)


def milliseconds(work: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def single(images: Sequence[Image], rounds: int) -> Table:
    """One image at a time, one thread, lattices included; the two programs in turn."""
    table = Table("preset", "labels", "ours, ms", "theirs, ms", "ratio, median (least to most)")
    table.title = f"one image, one thread, {WIDTH} x {HEIGHT}, {len(images)} pictures"
    for preset in PRESETS:
        ours, other = our_crf(preset), partial(theirs, preset)
        for name, (labels, present) in LABELS.items():
            energies = unary(0, labels, present)
            ours(images[0], energies)
            times = [
                (
                    milliseconds(partial(ours, image, energies)),
                    milliseconds(partial(other, image, energies)) if densecrf else float("nan"),
                )
                for _ in range(rounds)
                for image in images
            ]
            mine, their = (statistics.median(column) for column in zip(*times, strict=True))
            ratios = sorted(b / a for a, b in times)
            spread = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
            table.add_row(preset, name, f"{mine:.0f}", f"{their:.0f}", spread)
    return table


def their_arg_max(preset: str, image: Image, energies: Floats) -> NDArray[np.int64]:
    """What a process of a pool sends back."""
    return np.asarray(theirs(preset, image, energies).argmax(axis=0))


def stream(images: Sequence[Image], count: int, preset: str, case: str) -> Table:
    """Many images, one after the other or several at once, each with an arg-max at the end."""
    cores = os.cpu_count() or 1
    energies = [unary(k, *LABELS[case]) for k in range(4)]
    jobs = [(images[k % len(images)], energies[k % 4]) for k in range(count)]
    crf = our_crf(preset)
    ours = lambda job: crf(*job).argmax(axis=0)  # noqa: E731
    variants: dict[str, tuple[Executor | None, Callable[..., object]]] = {
        "ours, 1 thread": (None, ours),
        f"ours, {cores} threads": (ThreadPoolExecutor(cores), ours),
    }
    if densecrf:
        other = partial(_starred, partial(their_arg_max, preset))
        variants["theirs, 1 process"] = (None, other)
        variants[f"theirs, {cores} processes"] = (ProcessPoolExecutor(cores), other)
    table = Table("program", "images per second", "of theirs, 1 process")
    table.title = f"{count} images, preset {preset}, labels {case}"
    rates = {name: _rate(pool, work, jobs) for name, (pool, work) in variants.items()}
    for name, rate in rates.items():
        share = rate / rates.get("theirs, 1 process", float("nan"))
        table.add_row(name, f"{rate:.1f}", f"{share:.1f}")
    return table


def _starred(work: Callable[..., object], job: tuple[Image, Floats]) -> object:
    return work(*job)


def _rate(
    pool: Executor | None, work: Callable[..., object], jobs: list[tuple[Image, Floats]]
) -> float:
    with pool if pool is not None else nullcontext():
        mapped = map if pool is None else pool.map
        list(mapped(work, jobs[:4]))  # processes start, kernels are loaded
        start = time.perf_counter()
        for _ in mapped(work, jobs):
            pass
        return len(jobs) / (time.perf_counter() - start)


def parts(images: Sequence[Image], rounds: int) -> Table:
    """Where our time goes; the walk slices, takes the softmax and splats in one pass."""
    spent: dict[str, float] = {}

    def watched(name: str, work: Callable[..., object]) -> Callable[..., object]:
        def timed(*args: object) -> object:
            start = time.perf_counter()
            try:
                return work(*args)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

        return timed

    table = Table("preset", "labels", "total", "lattice", "walk", "blur", "rest", title="parts, ms")
    walk, blur = mean_field._walk, mean_field._blur
    mean_field._walk, mean_field._blur = watched("walk", walk), watched("blur", blur)
    try:
        for preset in PRESETS:
            for name, case in LABELS.items():
                crf, energies = our_crf(preset), unary(0, *case)
                crf(images[0], energies)
                spent.clear()
                for image in list(images) * rounds:
                    prepare = watched("lattice", crf.prepare)
                    watched("total", lambda i=image, p=prepare, e=energies: p(i).infer(e))()
                each = {k: 1000 * v / (rounds * len(images)) for k, v in spent.items()}
                rest = 2 * each["total"] - sum(each.values())
                columns = [*(each[k] for k in ("total", "lattice", "walk", "blur")), rest]
                table.add_row(preset, name, *(f"{value:.1f}" for value in columns))
    finally:
        mean_field._walk, mean_field._blur = walk, blur
    return table


def bandwidth() -> str:
    """Of reading memory with one thread, and the least that a walk would take at that rate."""
    numbers = np.ones(2**26, dtype=np.float32)
    seconds = min(milliseconds(numbers.max) for _ in range(5)) / 1000
    rate = numbers.nbytes / seconds / 1e9
    corners = 3 + 6  # of the simplices of a pixel: an index and a weight each, then its logits
    least = [
        1000 * (ITERATIONS + 1) * WIDTH * HEIGHT * (8 * corners + 4 * row) / rate / 1e9
        for row in (4, 24)
    ]
    return (
        f"memory is read at {rate:.0f} GB/s: the walks of a call cannot take less than "
        f"{least[0]:.0f} ms with 3 labels and {least[1]:.0f} ms with 21"
    )


def memory() -> Table:
    """The most that a process holds at an image, beyond what it held before (Linux)."""
    table = Table("preset", "labels", "ours, MB", "theirs, MB", title="memory of one image")
    for preset in PRESETS:
        for name in LABELS:
            who = ("ours", "theirs") if densecrf else ("ours",)
            words = [sys.executable, __file__, "--memory-of"]
            done = [
                subprocess.run(  # this very file
                    [*words, program, preset, name], capture_output=True, text=True, check=True
                ).stdout.strip()
                for program in who
            ]
            table.add_row(preset, name, *done)
    return table


def print_growth(program: str, preset: str, case: str) -> None:
    """The child of :func:`memory`."""
    work: Work = our_crf(preset) if program == "ours" else partial(theirs, preset)
    image, energies = photos(None, 1)[0], unary(0, *LABELS[case])
    work(image[:8, :8].copy(), energies[:, :8, :8].copy())  # kernels are loaded
    ctypes.CDLL(None).malloc_trim(0)  # or what was freed before would be used again unseen
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    work(image, energies)
    Console().print(f"{(resident('VmHWM') - before) / 1024:.0f}")


def resident(figure: str) -> int:
    """Memory of this process, kB: now (VmRSS) or at its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(figure))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="a folder of JPEG files; default: drawn ones")
    parser.add_argument("--images", type=int, default=4, help="pictures, default: 4")
    parser.add_argument("--stream", type=int, default=200, help="images of a stream, default: 200")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.memory_of:
        return print_growth(*words.memory_of)
    console, images = Console(), photos(words.photos, words.images)
    if densecrf is None:
        console.print("The authors' program is not installed: see the top of this file.")
    warm_up(21)
    console.print(single(images, words.rounds), parts(images, words.rounds), bandwidth(), memory())
    for preset, case in (("A", "3"), ("B", "3"), ("C", "3"), ("A", "21, 3 present")):
        console.print(stream(images, words.stream, preset, case))
    return None


if __name__ == "__main__":
    main()
