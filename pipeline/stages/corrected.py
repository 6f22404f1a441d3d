"""Corrected masks that a segmenter learns from, and the images that it is therefore not scored on.

The checkpoint of the segmenter lists them, so that every score of it can leave them out. Label
images that such a segmenter made of its training images carry the list to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from pipeline.base.arrays import LabelImage
from pipeline.base.config import GROUND_TRUTH, PSEUDO, EvaluateConfig, SegmenterConfig
from pipeline.base.errors import DataError
from pipeline.base.files import read_sealed, write_bytes, write_sealed
from pipeline.data.catalogue import Item, Split
from pipeline.data.palette import encode_label_image
from pipeline.data.void import void_is_background
from pipeline.formats.corrected import Corrected, corrected_masks
from pipeline.stages.job import Job
from pipeline.stages.own_files import CHECKPOINT, read_own

_LIST, _LAYOUT = "corrected.json", 1


def corrected_path(folder: Path, id_: str) -> Path:
    """Where stage `segmentation` keeps the corrected mask of an image."""
    return folder / "corrected" / f"{id_}.png"


def keep_corrected(job: Job, pseudo_mask: Callable[[Item], LabelImage]) -> list[str]:
    """Write the corrected masks into the stage's folder; the ids of their images.

    Labelling tools give back every mask that they were given. A mask that equals the pseudo-mask,
    void taken for background or not, was not corrected and does not count.

    Args:
        job: The job of stage `segmentation`.
        pseudo_mask: The label image that the image would be learned from otherwise.

    Raises:
        DataError: Not one mask was corrected.
    """
    found = corrected_masks(job.settings.data, job.data)
    if found is None:
        return []
    items = [item for item in job.data.train.items if item.id in found.names]
    kept = [item.id for item in items if _keep(job.folder, item, found, pseudo_mask(item))]
    unchanged = len(items) - len(kept)
    if not kept:
        raise DataError(
            f"data.corrected: all {unchanged} masks are those that the network would learn "
            "anyway. Correct some, or leave data.corrected out."
        )
    if unchanged:
        job.terminal.note(
            f"data.corrected: {unchanged} of {len(items)} masks equal the pseudo-masks and do not "
            "count as corrected"
        )
    return kept


def _keep(folder: Path, item: Item, found: Corrected, pseudo: LabelImage) -> bool:
    labels = found.read(item.id)
    if any(np.array_equal(labels, known) for known in (pseudo, void_is_background(pseudo))):
        return False
    write_bytes(corrected_path(folder, item.id), encode_label_image(labels))
    return True


def learned_before(config: SegmenterConfig) -> list[str]:
    """The images whose corrected masks taught the segmenter that made the given label images."""
    if config.labels in (PSEUDO, GROUND_TRUTH):
        return []
    path = Path(config.labels).expanduser().parent / _LIST
    remedy = "Make the label images anew with stage=relabel"
    return list(read_sealed(path, _LAYOUT, remedy)["images"]) if path.is_file() else []


def pass_on(folder: Path, ids: Sequence[str]) -> None:
    """Note beside label images whose corrected masks taught the segmenter that made them."""
    if ids:
        write_sealed(folder / _LIST, {"layout": _LAYOUT, "images": list(ids)})


def learned_corrected(job: Job) -> tuple[str, ...]:
    """The images whose corrected masks taught the segmenter that a stage reads."""
    return read_own(job.inputs["segmentation"] / CHECKPOINT, _corrected_in)


def _corrected_in(checkpoint: Path) -> tuple[str, ...]:
    # With it comes Lightning, seconds that the table of the stages does not need.
    from pipeline.tasks.segmenter import corrected_in

    return corrected_in(checkpoint)


def evaluated_corrected(config: EvaluateConfig, job: Job) -> tuple[str, ...]:
    """The same of the segmenter that is evaluated; of given masks nothing is known."""
    if config.masks is not None:
        return ()
    if config.checkpoint is not None:
        return _corrected_in(Path(config.checkpoint).expanduser())
    return learned_corrected(job)


def without(split: Split, ids: Iterable[str]) -> Split:
    """A split without the images whose corrected masks were learned; its name says how many.

    Example:
        >>> split = Split("train", (Item("a", Path("a"), ()), Item("b", Path("b"), ())))
        >>> without(split, ["b", "c"]).name, without(split, []).name
        ('train without 1 image(s) of learned masks', 'train')
    """
    learned = set(ids)
    items = tuple(item for item in split.items if item.id not in learned)
    less = len(split.items) - len(items)
    if not less:
        return split
    return Split(f"{split.name} without {less} image(s) of learned masks", items)
