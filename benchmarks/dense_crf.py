"""Speed and memory of the dense CRF, in total and by parts, and of the authors' program.

The two run in turn, for several rounds, in one process. Ratios are reliable, milliseconds are not.
`pip install '.[benchmark]'` builds the authors' program, which needs a C++ compiler; its figures
are also in docs/performance.md. Without --photos the benchmark uses built-in pictures, which are
smoother than photos and therefore faster.

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
    """The first ``count`` photos of 500 x 375 px in the folder, or built-in pictures."""
    if folder is None:
        drawn = [draw_scene(np.random.default_rng(k), WIDTH).image for k in range(count)]
        return [np.ascontiguousarray(image[:HEIGHT]) for image in drawn]
    images = (read_image(path) for path in sorted(folder.glob("*.jpg")))
    return list(islice((i for i in images if i.shape == (HEIGHT, WIDTH, 3)), count))


def unary(seed: int, labels: int, present: int) -> Floats:
    """A unary like a network's: blobs of the present classes, the others about 1e-4 of them."""
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
    """Our CRF with the kernels of a preset, computed by numba."""
    sxy, compat, bilateral_sxy, srgb, bilateral_compat = PRESETS[preset]
    kernels = (Gaussian(sxy, compat), Bilateral(bilateral_sxy, srgb, bilateral_compat))
    return DenseCRF(kernels, ITERATIONS, engine="numba")


def theirs(preset: str, image: Image, energies: Floats) -> Floats:
    """Marginals of the authors' program."""
    sxy, compat, bilateral_sxy, srgb, bilateral_compat = PRESETS[preset]
    labels, height, width = energies.shape
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(energies.reshape(labels, -1)))
    crf.addPairwiseGaussian(sxy=sxy, compat=compat)
    crf.addPairwiseBilateral(sxy=bilateral_sxy, srgb=srgb, rgbim=image, compat=bilateral_compat)
    return np.array(crf.inference(ITERATIONS), dtype=np.float32).reshape(energies.shape)


def milliseconds(work: Callable[[], object]) -> float:
    """Time of one call, ms."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def single(images: Sequence[Image], rounds: int) -> Table:
    """Time per image in one thread, lattices included; the two programs in turn."""
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
    """Labels of the authors' program, which a process pool can return cheaply."""
    return np.asarray(theirs(preset, image, energies).argmax(axis=0))


def stream(images: Sequence[Image], count: int, preset: str, case: str) -> Table:
    """Throughput over many images, one at a time or in parallel, including the arg-max."""
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
    table = Table("program", "images per second", "ratio to theirs, 1 process")
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
        list(mapped(work, jobs[:4]))  # warm-up: starts processes and loads kernels
        start = time.perf_counter()
        for _ in mapped(work, jobs):
            pass
        return len(jobs) / (time.perf_counter() - start)


def parts(images: Sequence[Image], rounds: int) -> Table:
    """Our time by parts; "walk" is the pass that slices, takes the softmax and splats."""
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
    """Memory bandwidth of one thread, and the lower bound that it sets for the walk."""
    numbers = np.ones(2**26, dtype=np.float32)
    seconds = min(milliseconds(numbers.max) for _ in range(5)) / 1000
    rate = numbers.nbytes / seconds / 1e9
    corners = 3 + 6  # of a pixel's simplices, each with an index and a weight
    least = [
        1000 * (ITERATIONS + 1) * WIDTH * HEIGHT * (8 * corners + 4 * row) / rate / 1e9
        for row in (4, 24)
    ]
    return (
        f"memory bandwidth is {rate:.0f} GB/s: the walks of a call take at least "
        f"{least[0]:.0f} ms with 3 labels and {least[1]:.0f} ms with 21"
    )


def memory() -> Table:
    """Peak memory of a process during one image, less its memory before (Linux)."""
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
    """Print the growth of memory; runs in a child process of :func:`memory`."""
    work: Work = our_crf(preset) if program == "ours" else partial(theirs, preset)
    image, energies = photos(None, 1)[0], unary(0, *LABELS[case])
    work(image[:8, :8].copy(), energies[:, :8, :8].copy())  # warm-up: loads kernels
    ctypes.CDLL(None).malloc_trim(0)  # return freed memory, so that its reuse counts as growth
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    work(image, energies)
    Console().print(f"{(resident('VmHWM') - before) / 1024:.0f}")


def resident(figure: str) -> int:
    """Memory of this process in kB: the current value (VmRSS) or the peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(figure))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="folder of JPEGs; default: built-in pictures")
    parser.add_argument("--images", type=int, default=4, help="number of pictures, default: 4")
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
