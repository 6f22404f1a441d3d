"""The images of a run for its report: layers, numbers to sort by, and what is confused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import LabelImage
from pipeline.commands.run_results import TWIN, RunResults
from pipeline.data.catalogue import BACKGROUND, VOID, Item, Split
from pipeline.data.truth import ground_truth
from pipeline.networks.device import workers_of
from pipeline.report.gallery import (
    NAMES,
    Gallery,
    PictureFiles,
    Shown,
    error_by_names,
    kind_of_error,
)
from pipeline.report.tables import is_number
from pipeline.scoring import ConfusionMatrix
from pipeline.stages.corrected import without
from pipeline.stages.label_images import mask_path
from pipeline.stages.maps import map_path, masked_split, read_maps, scored_split
from pipeline.stages.own_files import read_labels
from pipeline.stages.predictions import evaluated_split, prediction_path

Counts = NDArray[np.int64]

_MASKS = {"masks": "training mask", "refined": "refined mask", "seeds": "seed"}
_SCORED_MASK = "refined mask"
TRUTH = "ground truth"
ERRORS = "errors "  # and, in brackets, the caption of the label image
IOU, COVERED, DISAGREE = "mIoU", "covered by objects", "disagreement"

_OPEN = "Open an image to blend its layers."
_NUMBERS = {
    IOU: "mIoU: over the classes in one image.",
    COVERED: "Covered: share of the pixels that are an object.",
    DISAGREE: "Disagreement: 1 - mean IoU of {}.",
}
_ERROR = (
    "Error: missed objects, wrong names, or leaks into the background, whichever has most pixels; "
    "good: less than 2 % of the pixels are wrong."
)
_BY_NAMES = (
    "Error, by the image label alone: “empty” (no object), “named, not found” (no pixel of a class "
    "that the label names), or “not named” (2 % of the pixels or more have classes that it does "
    "not name)."
)
_WRONG = "Layer “errors”: wrong pixels in the colour of their wrong class, missed objects striped."
_MAPS = "Maps go from transparent (zero) over red to light yellow (the map's maximum)."


@dataclass(frozen=True)
class _Source:
    """Images of a split, with the label images that there are of each.

    Attributes:
        split: The images.
        layers: The files of label images by caption; the first one is the main layer.
        scored: Caption of the label image that numbers are of.
        against: Caption of the one that it is compared with.
        truths: Ids of the images whose ground truth counts.
    """

    split: Split
    layers: Callable[[Item], Mapping[str, Path]]
    scored: str
    against: str
    truths: frozenset[str]
    maps: Path | None = None


@dataclass
class RunImages:
    """All images of a run, read once.

    Attributes:
        found: Results of the run.
        page: The page, beside which picture files are written.
    """

    found: RunResults
    page: Path
    counts: dict[tuple[str, str], Counts] = field(default_factory=dict)
    """Confusion matrices by what was scored and the name of the split."""

    @cached_property
    def gallery(self) -> Gallery | None:
        """Every image that was predicted or has masks; None before there is one."""
        found: dict[tuple[str, str], Shown] = {}
        for image in (image for source in self._sources() for image in self._shown(source)):
            key = (image.split, image.id)
            found[key] = _joined(found[key], image) if key in found else image
        shown = list(found.values())
        self._files.tidy()
        if not shown:
            return None
        if any(is_number(image.numbers.get(IOU)) for image in shown):
            return Gallery(shown, _hint(shown), IOU)
        first = sorted(shown, key=lambda image: (*NAMES, "").index(image.kind))
        return Gallery(first, _hint(shown), listed="errors first")

    @cached_property
    def _files(self) -> PictureFiles:
        return PictureFiles(self.page, len(self.found.classes))

    def _sources(self) -> Iterator[_Source]:
        found, config = self.found, self.found.run.settings
        named = {"evaluate": found.segmenter_title, "evaluate_twin": TWIN}
        stages = {
            title: found.done[name].path for name, title in named.items() if name in found.done
        }
        if stages:
            split = evaluated_split(config.evaluate, found.run.data)
            scored = without(split, found.learned_corrected)
            yield _Source(
                scored,
                lambda item: {
                    title: prediction_path(config.evaluate, path, item)
                    for title, path in stages.items()
                },
                next(iter(stages)), TWIN, frozenset(scored.ids),
            )  # fmt: skip
        if "pseudo_labels" in found.done:
            yield self._masked()

    def _masked(self) -> _Source:
        found, config = self.found, self.found.run.settings.saliency
        folder, again = found.done["pseudo_labels"].path, found.done.get("relabel")
        scored = {item.id: item for item in scored_split(config, found.run.data).items}
        made = masked_split(config, found.run.data)
        items = tuple(scored.get(item.id, item) for item in made.items)

        def layers(item: Item) -> dict[str, Path]:
            paths = {title: mask_path(folder, kind, item) for kind, title in _MASKS.items()}
            if again is not None:
                paths["training mask, relabelled"] = mask_path(again.path, "masks", item)
            return paths

        maps = found.done["saliency"].path if "saliency" in found.done else None
        split = Split(made.name, items)
        return _Source(split, layers, _SCORED_MASK, _MASKS["seeds"], frozenset(scored), maps)

    def _shown(self, source: _Source) -> Iterator[Shown]:
        with ThreadPoolExecutor(max(workers_of(self.found.run.settings.trainer), 1)) as pool:
            for shown, counts in pool.map(partial(self._one, source), source.split.items):
                if counts is not None:
                    key = (source.scored, source.split.name)
                    self.counts[key] = self.counts.get(key, np.zeros_like(counts)) + counts
                yield shown

    def _one(self, source: _Source, item: Item) -> tuple[Shown, Counts | None]:
        """An image, and the confusion matrix of its main label image if it is scored."""
        paths = {title: path for title, path in source.layers(item).items() if path.exists()}
        labels = {title: read_labels(path, self.found.run.folder) for title, path in paths.items()}
        if item.mask is not None and item.mask.is_file():
            paths[TRUTH], labels[TRUTH] = item.mask, ground_truth(item)
            if source.scored in labels:
                title = f"{ERRORS}({source.scored})"
                paths[title] = _younger(paths[source.scored], item.mask)
                labels[title] = errors(labels[source.scored], labels[TRUTH])
        counted = {TRUTH, source.scored} <= labels.keys() and item.id in source.truths
        scored = self._matrix(labels[source.scored], labels[TRUTH]) if counted else None
        numbers = {IOU: _or_none(scored.mean_iou())} if scored else {}
        layers, note = self._layers(source, item, paths, labels)
        kind = kind_of_error(scored.counts) if scored else ""
        if source.scored in labels and not scored:
            kind = error_by_names(labels[source.scored], [k + 1 for k in item.labels])
        shown = Shown(
            item.id, source.split.name, [self.found.classes[k] for k in item.labels], layers,
            {**numbers, **self._numbers(source, labels)}, kind, note,
        )  # fmt: skip
        return shown, scored.counts if scored else None

    def _layers(
        self,
        source: _Source,
        item: Item,
        paths: Mapping[str, Path],
        labels: Mapping[str, LabelImage],
    ) -> tuple[dict[str, str], str]:
        """Addresses of the pictures by caption, the photo first, and what is wrong with it."""
        name = f"{source.split.name}/{item.id}"
        photo, note = self._files.photo(name, item)
        layers = {"photo": photo}
        for title, path in paths.items():
            layers[title] = self._files.labels(name, title, path, labels[title])
        return layers | self._maps(source, item, name), note

    def _numbers(
        self, source: _Source, labels: Mapping[str, LabelImage]
    ) -> dict[str, float | None]:
        """What is known of an image without ground truth."""
        own, other = labels.get(source.scored), labels.get(source.against)
        if own is None:
            return {}
        objects = (own != BACKGROUND) & (own != VOID)
        numbers: dict[str, float | None] = {COVERED: float(objects.mean())}
        if other is not None:
            alike = _or_none(self._matrix(own, other).mean_iou())
            numbers[DISAGREE] = None if alike is None else 1 - alike
        return numbers

    def _matrix(self, labels: LabelImage, truth: LabelImage) -> ConfusionMatrix:
        matrix = ConfusionMatrix(len(self.found.classes) + 1)
        matrix.update(labels, truth)
        return matrix

    def _maps(self, source: _Source, item: Item, name: str) -> dict[str, str]:
        if source.maps is None or not map_path(source.maps, item).exists():
            return {}
        path, maps = map_path(source.maps, item), read_maps(source.maps, item)
        return {
            f"map: {self.found.classes[k]}": self._files.map(name, f"map {k + 1}", path, saliency)
            for k, saliency in zip(item.labels, maps, strict=True)
        }


def errors(labels: LabelImage, truth: LabelImage) -> LabelImage:
    """The wrong pixels of a label image: their class, or void where an object was missed.

    Args:
        labels: What was predicted, uint8 [H, W]; void counts as background.
        truth: Ground truth, uint8 [H, W]; its void is never wrong.

    Example:
        >>> labels, truth = np.array([[0, 1, 2, 0, 1, VOID]]), np.array([[0, 1, 1, 1, VOID, 0]])
        >>> errors(labels, truth)
        array([[  0,   0,   2, 255,   0,   0]])
    """
    labels = np.where(labels == VOID, BACKGROUND, labels)  # as scores take it
    right = (labels == truth) | (truth == VOID)
    return np.where(right, BACKGROUND, np.where(labels == BACKGROUND, VOID, labels))


def _younger(first: Path, second: Path) -> Path:
    return max(first, second, key=lambda path: path.stat().st_mtime_ns)


def _hint(images: Sequence[Shown]) -> str:
    """A sentence about each thing that there is on the page."""
    known = {name for image in images for name, value in image.numbers.items() if is_number(value)}
    kinds = {image.kind for image in images} - {""}
    captions = {caption for image in images for caption in image.layers}
    pairs = {TWIN: "segmenter and twin", _MASKS["seeds"]: "seed and refined mask"}
    compared = " or of ".join(pair for caption, pair in pairs.items() if caption in captions)
    numbers = [text.format(compared) for name, text in _NUMBERS.items() if name in known]
    found = [_ERROR] * bool(kinds - {*NAMES}) + [_BY_NAMES] * bool(kinds & {*NAMES})
    starts = {_MAPS: "map: ", _WRONG: ERRORS}
    shown = [text for text, start in starts.items() if any(c.startswith(start) for c in captions)]
    return " ".join([_OPEN, *numbers, *found, *shown])


def _joined(first: Shown, second: Shown) -> Shown:
    """A held-out image that was predicted and has masks, too; numbers are of the prediction."""
    return replace(first, layers={**first.layers, **second.layers})


def _or_none(value: float) -> float | None:
    return value if is_number(value) else None
