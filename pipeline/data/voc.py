"""Data sets in the folder layout of PASCAL VOC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import DataError, at_most
from pipeline.data.catalogue import Catalogue, Item, Split
from pipeline.data.images import IMAGE_SUFFIXES
from pipeline.data.labels import (
    Labels,
    plain_id,
    read_classes,
    read_csv_labels,
    read_lines,
    read_xml_labels,
)

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The 20 classes of VOC; class ``k`` has the value ``k + 1`` in the official masks."""


def load_voc(
    root: Path | str,
    *,
    train: Path | str = "train_aug",
    scored: Path | str | None = "train",
    val: Path | str = "val",
    labels: Path | str | None = None,
    classes: Sequence[str] | Path | str | None = None,
    masks: str = "SegmentationClass",
    train_masks: str = "SegmentationClassAug",
    year: str = "2012",
    download: bool = False,
    name: str = "voc",
) -> Catalogue:
    """A VOC data set as a catalogue: lists and labels are read, images and masks are not.

    A split is the name of a list in ``ImageSets/Segmentation`` or the path of a list file with
    one id a line; lists of ``/JPEGImages/<id>.jpg <mask>`` pairs work too. Only ground truth that
    is there is used: a training image takes its mask from ``train_masks``, else from ``masks``,
    else has none; a split of which no image has a mask (VOC test) has none at all.

    Args:
        root: The folder that contains ``VOCdevkit``, or ``VOCdevkit`` itself.
        train: What is learned from.
        scored: The part of ``train`` whose pseudo-masks are scored; None for no scores.
        val: Held-out images.
        labels: CSV file of image labels (see ``read_csv_labels``); None reads the object names
            in ``Annotations``.
        classes: Class names in the order of the mask values, or a text file with one a line;
            None means the 20 classes of VOC.
        masks: Folder of the official masks, for ``scored`` and ``val``.
        train_masks: Folder of the masks of ``train``, used only by the fully supervised twin.
        year: Of the challenge, as in ``VOCdevkit/VOC2012``.
        download: Fetch the official archive if ``root`` holds no such data set.
        name: Of the catalogue.

    Raises:
        DataError: A folder or list is missing, an image has no labels, ``scored`` is not part of
            ``train``, or an id is in both ``train`` and ``val``.
    """
    year = str(year)
    if download:
        _download(Path(root), year)
    source = _Source.find(Path(root), year, masks, train_masks)
    class_names = read_classes(VOC_CLASSES if classes is None else classes)
    lists = {"train": source.list_of(train), "val": source.list_of(val)}
    lists["scored"] = [] if scored is None else source.list_of(scored)
    _check_splits(lists, str(train), str(scored), str(val))
    known = _read_labels(source, labels, lists, class_names)
    return Catalogue(
        name=name,
        classes=class_names,
        train=source.train_split(_title(train), lists["train"], known),
        scored=source.scored_split(_title(scored or "none"), lists["scored"], known),
        val=source.scored_split(_title(val), lists["val"], known),
    )


@dataclass(frozen=True)
class _Source:
    """One ``VOC<year>`` folder, its file names read once (folders may be on slow disks)."""

    folder: Path
    images: dict[str, Path]
    masks: dict[str, Path]
    train_masks: dict[str, Path]
    mask_folder: Path

    @classmethod
    def find(cls, root: Path, year: str, masks: str, train_masks: str) -> _Source:
        folder = _find_folder(root, year)
        if folder is None:
            raise DataError(
                f"{root}: neither VOCdevkit/VOC{year} nor VOC{year} is in it. There would be no "
                "images. Give as root the folder that contains VOCdevkit, or set download=true."
            )
        return cls(
            folder=folder,
            images=_files(folder / "JPEGImages", IMAGE_SUFFIXES),
            masks=_files(folder / masks, (".png",)),
            train_masks=_files(folder / train_masks, (".png",)),
            mask_folder=folder / masks,
        )

    def list_of(self, split: Path | str) -> list[str]:
        """Ids of a split, in the order of its list."""
        path = Path(split)
        if path.suffix != ".txt" and len(path.parts) == 1:
            path = self.folder / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not path.is_file():
            raise DataError(_missing_list(str(split), path))
        ids = [_listed_id(line) for line in read_lines(path, "one image id a line")]
        repeated = [id_ for id_, count in Counter(ids).items() if count > 1]
        if repeated:
            raise DataError(
                f"{path}: {len(repeated)} id(s) are listed more than once.\n{at_most(repeated)}\n"
                "These images would count double. List every id once."
            )
        return ids

    def train_split(self, name: str, ids: Sequence[str], labels: Labels) -> Split:
        """Masks wherever there are any: only the fully supervised twin learns from them."""
        found = {**self.masks, **self.train_masks}
        return Split(name, tuple(self._item(id_, labels, found.get(id_)) for id_ in ids))

    def scored_split(self, name: str, ids: Sequence[str], labels: Labels) -> Split:
        """Masks for all, so that a missing one is noticed, or for none if there is not one."""
        if not any(id_ in self.masks for id_ in ids):
            return Split(name, tuple(self._item(id_, labels, None) for id_ in ids))
        expected = {id_: self.masks.get(id_, self.mask_folder / f"{id_}.png") for id_ in ids}
        return Split(name, tuple(self._item(id_, labels, expected[id_]) for id_ in ids))

    def _item(self, id_: str, labels: Labels, mask: Path | None) -> Item:
        image = self.images.get(id_, self.folder / "JPEGImages" / f"{id_}.jpg")
        return Item(id_, image, labels.get(id_, ()), mask)


def _find_folder(root: Path, year: str) -> Path | None:
    candidates = (root / "VOCdevkit" / f"VOC{year}", root / f"VOC{year}")
    return next((folder for folder in candidates if (folder / "JPEGImages").is_dir()), None)


def _files(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Files of a folder by stem; of ``a.jpg`` and ``a.png`` the suffix that comes first wins."""
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    for suffix in suffixes:
        for path in folder.glob(f"*{suffix}"):
            found.setdefault(path.stem, path)
    return found


def _listed_id(line: str) -> str:
    """``2007_000032`` from itself or from ``/JPEGImages/2007_000032.jpg /Masks/....png``."""
    entry = line.split()[0]
    return Path(entry).stem if "/" in entry else plain_id(entry)


def _title(split: Path | str) -> str:
    return Path(split).stem


def _missing_list(split: str, path: Path) -> str:
    present = sorted(file.stem for file in path.parent.glob("*.txt"))
    text = (
        f"{path}: there is no list for the split {split!r}. There would be nothing to read. "
        f"Lists in that folder: {', '.join(present) or 'none'}."
    )
    if split == "train_aug":
        text += (
            " train_aug (10582 ids: VOC train and the SBD images) is not part of the official "
            "archive. Put train_aug.txt there, or use train=train."
        )
    return text


def _check_splits(lists: dict[str, list[str]], train: str, scored: str, val: str) -> None:
    known = set(lists["train"])
    leaked = [id_ for id_ in lists["val"] if id_ in known]
    if leaked:
        raise DataError(
            f"{len(leaked)} id(s) are both in train ({train}) and in val ({val}).\n"
            f"{at_most(leaked)}\nThe network would be scored on what it learned. Take them off "
            "one of the two lists."
        )
    unknown = [id_ for id_ in lists["scored"] if id_ not in known]
    if unknown:
        raise DataError(
            f"{len(unknown)} id(s) of scored ({scored}) are not in train ({train}).\n"
            f"{at_most(unknown)}\nThey get no pseudo-mask that could be scored. Choose a part of "
            "train, or scored=null."
        )


def _read_labels(
    source: _Source,
    labels: Path | str | None,
    lists: dict[str, list[str]],
    classes: Sequence[str],
) -> Labels:
    """Labels of every image; only a val split may go without, and then altogether."""
    if labels is None:
        origin = source.folder / "Annotations"
        known = read_xml_labels(origin, [*lists["train"], *lists["val"]], classes)
    else:
        origin = Path(labels)
        known, _ = read_csv_labels(origin, classes)
    required = list(lists["train"])
    if any(id_ in known for id_ in lists["val"]):
        required += lists["val"]
    missing = [id_ for id_ in required if id_ not in known]
    if missing:
        raise DataError(
            f"{origin}: {len(missing)} of {len(required)} images have no labels there.\n"
            f"{at_most(missing)}\nThey would be taken for pure background. Add their labels or "
            "take them off the list."
        )
    return known


def _download(root: Path, year: str) -> None:
    """The official archive through torchvision, unless the data set is already there."""
    if _find_folder(root, year) is not None:
        return
    from torchvision.datasets import VOCSegmentation

    try:
        VOCSegmentation(str(root), year=year, image_set="train", download=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{root}: VOC{year} could not be downloaded ({error}). There would be no images. "
            "Check the network, or fetch VOCtrainval_11-May-2012.tar elsewhere, unpack it here "
            "so that VOCdevkit/VOC2012 exists, and leave out download."
        ) from error
