"""Which methods see through walls: saliency where a network provably cannot look.

Random networks that cannot see the lowest 18 of 64 rows (``tsgb.metrics.WalledNetwork``), images of
noise, all classes. Every method with its default options; no download.

    python benchmarks/walls.py --networks 10 --images 4
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table

from tsgb.errors import UnsupportedModelError
from tsgb.index import methods
from tsgb.method import Method
from tsgb.metrics import WalledNetwork

CLASSES = 5


def shares(method: type[Method], networks: int, images: int) -> torch.Tensor:
    """Share of the absolute saliency behind the wall, of each network, image and class."""
    found = []
    for seed in range(networks):
        network = WalledNetwork(seed)
        pixels = torch.randn(images, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
        targets = torch.arange(CLASSES).repeat(images, 1)
        maps = method(network).attribute(pixels, targets)
        found.append(network.share_hidden(maps.flatten(0, 1)))
    return torch.cat(found)


def row(name: str, method: type[Method], networks: int, images: int) -> list[str]:
    """The name of a method, and the mean and the largest share or why there is none."""
    try:
        share = shares(method, networks, images)
    except UnsupportedModelError as error:
        return [name, "-", "-", "-", str(error).split(". ")[0]]
    seeing = (share > 0).float().mean()
    return [
        name,
        f"{100 * share.mean():.1f}",
        f"{100 * share.max():.1f}",
        f"{100 * seeing:.0f}",
        "",
    ]


def main() -> None:
    """Print a table of all methods, in per cent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--images", type=int, default=4)
    arguments = parser.parse_args()
    table = Table("method", "hidden, mean %", "largest %", "maps with any, %", "refused")
    for name, method in methods().items():
        table.add_row(*row(name, method, arguments.networks, arguments.images))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
