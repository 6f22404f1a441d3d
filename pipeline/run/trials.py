"""Trials of networks that are to be trained or used, at the sizes that will be used, and timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import product
from math import sqrt

import torch

from pipeline.base.config import (
    ClassifierConfig,
    EvaluateConfig,
    RelabelConfig,
    SegmenterConfig,
)
from pipeline.base.errors import ConfigError, PipelineError, at_most, reason
from pipeline.base.ranks import here
from pipeline.data.catalogue import Item
from pipeline.data.pixels import stored_size
from pipeline.networks.colours import with_colours
from pipeline.networks.device import device_of
from pipeline.networks.pixels import scaled_size
from pipeline.run.building import build, name_of
from pipeline.run.context import RunContext
from pipeline.stages.maps import masked_split
from pipeline.stages.predictions import evaluated_split
from pipeline.stages.trained import given_segmenter
from pipeline.stages.training import enough_epochs
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.segmenter import SegmenterTask
from pipeline.tasks.trial import seconds_of, try_classifier, try_segmenter, try_training
from tsgb.errors import LayerError, TSGBError, UnsupportedModelError

_LARGEST = 2**20  # px of a trial; larger images only need more memory and time
_TIMED = 2**18  # px of all crops of a step; fewer would be slower for each pixel
_REFUSALS = (LayerError, UnsupportedModelError)  # of a network, whatever the image
Size = tuple[int, int]  # height and width, px


class Trials:
    """Trials of one run's networks, a method a stage; each takes seconds.

    Networks start from noise and are thrown away. Each method returns an estimate of the seconds
    that the stage's networks will take, of all images and epochs.

    Raises:
        ConfigError: A network cannot be trained, or cannot take the images that it will be given.
    """

    def __init__(self, run: RunContext) -> None:
        self.run = run
        self.settings = run.settings
        self._known: dict[str, Size] = {}
        self._pace: dict[tuple[int, Size, float], float] = {}

    def classifier(self) -> float:
        """Steps of training, and one classification."""
        config, trainer, task = self.settings.classifier, self.settings.trainer, self._classifier()
        labels = torch.zeros(self._batch(config), len(self.run.data.classes))
        seconds = try_training(task, labels, config.size, trainer)
        try_classifier(task, (config.size, config.size), trainer)
        return seconds / len(labels) * self._crops(config)

    def saliency(self) -> float:
        """The classifier at the sizes of the maps, and the method at one of them."""
        config, task = self.settings.saliency, self._classifier()
        items = masked_split(config, self.run.data).items
        scales = sorted({min(config.scales), max(config.scales)})
        sizes = self._explained(scales, self._extremes(items))
        for size in dict.fromkeys(sizes):
            try_classifier(task, size, self.settings.trainer)
        if not sizes:
            return 0.0
        one = max((size for size in sizes if area(size) <= _TIMED), default=min(sizes))
        seconds = self._explain(task.eval(), one)
        every = self._explained(config.scales, self._sizes(items).values())
        return seconds / area(one) * sum(map(area, every)) * (1 + config.flip) * self._share

    def _explained(self, scales: Iterable[float], images: Iterable[Size]) -> list[Size]:
        """The sizes at which images are explained."""
        longer = self.settings.saliency.size
        return [scaled_size(*size, longer * scale) for scale, size in product(scales, images)]

    def _explain(self, task: ClassifierTask, size: Size) -> float:
        method, device = self.settings.saliency.method, device_of(self.settings.trainer)
        colours = task.to(device).colours
        pixels = colours.normalise(colours.noise(1, *size).to(device))
        try:
            built = build({**method, "model": task.network}, "saliency.method")
            target = torch.zeros(1, 1, dtype=torch.int64, device=device)
            return seconds_of(lambda: built.attribute(pixels, target))
        except PipelineError:
            raise
        except Exception as error:
            blame = not isinstance(error, TSGBError) or isinstance(error, _REFUSALS)
            if blame:  # and not an error about these pixels
                raise ConfigError(
                    f"saliency.method: {name_of(method)} cannot explain {task.title}: "
                    f"{reason(error)}"
                ) from error
            return 0.0

    def segmentation(self) -> float:
        """Steps of training, and predictions as the evaluation makes them."""
        config, items = self.settings.segmenter, self.run.data.train.items
        self._require_pixels("segmenter.scale", items, config.scale, int)
        task = self._segmenter
        task.loss = build(config.loss, "segmenter.loss")
        labels = torch.zeros(self._batch(config), config.size, config.size)
        seconds = try_training(task, labels, config.size, self.settings.trainer)
        self._predict(task, "evaluate", self._evaluated, self.settings.evaluate)
        return seconds / len(labels) * self._crops(config)

    def relabel(self) -> float:
        """Predictions of training images."""
        items = self.run.data.train.items
        return self._predict(self._segmenter, "relabel", items, self.settings.relabel)

    def evaluate(self) -> float:
        """Predictions of the split."""
        config = self.settings.evaluate
        if config.masks is not None:
            return 0.0
        task = self._segmenter
        if config.checkpoint is not None:
            task = given_segmenter(config.checkpoint, "evaluate.checkpoint", self.run.data)
        return self._predict(task, "evaluate", self._evaluated, config)

    def _predict(
        self,
        task: SegmenterTask,
        group: str,
        items: Sequence[Item],
        config: EvaluateConfig | RelabelConfig,
    ) -> float:
        scales = config.scales
        self._require_pixels(f"{group}.scales", items, scales, round)
        for size, scale in product(self._extremes(items), sorted({min(scales), max(scales)})):
            one, shown = (id(task), size, scale), _bounded(size, scale)
            if one not in self._pace:
                seconds = try_segmenter(task, shown, scale, self.settings.trainer)
                self._pace[one] = seconds / (area(shown) * scale**2)
        paces = [pace for (network, *_), pace in self._pace.items() if network == id(task)]
        pixels = sum(map(area, self._sizes(items).values())) * sum(scale**2 for scale in scales)
        return min(paces, default=0.0) * pixels * (1 + config.flip) * self._share

    @property
    def _share(self) -> float:
        """The share of this process."""
        return 1 / here().size

    def _crops(self, config: ClassifierConfig | SegmenterConfig) -> float:
        """How many crops this process trains on."""
        images = len(self.run.data.train.items)
        steps = enough_epochs(config, images) * max(images // config.batch_size, 1)
        return steps * min(config.batch_size, images) * self._share

    @property
    def _evaluated(self) -> Sequence[Item]:
        return evaluated_split(self.settings.evaluate, self.run.data).items

    def _classifier(self) -> ClassifierTask:
        config = replace(self.settings.classifier, weights="none")
        return ClassifierTask.from_config(config, self.run.data.classes, self.run.data.bands)

    @cached_property
    def _segmenter(self) -> SegmenterTask:
        data = self.run.data
        config = with_colours(self.settings.segmenter, self.settings.classifier, data.bands)
        return SegmenterTask.from_config(replace(config, weights="none"), data.classes, data.bands)

    def _batch(self, config: ClassifierConfig | SegmenterConfig) -> int:
        step = min(config.batch_size, len(self.run.data.train.items))
        enough = max(_TIMED // config.size**2, 2)
        return min(step // here().size, enough)  # of the process with the smallest share

    def _extremes(self, items: Sequence[Item]) -> list[Size]:
        """The sizes of the smallest and of the largest image."""
        sizes = sorted(self._sizes(items).values(), key=area)
        return list(dict.fromkeys(sizes[:1] + sizes[-1:]))

    def _require_pixels(
        self,
        setting: str,
        items: Sequence[Item],
        scales: Sequence[float],
        whole: Callable[[float], int],
    ) -> None:
        """Raise if nothing is left of an image at the smallest scale, rounded with ``whole``."""
        least = min(scales)
        gone = [
            f"{name}: {width} x {height} px"
            for name, (height, width) in self._sizes(items).items()
            if whole(min(height, width) * least) < 1
        ]
        if gone:
            raise ConfigError(
                f"{setting}: {len(gone)} of {len(items)} images have less than one pixel at scale "
                f"{least:g}. Raise the scale, or take them off the list.\n{at_most(gone)}"
            )

    def _sizes(self, items: Sequence[Item]) -> dict[str, Size]:
        """Sizes by id. An image that cannot be read any more is left to the stage, which names it.

        Only the headers of the files are read.
        """
        for item in items:
            if item.id not in self._known:
                size = stored_size(item)
                self._known |= {item.id: size} if size else {}
        return {item.id: self._known[item.id] for item in items if item.id in self._known}


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """After the block torch draws what it would have drawn without it."""
    with torch.random.fork_rng([0] if torch.cuda.is_available() else []):
        yield


def area(size: Size) -> int:
    """Pixels."""
    return size[0] * size[1]


def _bounded(size: Size, scale: float = 1.0) -> Size:
    """A size with at most ``_LARGEST`` px, at a scale too; the aspect ratio stays the same.

    Example:
        >>> _bounded((375, 500)), _bounded((3000, 4000))
        ((375, 500), (886, 1182))
    """
    ratio = min(1.0, sqrt(_LARGEST / (area(size) * max(scale, 1.0) ** 2)))
    return max(int(size[0] * ratio), 1), max(int(size[1] * ratio), 1)
