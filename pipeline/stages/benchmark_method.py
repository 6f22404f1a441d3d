"""Work of `saliency_benchmark` for one method: maps of every image, scores as one file each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.base.config import Truth
from pipeline.base.errors import ConfigError, PipelineError, failure_of_image
from pipeline.base.files import atomic_path, read_json, write_json
from pipeline.data.catalogue import Item, spaced
from pipeline.data.datasets import to_tensor
from pipeline.data.images import read_image
from pipeline.data.truth import ObjectMasks, boxes_of, masks_of
from pipeline.networks.device import exact_products
from pipeline.networks.explained import ExplainedNetwork, fitted
from pipeline.networks.pixels import resize, scaled_size
from pipeline.stages.failures import Failures, raise_if_any
from pipeline.stages.job import Job, Summary
from pipeline.stages.map_scores import Faithfulness, Record, localisation, summarise
from pipeline.stages.measuring import peak_bytes, timed
from pipeline.stages.repeated_scores import RepeatedMaps, mosaic_of
from pipeline.tasks.saliency_predictor import SaliencyMethod
from tsgb.errors import LayerError, TSGBError, UnsupportedModelError

_MEMORY_IMAGES = 3  # images on which memory is measured
_BATCH_SIZES = {"cpu": 4, "cuda": 64}  # changed images a forward pass; caches limit a CPU
_BRIGHT = 0.995  # share of the pixels that are darker than the brightest colour on the page


@dataclass(frozen=True)
class BenchmarkSetup:
    """What all methods of one benchmark have in common.

    Attributes:
        explained: The network, on ``device``.
        items: Images that are scored.
        outputs: Logits that stand for each class of the data; classes without any are left out.
        truth_version: Fingerprint of the ground truth of ``items``; None for none.
        untrained: The network with random weights; None if it cannot be randomised.
    """

    explained: ExplainedNetwork
    items: Sequence[Item]
    outputs: Mapping[int, Sequence[int]]
    truth_version: str | None
    device: torch.device
    untrained: nn.Module | None = None


def map_path(folder: Path, item: Item) -> Path:
    """The file of the maps that the page shows: [K, h, w] in [0, 1], and the classes [K]."""
    return folder / "maps" / f"{item.id}.npz"


def read_maps(folder: Path, item: Item) -> dict[int, NDArray[np.float32]]:
    """Maps in [0, 1] by class index; empty if there is no file."""
    if not map_path(folder, item).exists():
        return {}
    with np.load(map_path(folder, item)) as content:
        labels, maps = content["classes"].tolist(), content["maps"].astype(np.float32)
    return dict(zip(labels, maps, strict=True))


def _score_path(folder: Path, item: Item) -> Path:
    return folder / "scores" / f"{item.id}.json"


def work(job: Job, setup: BenchmarkSetup, name: str, settings: dict[str, Any]) -> Summary:
    """Score a method on every image; one that refuses the network is done with that answer.

    Raises:
        StageIncompleteError: Some images failed; the others are kept.
    """
    options = fitted(settings, setup.explained)
    missing = [item for item in setup.items if not _score_path(job.folder, item).exists()]
    try:
        method = _built(job, options, setup.explained.classifier.network)
        untrained = None if setup.untrained is None else _built(job, options, setup.untrained)
        scorer = _MethodScorer(job, setup, method, untrained)
        scorer.warm_up([*missing, *setup.items])
    except (ConfigError, LayerError, UnsupportedModelError) as error:
        return {"method": options, "refused": str(error), "images": 0, "pairs": 0}
    raise_if_any(_go_through(job, scorer, missing, name), len(setup.items), f"benchmark of {name}")
    records = [read_json(_score_path(job.folder, item)) for item in setup.items]
    return {"method": options, "refused": None, **summarise(records)}


def _built(job: Job, options: dict[str, Any], network: nn.Module) -> SaliencyMethod:
    method: SaliencyMethod = job.build({**options, "model": network}, "benchmark.methods")
    return method


def _go_through(job: Job, scorer: _MethodScorer, missing: Sequence[Item], name: str) -> Failures:
    failures: Failures = {}
    with exact_products(), job.terminal.progress(name, len(missing)) as step:
        for done, item in enumerate(missing, start=1):
            try:
                scorer.score(item)
            except Exception as error:
                reason = str(error) if isinstance(error, TSGBError) else failure_of_image(error)
                if reason is None:
                    raise
                failures[item.id] = reason
            step(done, len(missing))
    return failures


class _MethodScorer:
    """Scores one method on one image after the other."""

    def __init__(
        self,
        job: Job,
        setup: BenchmarkSetup,
        method: SaliencyMethod,
        untrained: SaliencyMethod | None,
    ) -> None:
        config = job.settings.benchmark
        self.config = config
        self.classes = job.data.classes
        self.setup = setup
        self.classifier = setup.explained.classifier
        self.method = method
        self.folder = job.folder
        self.faithfulness = Faithfulness(
            self.classifier.network,
            self.classifier.probabilities,
            config.steps,
            _BATCH_SIZES[setup.device.type],
        )
        self.repeated = RepeatedMaps(method, untrained, config.sensitivity_samples)
        self.tested = _ids(spaced(setup.items, config.faithfulness_images))
        self.measured = _ids(spaced(setup.items, _MEMORY_IMAGES if config.memory else 0))
        self.shown = _ids(spaced(setup.items, config.pictures))

    def warm_up(self, items: Sequence[Item]) -> None:
        """One call on the first image, since first calls are slow; errors about it come later."""
        with suppress(PipelineError):
            pixels = self._pixels(read_image(items[0].image))
            label = next(iter(self.setup.outputs.values()))[0]
            with _images_to_blame():
                self._forward(pixels)
                self._attribute(pixels, torch.tensor([label], device=pixels.device))

    def score(self, item: Item) -> None:
        """Write the scores of an image, and its maps if the page shows them."""
        image = read_image(item.image)
        truth = self._truth(item, (image.shape[0], image.shape[1]))
        labels = [label for label in item.labels if label in self.setup.outputs]
        if truth is not None:
            labels = [label for label in labels if label in truth.objects]
        record: Record = {"pairs": []}
        if labels:
            record = self._scored(item, self._pixels(image), labels, truth)
        write_json(_score_path(self.folder, item), record)

    def _scored(
        self, item: Item, pixels: Tensor, labels: list[int], truth: ObjectMasks | None
    ) -> Record:
        logits, forward_seconds = timed(lambda: self._forward(pixels), self.setup.device)
        indices = [self._target(logits, label) for label in labels]
        targets = torch.tensor(indices, device=pixels.device)
        maps, seconds = timed(lambda: self._attribute(pixels, targets), self.setup.device)
        pairs: list[Record] = [
            {"class": self.classes[label], "target": target}
            for label, target in zip(labels, indices, strict=True)
        ]
        if truth is not None:
            masks = torch.from_numpy(np.stack([truth.objects[label] for label in labels]))
            void = torch.from_numpy(truth.void)
            _add(pairs, localisation(maps.cpu(), masks, void, self.config.threshold))
        if item.id in self.tested:
            _add(pairs, self.faithfulness.scores(pixels, maps, targets))
            _add(pairs, self.repeated.scores(pixels, maps, targets))
            _add(pairs, self._in_mosaic(item, targets))
        if item.id in self.shown:
            self._keep(item, maps, labels)
        record = {"pairs": pairs, "seconds": seconds, "forward_seconds": forward_seconds}
        return record | self._memory(item, pixels, targets)

    def _in_mosaic(self, item: Item, targets: Tensor) -> list[Record]:
        items, cell = mosaic_of(self.setup.items, self.setup.items.index(item))
        if not items or not self.config.mosaics:
            return [{} for _ in targets]
        images = [self._pixels(read_image(one.image), square=True) for one in items]
        return self.repeated.in_mosaic(images, targets, cell)

    def _memory(self, item: Item, pixels: Tensor, targets: Tensor) -> Record:
        if item.id not in self.measured:
            return {}
        device = self.setup.device
        return {
            "bytes": peak_bytes(lambda: self._attribute(pixels, targets), device),
            "forward_bytes": peak_bytes(lambda: self._forward(pixels), device),
        }

    def _keep(self, item: Item, maps: Tensor, labels: list[int]) -> None:
        values = for_the_eye(maps).cpu().numpy().astype(np.float16)
        with atomic_path(map_path(self.folder, item)) as path, path.open("wb") as stream:
            np.savez_compressed(stream, maps=values, classes=np.asarray(labels))

    def _pixels(self, image: NDArray[np.uint8], *, square: bool = False) -> Tensor:
        longer = self.config.size or self.classifier.preprocessing.size
        height, width = (1, 1) if square else image.shape[:2]
        size = scaled_size(height, width, longer)
        pixels = resize(to_tensor(image)[None].float(), size).to(self.setup.device)
        return self.classifier.preprocessing.normalise(pixels)

    def _truth(self, item: Item, size: tuple[int, int]) -> ObjectMasks | None:
        if self.setup.truth_version is None:
            return None
        if self.config.truth == Truth.boxes:
            return boxes_of(box_path(self.config.annotations, item), self.classes, size)
        return masks_of(item)

    def _forward(self, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.classifier.network(pixels)
        return logits

    def _target(self, logits: Tensor, label: int) -> int:
        """The logit of a class; of several the highest on this image."""
        outputs = self.setup.outputs[label]
        return outputs[int(logits[0, list(outputs)].argmax())]

    def _attribute(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Raw maps [K, h, w] of one image, all classes in one call."""
        return self.method.attribute(pixels, targets[None])[0].float()


def for_the_eye(maps: Tensor) -> Tensor:
    """The positive part in [0, 1]; 1 is reached by the highest 0.5 % of the pixels.

    A gradient's maximum is a single pixel, beside which all others would be black.

    Example:
        >>> for_the_eye(torch.tensor([[[-1.0, 0.0], [2.0, 4.0]]])).tolist()
        [[[0.0, 0.0], [0.503778338432312, 1.0]]]
    """
    positive = maps.clamp(min=0)
    top = positive.flatten(1).quantile(_BRIGHT, dim=1)
    top = torch.where(top > 0, top, positive.amax((-2, -1)))
    return (positive / top.clamp(min=1e-20)[:, None, None]).clamp(max=1)


def box_path(annotations: str | None, item: Item) -> Path:
    """The VOC annotation of an image: in a folder, or where VOC has it."""
    beside = item.image.parent.parent / "Annotations"
    return (beside if annotations is None else Path(annotations)) / f"{item.id}.xml"


@contextmanager
def _images_to_blame() -> Iterator[None]:
    """Lets pass only the errors that say that a method cannot explain the network."""
    try:
        yield
    except (LayerError, UnsupportedModelError):
        raise
    except TSGBError:
        return


def _ids(items: Sequence[Item]) -> frozenset[str]:
    return frozenset(item.id for item in items)


def _add(pairs: Sequence[Record], more: Sequence[Record]) -> None:
    for pair, scores in zip(pairs, more, strict=True):
        pair.update(scores)
