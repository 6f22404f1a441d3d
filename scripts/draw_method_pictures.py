"""Draw the pictures of the method pages: every method on the same built-in pictures.

    python scripts/run.py stage=classifier            # once, about a minute
    python scripts/draw_method_pictures.py runs/shapes

writes docs/images/methods/<page>.jpg, one for each page of docs/methods, and overview.jpg. Another
folder is named with --out, a single page with --pages tsgb.

The pictures are the first held-out ones of data=shapes that show two classes, both of which the
classifier names with a probability above one half. Nothing is chosen by looking at maps. Methods
have the settings of configs/saliency and see each picture once, enlarged twice, not mirrored.
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

from pipeline.commands.launch import plain
from pipeline.data.scenes import CLASSES, Scene, draw_scene
from pipeline.networks.pixels import normalise_colours, resize
from pipeline.run.building import build
from pipeline.run.schema import register_schema
from pipeline.tasks.classifier import ClassifierTask
from tsgb import Method
from tsgb.draw import Picture, colours, grid

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "tsgb": ["tsgb"],
    "ggm": ["ggm"],
    "pane": ["pane"],
    "gradual_extrapolation": ["gradual_extrapolation"],
    "product": ["product"],
    "cam": ["cam"],
    "grad_cam": ["grad_cam"],
    "grad_cam_plus_plus": ["grad_cam_plus_plus"],
    "layer_cam": ["layer_cam"],
    "hires_cam": ["hires_cam"],
    "gradient": ["gradient", "input_x_gradient"],
    "guided_backprop": ["guided_backprop", "deconvnet"],
    "excitation_backprop": ["excitation_backprop", "contrastive_excitation_backprop"],
    "integrated_gradients": ["integrated_gradients"],
    "smooth_grad": ["smooth_grad"],
}
BESIDE = "grad_cam"  # on every page, to compare
SIDE = 128  # of a picture, px
ZOOM = 2  # of what the network sees
SHOWN = (3, 2)  # pictures on the page of one method, of two methods
HELD_OUT = 1  # the second stream of random numbers of data=shapes
COLUMNS = 7  # of the overview
QUALITY = 65  # of the files
BRIGHTEST = 0.005  # share of the pixels that have the last colour
NAMES = tuple(CLASSES)


@dataclass(frozen=True)
class Example:
    """A picture, what the network sees of it, and the two classes in it."""

    scene: Scene
    images: Tensor
    targets: tuple[int, int]


def main() -> int:
    """Write the pictures and name them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a run on data=shapes: runs/shapes")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "methods")
    parser.add_argument("--pages", nargs="+", choices=[*PAGES, "overview"], metavar="PAGE")
    wanted = parser.parse_args()
    network = trained(wanted.run)
    examples = list(islice(recognised(network), max(SHOWN)))
    for page in wanted.pages or [*PAGES, "overview"]:
        drawn = overview(network, examples[0]) if page == "overview" else sheet(
            network, examples, PAGES[page])  # fmt: skip
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
    task = ClassifierTask.from_checkpoint(str(found[0]))
    if tuple(task.classes) != NAMES:
        raise SystemExit(f"{found[0]}: knows {task.classes}. Give a run on data=shapes.")
    return task.network


def recognised(network: nn.Module) -> Iterator[Example]:
    """Held-out pictures of two classes that the network names."""
    for index in count():
        scene = draw_scene(np.random.default_rng((0, HELD_OUT, index)), SIDE)
        if len(scene.labels) != 2:
            continue
        pixels = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)[None]
        images = normalise_colours(resize(pixels.float(), (ZOOM * SIDE, ZOOM * SIDE)))
        first, second = sorted(scene.labels)
        with torch.no_grad():
            shares = network(images)[0].sigmoid()
        if min(shares[first], shares[second]) > 0.5:
            yield Example(scene, images, (first, second))


def sheet(network: nn.Module, examples: Sequence[Example], names: Sequence[str]) -> Picture:
    """A row for each example: the picture, the maps of the methods, and Grad-CAM's."""
    shown = [*names, *({BESIDE} - set(names))]
    cells: list[tuple[str, Picture]] = []
    for example in examples[: SHOWN[len(names) - 1]]:
        cells.append(("image", example.scene.image))
        for name in shown:
            cells += maps(network, name, example)
    return grid(cells, columns=1 + 2 * len(shown))


def overview(network: nn.Module, example: Example) -> Picture:
    """All methods on one example, the first class over the second one."""
    names = [name for page in PAGES.values() for name in page]
    pairs = [[("image", example.scene.image), ("against ... for\nzero ... highest", scales())]]
    pairs += [maps(network, name, example) for name in names]
    cells, blank = [], np.full((SIDE, SIDE, 3), 255, np.uint8)
    for start in range(0, len(pairs), COLUMNS):
        row = pairs[start : start + COLUMNS]
        row += [[("", blank), ("", blank)]] * (COLUMNS - len(row))
        cells += [first for first, _ in row]
        cells += [second for _, second in row]
    return grid(cells, columns=COLUMNS)


def scales() -> Picture:
    """What the colours mean: from the lowest to the highest value, with signs and without."""
    bars = [
        colours(torch.linspace(low, 1, SIDE).expand(SIDE // 8, -1), signed=low < 0)
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
        highest = value.abs().quantile(1 - BRIGHTEST)
        picture = colours(value.clamp(-highest, highest), signed=signed)
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
