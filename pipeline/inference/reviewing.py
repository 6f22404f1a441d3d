"""Which images of a run are most worth a person's minutes: looked at one by one, then ranked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.base.arrays import Floats, Pixels
from pipeline.base.errors import StorageError
from pipeline.base.files import fingerprint, read_sealed, write_bytes, write_sealed
from pipeline.data.catalogue import Item
from pipeline.data.datasets import to_tensor
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.data.pixels import read_pixels
from pipeline.inference.network import Network
from pipeline.inference.outputs import facts_of, version_of
from pipeline.inference.signals import SIGNALS, Seen, reason, score_of, signals_of, standings
from pipeline.masks.seed import label_image
from pipeline.stages.label_images import mask_path
from pipeline.stages.own_files import read_own
from pipeline.tasks.predictor import ClassifierPrior

LAYOUT = 1
_NOTES = ".done"  # a note for each image: that it was looked at, and what was found
_SMALLER = 0.75  # the scale of one other view of an image, relative to the network's own
_REMEDY = "Remove it: the same command makes it anew"


@dataclass(frozen=True)
class Ranked:
    """An image in its place.

    Attributes:
        item: The image.
        score: Mean over the signals of the share of the images that have less of it, in (0, 1).
        reason: In words, why it stands here.
        found: Names of the classes that the network finds.
        signals: Each signal by name; without a pseudo-mask, one is missing.
    """

    item: Item
    score: float
    reason: str
    found: tuple[str, ...]
    signals: Mapping[str, float]


class Reviewer:
    """Looks at images, and keeps what it found in a folder.

    Args:
        folder: Where notes and predicted label images go.
        network: The network, used as its run was evaluated.
        classifier: The classifier of the run.
        masks: Folder of the stage that made the pseudo-masks; None for images that have none.
        made_from: Fingerprints of what made classifier and pseudo-masks.
    """

    def __init__(
        self,
        folder: Path,
        network: Network,
        classifier: ClassifierPrior,
        masks: Path | None,
        made_from: Sequence[str],
    ) -> None:
        self.folder = folder
        self._network = network
        self._classifier = classifier.eval().to(network.device)
        self._masks = masks
        self._made_from = [LAYOUT, facts_of(network), list(made_from)]

    def label_path(self, item: Item) -> Path:
        """The label image that the network predicts."""
        return self.folder / "labels" / f"{item.id}.png"

    def mask_path(self, item: Item) -> Path | None:
        """The pseudo-mask of an image; None if it has none."""
        path = None if self._masks is None else mask_path(self._masks, "masks", item)
        return path if path is not None and path.is_file() else None

    def _note(self, item: Item) -> Path:
        return self.folder / _NOTES / f"{item.id}.json"

    def _version(self, item: Item) -> str:
        """Changes with everything that the note of an image depends on."""
        has_mask = self.mask_path(item) is not None
        return fingerprint([self._made_from, item.labels, version_of(item.image), has_mask])

    def is_done(self, item: Item) -> bool:
        """Whether the image was looked at as it is now."""
        try:
            note = read_sealed(self._note(item), LAYOUT, _REMEDY)
        except (OSError, StorageError):
            return False
        return note["made_from"] == self._version(item) and self.label_path(item).is_file()

    def look(self, item: Item) -> None:
        """Write the label image of an image, and the note about it last.

        Raises:
            DataError: The image, or its pseudo-mask, cannot be read.
        """
        version, seen = self._version(item), self._seen(item)
        write_bytes(self.label_path(item), encode_label_image(seen.labels))
        found = {"signals": signals_of(seen), "shares": seen.shares}
        beliefs = {"sureness": _rounded(seen.sureness), "believed": _rounded(seen.believed)}
        note = {"layout": LAYOUT, "made_from": version, **found, **beliefs}
        write_sealed(self._note(item), note)

    def _seen(self, item: Item) -> Seen:
        image, network, path = read_pixels(item), self._network, self.mask_path(item)
        planes = network.unrefined(image)
        refined = network.refined(image, planes)
        every_class = range(len(network.classes))
        straight = label_image(planes, every_class)
        return Seen(
            item.labels,
            label_image(refined, every_class),
            [(straight, label_image(view, every_class)) for view in self._views(image)],
            refined[1:].max(axis=(1, 2)),
            self._believed(image),
            None if path is None else read_own(path, read_label_image),
        )

    def _views(self, image: Pixels) -> Iterator[Floats]:
        """Probabilities of the mirrored and of the smaller image, at the image's own size."""
        passes = replace(self._network.passes, flip=False)
        mirrored = np.ascontiguousarray(image[:, ::-1])
        yield self._network.with_passes(passes).unrefined(mirrored)[..., ::-1]
        scales = tuple(_SMALLER * scale for scale in passes.scales)
        yield self._network.with_passes(replace(passes, scales=scales)).unrefined(image)

    @torch.no_grad()
    def _believed(self, image: Pixels) -> Floats:
        pixels = to_tensor(image)[None].to(self._network.device)
        believed: Floats = self._classifier.believed(pixels, flip=False).cpu().numpy()
        return believed

    def ranked(self, items: Sequence[Item]) -> list[Ranked]:
        """Images that were looked at, those most worth a person's minutes first."""
        done = {item.id: item for item in items if self.is_done(item)}
        notes = {i: read_sealed(self._note(item), LAYOUT, _REMEDY) for i, item in done.items()}
        places = standings({id_: note["signals"] for id_, note in notes.items()})
        images = [self._place(done[id_], notes[id_], places[id_]) for id_ in done]
        return sorted(images, key=lambda image: (-image.score, image.item.id))

    def _place(self, item: Item, note: Mapping[str, Any], standing: Mapping[str, float]) -> Ranked:
        classes, signals = self._network.classes, note["signals"]
        found = tuple(classes[k] for k, share in enumerate(note["shares"]) if share)
        why = reason(item.labels, classes, note, standing)
        ordered = {name: signals[name] for name in SIGNALS if name in signals}
        return Ranked(item, round(score_of(standing), 4), why, found, ordered)


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 4) for value in values]
