"""The same images under each of several runs, for the page of a comparison."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import numpy as np

from pipeline.base.arrays import LabelImage
from pipeline.base.errors import DataError
from pipeline.base.files import fingerprint
from pipeline.data.catalogue import BACKGROUND, Catalogue, Item, spaced
from pipeline.data.palette import read_label_image
from pipeline.data.truth import ground_truth
from pipeline.report.compare_page import ComparedData
from pipeline.report.gallery import Gallery, PictureFiles, Shown
from pipeline.report.tables import is_number
from pipeline.scoring import ConfusionMatrix

TRUTH = "ground truth"
_KINDS = ("prediction", "refined mask", "training mask")
DIFFERENT, APART = "difference", "difference in mIoU"

_HINT = (
    "The same image under each run, of its first random seed. Open an image to blend its layers. "
    "Difference: of the pixels that are an object in any run, the share on which not all runs "
    "agree."
)
_APART_HINT = (
    " Difference in mIoU: the best run of an image minus the worst, over the classes in it."
)


@dataclass(frozen=True)
class Shower:
    """Where the label images of one run are.

    Attributes:
        label: What the run is called.
        folders: Folders of label images by what they are; the main one first.
    """

    label: str
    folders: Mapping[str, Path]

    def paths(self, item: Item) -> Iterator[tuple[str, Path]]:
        """What there is of an image."""
        for kind, folder in self.folders.items():
            path = folder / f"{item.id}.png"
            if path.is_file():
                yield kind, path


def showers(compared: Sequence[ComparedData]) -> list[Shower]:
    """One for each row of each table, by the first random seed of the row."""
    found: dict[str, Shower] = {}
    for data in compared:
        main = data.content.main_measures.get("segmenter")
        for row, group in enumerate(data.content.groups):
            part, label = group.results[0], _free(data.content.label(row), data.title, found)
            masks, made = (
                Path(part.masks.folder),
                part.segmenter.predictions if part.segmenter else {},
            )
            own = made.get(main.note if main else "") or next(iter(made.values()), None)
            folders = [
                Path(own) / "predictions" if own else None,
                masks / "refined",
                masks / "masks",
            ]
            there = {kind: path for kind, path in zip(_KINDS, folders, strict=True) if path}
            found[label] = Shower(label, there)
    return list(found.values())


def _free(label: str, title: str, taken: Collection[str]) -> str:
    """A label that no other run has, with the title of its table and a number if need be.

    Example:
        >>> [_free("a", "val", taken) for taken in ((), ("a",), ("a", "a (val)"))]
        ['a', 'a (val)', 'a (val, 2)']
    """
    numbered = (f"{label} ({title}, {number})" for number in count(2))
    return next(
        name for name in chain((label, f"{label} ({title})"), numbered) if name not in taken
    )


@dataclass(frozen=True)
class ComparedImages:
    """The images of some runs.

    Attributes:
        data: Their data.
        page: The page, beside which picture files are written.
        runs: What is shown of each image.
    """

    data: Catalogue
    page: Path
    runs: Sequence[Shower]

    def gallery(self, most: int, workers: int) -> Gallery | None:
        """Images evenly spaced over each split, at most so many; None if no run has any."""
        items, files = self._items(most), PictureFiles(self.page, len(self.data.classes))
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            shown = list(pool.map(lambda found: self._shown(files, *found), items))
        files.tidy()
        if not shown:
            return None
        scored = any(is_number(image.numbers.get(APART)) for image in shown)
        hint, order = (_HINT + _APART_HINT, APART) if scored else (_HINT, DIFFERENT)
        return Gallery(shown, hint, order, falling=True)

    def _items(self, most: int) -> list[tuple[str, Item]]:
        """Split and item of what is shown."""
        scored = {item.id: item for item in self.data.scored.items}
        found: list[tuple[str, Item]] = []
        for split in (self.data.val, self.data.train) if most else ():
            items = [scored.get(item.id, item) for item in split.items]
            there = [item for item in items if any(any(run.paths(item)) for run in self.runs)]
            found += [(split.name, item) for item in spaced(there, most)]
        return found

    def _shown(self, files: PictureFiles, split: str, item: Item) -> Shown:
        name, numbers = f"{split}/{item.id}", {}
        photo, note = files.photo(name, item)
        found = {(kind, run.label): path for run in self.runs for kind, path in run.paths(item)}
        kinds = list(dict.fromkeys(kind for kind, _ in found))
        labels, damaged = _read(found)
        found = {key: found[key] for key in labels}
        note = " ".join([note, *damaged]).strip()
        layers = {"photo": photo}
        for kind in sorted(kinds, key=_KINDS.index):
            for key in (key for key in found if key[0] == kind):
                file = f"{kind} {fingerprint(str(found[key].parent))[:8]}"
                layers[": ".join(key)] = files.labels(name, file, found[key], labels[key])
            if TRUTH not in layers and item.mask is not None and item.mask.is_file():
                truth = ground_truth(item)
                layers[TRUTH] = files.labels(name, TRUTH, item.mask, truth)
                own = {label: labels[kind, label] for k, label in found if k == kind}
                numbers = _scores(own, truth, len(self.data.classes))
            if DIFFERENT not in numbers:
                numbers[DIFFERENT] = difference([labels[k] for k in found if k[0] == kind])
        shown = [self.data.classes[k] for k in item.labels]
        return Shown(item.id, split, shown, layers, numbers, note=note)


def _read(
    paths: Mapping[tuple[str, str], Path],
) -> tuple[dict[tuple[str, str], LabelImage], list[str]]:
    """Label images by what they are, and a sentence about each that cannot be read."""
    labels, damaged = {}, []
    for key, path in paths.items():
        try:
            labels[key] = read_label_image(path)
        except DataError:
            damaged.append(f"Not shown, since it is damaged: {': '.join(key)} ({path}).")
    return labels, damaged


def difference(labels: Sequence[LabelImage]) -> float | None:
    """Share of the pixels with an object in any label image on which not all are equal.

    Void is a label of its own. None of fewer than two images, 0 where there is no object.

    Example:
        >>> difference([np.array([[0, 1, 1, 2]]), np.array([[0, 1, 0, 3]])])
        0.6666666666666666
    """
    if len(labels) < 2:
        return None
    stacked = np.stack(labels)
    objects = (stacked != BACKGROUND).any(axis=0).sum()
    return float((stacked != stacked[0]).any(axis=0).sum() / objects) if objects else 0.0


def _scores(
    labels: Mapping[str, LabelImage], truth: LabelImage, classes: int
) -> dict[str, float | None]:
    """The mIoU of each run, and how far the best and the worst are apart."""
    found: dict[str, float] = {}
    for label, own in labels.items():
        matrix = ConfusionMatrix(classes + 1)
        matrix.update(own, truth)
        found[f"mIoU: {label}"] = matrix.mean_iou()
    known = [score for score in found.values() if is_number(score)]
    apart = max(known) - min(known) if len(known) > 1 else None
    return {APART: apart, **{name: s if is_number(s) else None for name, s in found.items()}}
