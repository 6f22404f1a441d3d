"""Draw the pictures of the method pages: every method on the same built-in pictures.

    python scripts/run.py stage=classifier            # once, about a minute
    python scripts/draw_method_pictures.py runs/shapes

writes docs/images/methods/<page>.jpg, one for each module of tsgb/methods, and overview.jpg. --out
names another folder, --pages some of the pages. A new method needs no picture.

They show the first held-out images of data=shapes with two classes, both of which the classifier
finds with a probability above one half. No image was chosen by its maps. Methods have the settings
of configs/saliency and see each image once, enlarged twice, not mirrored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pipeline.data.scenes import CLASSES, Scene, draw_scene
from pipeline.networks.colours import IMAGENET
from pipeline.networks.pixels import resize
from pipeline.run.building import build
from pipeline.run.schema import register_schema
from pipeline.run.settings import plain
from pipeline.tasks.classifier import ClassifierTask
from tsgb import Method
from tsgb.draw import Picture, colours, grid
from tsgb.index import methods

ROOT = Path(__file__).resolve().parent.parent
BESIDE = "grad_cam"  # on every page, for comparison
SIDE = 128  # side of an image, px
ZOOM = 2  # how much an image is enlarged for the network
SHOWN = 3  # images on the page of one method; pages of several methods have one less
HELD_OUT = 1  # the second stream of random numbers of data=shapes
COLUMNS = 7  # of the overview
QUALITY = 65  # of the JPEG files
BRIGHTEST = 0.005  # share of the pixels that have the last colour
NAMES = tuple(CLASSES)


@dataclass(frozen=True)
class Example:
    """An image, what the network sees of it, and the two classes in it."""

    scene: Scene
    images: Tensor
    targets: tuple[int, int]


def pages() -> dict[str, list[str]]:
    """Names of the methods by the page that describes them, which is named after their module."""
    found: dict[str, list[str]] = {}
    for name, kind in methods().items():
        found.setdefault(kind.__module__.rpartition(".")[2], []).append(name)
    return found


def main() -> int:
    """Write the pictures and list them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a run on data=shapes: runs/shapes")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "methods")
    known = pages()
    parser.add_argument("--pages", nargs="+", choices=[*known, "overview"], metavar="PAGE")
    wanted = parser.parse_args()
    network = trained(wanted.run)
    examples = list(islice(recognised(network), SHOWN))
    for page in wanted.pages or [*known, "overview"]:
        drawn = overview(network, examples[0]) if page == "overview" else sheet(
            network, examples, known[page])  # fmt: skip
        path = wanted.out / f"{page}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn).save(path, quality=QUALITY, optimize=True, progressive=True)
        sys.stdout.write(f"{path}  {path.stat().st_size / 1024:.0f} KB\n")
    return 0


def trained(run: Path) -> nn.Module:
    """The classifier of a run."""
    found = sorted(run.glob("classifier/*/last.ckpt"))
    if len(found) != 1:
        raise SystemExit(
            f"{run}: holds {len(found)} classifiers, expected one. Make a run with: "
            "python scripts/run.py stage=classifier"
        )
    task = ClassifierTask.from_checkpoint(found[0])
    if tuple(task.classes) != NAMES:
        raise SystemExit(f"{found[0]}: knows {task.classes}. Give a run on data=shapes.")
    return task.network


def recognised(network: nn.Module) -> Iterator[Example]:
    """Held-out images with two classes, both of which the network finds."""
    for index in count():
        scene = draw_scene(np.random.default_rng((0, HELD_OUT, index)), SIDE)
        if len(scene.labels) != 2:
            continue
        pixels = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)[None]
        images = IMAGENET.normalise(resize(pixels.float(), (ZOOM * SIDE, ZOOM * SIDE)))
        first, second = sorted(scene.labels)
        with torch.no_grad():
            shares = network(images)[0].sigmoid()
        if min(shares[first], shares[second]) > 0.5:
            yield Example(scene, images, (first, second))


def sheet(network: nn.Module, examples: Sequence[Example], names: Sequence[str]) -> Picture:
    """A row for each example: the image, the maps of the methods, and Grad-CAM's."""
    shown = [*names, *({BESIDE} - set(names))]
    cells: list[tuple[str, Picture]] = []
    for example in examples[: SHOWN if len(names) == 1 else SHOWN - 1]:
        cells.append(("image", example.scene.image))
        for name in shown:
            cells += maps(network, name, example)
    return grid(cells, columns=1 + 2 * len(shown))


def overview(network: nn.Module, example: Example) -> Picture:
    """All methods on one example, the first class over the second one."""
    pairs = [[("image", example.scene.image), ("against ... for\nzero ... highest", scales())]]
    pairs += [maps(network, name, example) for name in methods()]
    cells, blank = [], np.full((SIDE, SIDE, 3), 255, np.uint8)
    for start in range(0, len(pairs), COLUMNS):
        row = pairs[start : start + COLUMNS]
        row += [[("", blank), ("", blank)]] * (COLUMNS - len(row))
        cells += [first for first, _ in row]
        cells += [second for _, second in row]
    return grid(cells, columns=COLUMNS)


def scales() -> Picture:
    """The colours from the lowest to the highest value, signed and unsigned."""
    bars = [
        colours(torch.linspace(low, 1, SIDE).expand(SIDE // 8, -1), signed=low < 0, smoothing=0)
        for low in (-1.0, 0.0)
    ]
    return np.concatenate([bars[0], np.full_like(bars[0], 255), bars[1]])


def method(network: nn.Module, name: str) -> Method:
    """The method as ``saliency=name`` makes it for the classifier of data=shapes."""
    register_schema()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = plain(compose("run", overrides=[f"saliency={name}"]))
    made: Method = build({**config.saliency.method, "model": network}, "saliency.method")
    return made


def maps(network: nn.Module, name: str, example: Example) -> list[tuple[str, Picture]]:
    """Captions and maps of both classes, in the same colours, each with its objects' outlines."""
    made = method(network, name)
    values = made.attribute(example.images, torch.tensor([example.targets]))
    values = resize(values, (SIDE, SIDE))[0]
    signed = bool((values < 0).any())
    cells: list[tuple[str, Picture]] = []
    for target, value in zip(example.targets, values, strict=True):
        highest = float(value.abs().quantile(1 - BRIGHTEST))
        picture = colours(value, signed=signed, maximum=highest or None, smoothing=0)
        caption = NAMES[target] if cells else f"{name.replace('_', ' ')}\n{NAMES[target]}"
        cells.append((caption, outlined(picture, example.scene.mask == target + 1)))
    return cells


def outlined(picture: Picture, inside: NDArray[np.bool_]) -> Picture:
    """The picture with a thin green line around the objects."""
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    drawn = cv2.drawContours(picture.copy(), contours, -1, (60, 200, 90), 1)
    return np.asarray(drawn, dtype=np.uint8)


if __name__ == "__main__":
    sys.exit(main())
