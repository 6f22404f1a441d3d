"""Data sets in the folder layout of PASCAL VOC."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.base.errors import DataError, at_most
from pipeline.data.catalogue import Catalogue, Item, Split, check_object_value
from pipeline.data.class_names import read_classes, read_lines, same_but_for_spelling
from pipeline.data.found_files import MASK_SUFFIXES, files_by_id, folders_beside
from pipeline.data.headers import MAX_MEGAPIXELS
from pipeline.data.ids import IMAGE_SUFFIXES, plain_id
from pipeline.data.labels import Labels, read_csv_labels, read_xml_labels

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The 20 VOC classes; class ``k`` has the value ``k + 1`` in the official masks."""

_MASKS, _TRAIN_MASKS = "SegmentationClass", "SegmentationClassAug"


def load_voc(
    root: Path | str,
    *,
    train: Path | str = "train_aug",
    scored: Path | str | None = "train",
    val: Path | str = "val",
    labels: Path | str | None = None,
    classes: Sequence[str] | Path | str | None = None,
    masks: str | None = _MASKS,
    train_masks: str | None = _TRAIN_MASKS,
    object_value: int = 1,
    max_megapixels: float = MAX_MEGAPIXELS,
    year: str = "2012",
    download: bool = False,
    name: str = "voc",
) -> Catalogue:
    """A VOC data set as a catalogue: lists and labels are read, images and masks are not.

    A split is the name of a list in ``ImageSets/Segmentation`` or the path of a list file with
    one id per line; lists of ``/JPEGImages/<id>.jpg <mask>`` pairs work too. Masks are optional:
    a training image has the mask in ``train_masks``, or else the one in ``masks``, or else none;
    a split without any mask (VOC test) is not scored.

    Args:
        root: The folder that contains ``VOCdevkit``, or ``VOCdevkit`` itself.
        train: Images to learn from.
        scored: The part of ``train`` whose pseudo-masks are scored; None for no scores.
        val: Held-out images.
        labels: CSV file of image labels (see ``read_csv_labels``); None reads the object names
            in ``Annotations``.
        classes: Class names in the order of the mask values, or a text file with one per line;
            None means the 20 VOC classes.
        masks: Folder of the official masks, for ``scored`` and ``val``; None for none.
        train_masks: Folder of the masks of ``train``, used only by the fully supervised twin.
        object_value: Value of the object in masks of a single class, such as 255.
        max_megapixels: Larger images and masks are refused before they are decoded.
        year: Year of the challenge, as in ``VOCdevkit/VOC2012``.
        download: Download the official archive if ``root`` does not contain the data set.
        name: Name of the catalogue.

    Raises:
        ConfigError: ``object_value`` cannot be.
        DataError: A folder or list is missing, an image has no labels, ``scored`` is not part of
            ``train``, or an id is in both ``train`` and ``val``.
    """
    year = str(year)
    if download:
        _download(Path(root), year)
    source = _Source.find(Path(root), year, masks, train_masks)
    class_names = read_classes(VOC_CLASSES if classes is None else classes)
    check_object_value(object_value, class_names)
    source = replace(source, object_value=object_value)
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
        max_megapixels=max_megapixels,
        notes=source.unused_masks({*lists["train"], *lists["val"]}),
    )


@dataclass(frozen=True)
class _Source:
    """One ``VOC<year>`` folder; its file names are read once, since disks may be slow."""

    folder: Path
    images: dict[str, Path]
    masks: dict[str, Path]
    train_masks: dict[str, Path]
    mask_folder: Path
    object_value: int = 1

    @classmethod
    def find(cls, root: Path, year: str, masks: str | None, train_masks: str | None) -> _Source:
        folder = _find_folder(root, year)
        if folder is None:
            raise DataError(
                f"{root}: contains neither VOCdevkit/VOC{year} nor VOC{year}. "
                "Set root to the folder that contains VOCdevkit, or set download=true."
            )
        return cls(
            folder=folder,
            images=_files(folder / "JPEGImages", IMAGE_SUFFIXES),
            masks=_masks(folder, masks, _MASKS, "data.masks"),
            train_masks=_masks(folder, train_masks, _TRAIN_MASKS, "data.train_masks"),
            mask_folder=folder / (masks or _MASKS),
        )

    def list_of(self, split: Path | str) -> list[str]:
        """The ids of a split in the order of its list."""
        path = Path(split)
        if path.suffix != ".txt" and len(path.parts) == 1:
            path = self.folder / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not path.is_file():
            raise DataError(_missing_list(str(split), path))
        ids = [_listed_id(line, self.images) for line in read_lines(path, "one image id per line")]
        repeated = [id_ for id_, count in Counter(ids).items() if count > 1]
        if repeated:
            raise DataError(
                f"{path}: {len(repeated)} id(s) are listed more than once.\n{at_most(repeated)}\n"
                "List every id once."
            )
        return ids

    def train_split(self, name: str, ids: Sequence[str], labels: Labels) -> Split:
        """A split with all masks that exist; only the fully supervised twin learns from them."""
        found = {**self.masks, **self.train_masks}
        return Split(name, tuple(self._item(id_, labels, found.get(id_)) for id_ in ids))

    def scored_split(self, name: str, ids: Sequence[str], labels: Labels) -> Split:
        """A split with a mask for every image, so that the check finds missing ones, or none."""
        if not any(id_ in self.masks for id_ in ids):
            return Split(name, tuple(self._item(id_, labels, None) for id_ in ids))
        expected = {id_: self.masks.get(id_, self.mask_folder / f"{id_}.png") for id_ in ids}
        return Split(name, tuple(self._item(id_, labels, expected[id_]) for id_ in ids))

    def unused_masks(self, ids: set[str]) -> tuple[str, ...]:
        """A note for each folder of masks of which none belongs to a listed image."""
        return tuple(
            f"none of the {len(masks)} masks in {next(iter(masks.values())).parent} belongs to a "
            f"listed image, for example {min(masks)}"
            for masks in (self.masks, self.train_masks)
            if masks and ids.isdisjoint(masks)
        )

    def _item(self, id_: str, labels: Labels, mask: Path | None) -> Item:
        image = self.images.get(id_, self.folder / "JPEGImages" / f"{id_}.jpg")
        return Item(id_, image, labels.get(id_, ()), mask, self.object_value)


def _find_folder(root: Path, year: str) -> Path | None:
    candidates = (root / "VOCdevkit" / f"VOC{year}", root / f"VOC{year}")
    return next((folder for folder in candidates if (folder / "JPEGImages").is_dir()), None)


def _files(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Files of a folder by stem; if two files share a stem, the earlier suffix wins."""
    return files_by_id(folder.iterdir(), folder, suffixes) if folder.is_dir() else {}


def _masks(voc: Path, name: str | None, default: str, setting: str) -> dict[str, Path]:
    """Masks by id; a missing folder is refused unless it is the default, which nobody named."""
    if name is None:
        return {}
    folder = voc / name
    spellings = {same_but_for_spelling(path.name) for path in voc.iterdir()}
    misspelt = name != default or same_but_for_spelling(name) in spellings
    if misspelt and not folder.is_dir():
        raise DataError(
            f"{setting}: there is no folder {folder}. {folders_beside(folder)} {setting}=null is "
            "for a data set without masks."
        )
    return _files(folder, MASK_SUFFIXES)


def _listed_id(line: str, images: Container[str]) -> str:
    """The id in a line of a list.

    The line may be an id, with spaces in it or with a number behind it as in VOC's lists of one
    class, or a pair ``/JPEGImages/2007_000032.jpg /Masks/2007_000032.png``.
    """
    path = re.match(r".+?\.\w+(?=\s|$)", line) or re.match(r"\S+", line)
    first = path[0] if path else line
    readings = (plain_id(line), Path(first).stem, line.split()[0])
    known = [id_ for id_ in readings if id_ in images]
    return known[0] if known else readings["/" in line]


def _title(split: Path | str) -> str:
    return Path(split).stem


def _missing_list(split: str, path: Path) -> str:
    present = sorted(file.stem for file in path.parent.glob("*.txt"))
    text = (
        f"{path}: there is no list for the split {split!r}. "
        f"Lists in that folder: {', '.join(present) or 'none'}."
    )
    if split == "train_aug":
        text += (
            " train_aug (10582 ids: VOC train and the SBD images) is not part of the official "
            "archive. Add train_aug.txt, or use train=train."
        )
    return text


def _check_splits(lists: dict[str, list[str]], train: str, scored: str, val: str) -> None:
    known = set(lists["train"])
    leaked = [id_ for id_ in lists["val"] if id_ in known]
    if leaked:
        raise DataError(
            f"{len(leaked)} id(s) are both in train ({train}) and in val ({val}).\n"
            f"{at_most(leaked)}\nRemove them from one of the two lists."
        )
    unknown = [id_ for id_ in lists["scored"] if id_ not in known]
    if unknown:
        raise DataError(
            f"{len(unknown)} id(s) of scored ({scored}) are not in train ({train}).\n"
            f"{at_most(unknown)}\nChoose a part of train, or scored=null."
        )


def _read_labels(
    source: _Source,
    labels: Path | str | None,
    lists: dict[str, list[str]],
    classes: Sequence[str],
) -> Labels:
    """The labels of every image; only val may lack them, and only for all of its images."""
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
            f"{at_most(missing)}\nAdd their labels, or remove the images from the list."
        )
    return known


def _download(root: Path, year: str) -> None:
    """Download the official archive through torchvision, unless the data set exists."""
    if _find_folder(root, year) is not None:
        return
    from torchvision.datasets import VOCSegmentation

    try:
        VOCSegmentation(str(root), year=year, image_set="train", download=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{root}: VOC{year} could not be downloaded ({error}). Check the connection, or "
            "download VOCtrainval_11-May-2012.tar elsewhere, unpack it here so that "
            "VOCdevkit/VOC2012 exists, and leave out download."
        ) from error
