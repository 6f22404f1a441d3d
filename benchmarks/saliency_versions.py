"""What a change of the library costs: two checkouts of it, timed in turn in one process.

Other work on the machine moves both alike, so read the ratios: the median over the rounds of new
time / old time, with its quartiles. Times are processor time on one thread.

    git worktree add ../before REVISION
    python benchmarks/saliency_versions.py ../before --rounds 15
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor

MIDDLE = {"vgg16": "features.29", "resnet50": "layer3", "mobilenet_v2": "features.13"}
Work = Callable[[], object]


def library(folder: Path) -> ModuleType:
    """``tsgb`` as it is in a folder."""
    for name in [name for name in sys.modules if name.split(".")[0] == "tsgb"]:
        del sys.modules[name]
    sys.path.insert(0, str(folder.resolve()))
    module = importlib.import_module("tsgb")
    sys.path.pop(0)
    return module


def seconds(work: Work) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def ratios(old: Work, new: Work, rounds: int) -> list[float]:
    """New time / old time of each round, after one that does not count; each is first in turn."""
    found = []
    for number in range(rounds + 1):
        if number % 2:
            before, after = seconds(old), seconds(new)
        else:
            after, before = seconds(new), seconds(old)
        found.append(after / before)
    return found[1:]


def calls(name: str, images: Tensor, versions: list[ModuleType]) -> dict[str, list[Work]]:
    """The same call of each version, for one network."""
    model = torchvision.models.get_model(name).eval()
    cases: list[tuple[str | None, int]] = [(None, 1), (None, 20)]
    cases += [(MIDDLE[name], classes) for classes in (1, 3)]
    found: dict[str, list[Work]] = {}
    for layer, classes in cases:
        targets = torch.arange(classes).repeat(len(images), 1)
        found[f"{layer or 'image'}, {classes}"] = [
            partial(version.TSGB(model, layer=layer).attribute, images, targets)
            for version in versions
        ]
    return found


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, help="checkout of the older version")
    parser.add_argument("--after", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--models", nargs="+", default=list(MIDDLE), choices=list(MIDDLE))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=9)
    words = parser.parse_args()
    torch.set_num_threads(1)
    versions = [library(words.before), library(words.after)]
    images = torch.randn(1, 3, words.size, words.size)
    table = Table("network", "read at, classes", "new / old", "quartiles", "old ms")
    for name in words.models:
        for label, (old, new) in calls(name, images, versions).items():
            low, middle, high = statistics.quantiles(ratios(old, new, words.rounds), n=4)
            milliseconds = 1000 * seconds(old)
            table.add_row(
                name, label, f"{middle:.2f}", f"{low:.2f} to {high:.2f}", f"{milliseconds:.0f}"
            )
    Console().print(table)


if __name__ == "__main__":
    main()
