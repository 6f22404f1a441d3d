"""Speed of saliency maps, compared with a plain forward pass, captum and torchcam.

Variants run in turn, for several rounds, in one process. Ratios are reliable, seconds are not.
The other libraries explain one class per call.

    python benchmarks/saliency.py --models resnet50 --size 224 --batch 1 --classes 1 4 20
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import tsgb

LAYERS = {"vgg16": "features.29", "resnet50": "layer4", "mobilenet_v2": "features.18"}
MIDDLE = {"vgg16": "features.23", "resnet50": "layer3", "mobilenet_v2": "features.13"}
Work = Callable[[], object]


def forward(model: nn.Module, images: Tensor) -> Work:
    """A plain forward pass, without gradients."""

    def work() -> object:
        with torch.no_grad():
            return model(images)

    return work


def input_gradient(model: nn.Module, images: Tensor) -> Work:
    """A forward pass and the gradient of one logit with respect to the image."""

    def work() -> object:
        leaf = images.clone().requires_grad_()
        return torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)

    return work


def ours(method: tsgb.Method, images: Tensor, classes: int) -> Work:
    """One call of a method for all classes."""
    targets = torch.arange(classes).repeat(len(images), 1)
    return lambda: method.attribute(images, targets)


def captum_guided(model: nn.Module, images: Tensor, classes: int) -> Work:
    """Guided backprop of captum, one call per class."""
    from captum.attr import GuidedBackprop

    method = GuidedBackprop(model)
    return lambda: [method.attribute(images, target=k) for k in range(classes)]


def torchcam_loop(name: str, model: nn.Module, layer: str, images: Tensor, classes: int) -> Work:
    """A torchcam method, one forward pass and one call per class."""
    from torchcam import methods

    def work() -> object:
        with getattr(methods, name)(model, target_layer=layer) as extractor:
            return [extractor(k, model(images)) for k in range(classes)]

    return work


def variants(name: str, model: nn.Module, images: Tensor, counts: list[int]) -> dict[str, Work]:
    """All variants for one network, the plain forward pass first."""
    works = {"forward": forward(model, images), "input gradient": input_gradient(model, images)}
    for k in counts:
        works[f"TSGB, image, K={k}"] = ours(tsgb.TSGB(model), images, k)
        works[f"TSGB, {MIDDLE[name]}, K={k}"] = ours(
            tsgb.TSGB(model, layer=MIDDLE[name]), images, k
        )
        works[f"LayerCAM, K={k}"] = ours(tsgb.LayerCAM(model, layer=LAYERS[name]), images, k)
        works[f"guided backprop, K={k}"] = ours(tsgb.GuidedBackprop(model), images, k)
        works[f"captum guided backprop, K={k}"] = captum_guided(model, images, k)
        for peer in ("GradCAM", "LayerCAM"):
            works[f"torchcam {peer}, K={k}"] = torchcam_loop(peer, model, LAYERS[name], images, k)
    return works


def seconds(work: Work) -> float:
    """Time of one call, s."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print a table of medians and ratios for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 4, 20])
    parser.add_argument("--rounds", type=int, default=5)
    words = parser.parse_args()
    images = torch.randn(words.batch, 3, words.size, words.size)
    for name in words.models:
        model = torchvision.models.get_model(name).eval()
        for module in model.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # the other libraries need the overwritten activations
        works = variants(name, model, images, words.classes)
        times: dict[str, list[float]] = {label: [] for label in works}
        for _ in range(words.rounds + 1):
            for label, work in works.items():
                times[label].append(seconds(work))
        table = Table("variant", "median s", "forward passes", title=f"{name}, {images.shape}")
        medians = {label: statistics.median(values[1:]) for label, values in times.items()}
        for label, median in medians.items():
            table.add_row(label, f"{median:.3f}", f"{median / medians['forward']:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
