"""Your own images: a folder of pictures, and image labels in one of four forms."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.base.errors import ConfigError, DataError, at_most
from pipeline.data.band_files import described_bands
from pipeline.data.bands import Bands
from pipeline.data.catalogue import Catalogue, Item, Split, check_object_value
from pipeline.data.class_names import read_classes, read_lines, suggestion
from pipeline.data.coco_labels import read_coco_labels
from pipeline.data.folder_labels import FOLDERS, read_folder_labels
from pipeline.data.found_files import MASK_SUFFIXES, files_by_id, folders_beside, other_files
from pipeline.data.headers import MAX_MEGAPIXELS
from pipeline.data.ids import BAND_SUFFIXES, IMAGE_SUFFIXES, plain_id
from pipeline.data.labels import Labels, read_csv_labels
from pipeline.data.yolo_labels import read_yolo_labels


def load_folder(
    images: Path | str,
    labels: Path | str,
    *,
    val: float | Path | str = 0.2,
    masks: Path | str | None = None,
    classes: Sequence[str] | Path | str | None = None,
    negative: str | Sequence[str] | None = None,
    object_value: int = 1,
    max_megapixels: float = MAX_MEGAPIXELS,
    channels: int | None = None,
    bands: Sequence[int] | None = None,
    random_seed: int = 0,
    name: str = "folder",
) -> Catalogue:
    """The images in a folder and its sub-folders as a catalogue.

    The id of an image is its path inside the folder without suffix: ``cat1``, ``garden/cat1``.
    Whether an image is held out depends only on its id and ``random_seed``, so that adding
    images never moves another one between training and validation.

    Args:
        images: Folder with ``.jpg .jpeg .png .bmp .webp`` files; with ``channels``,
            ``.tif .tiff .png .npy``.
        labels: CSV file of image labels in either layout of ``read_csv_labels``; the word
            ``folders`` for one folder per class; a COCO file (``.json``); or a folder of YOLO's
            text files. See ``read_folder_labels``, ``read_coco_labels``, ``read_yolo_labels``.
        val: Share of the images to hold out, in (0, 1), or a text file with one id per line.
        masks: Folder of ground-truth PNGs (or TIFF, BMP) named by id: 0 background, class
            k at k + 1, 255 void. Only the fully supervised twin learns from them.
        classes: Class names in the order of the mask values, or a text file with one per line;
            None means the names that the labels have: of a CSV file and of folders in alphabetical
            order, of COCO and YOLO in the order of their numbers.
        negative: With ``labels="folders"``, the folder or folders of images without any class;
            None means good, ok, normal, negative and background.
        object_value: Value of the object in masks of a single class, such as 255.
        max_megapixels: Larger images and masks are refused before they are decoded.
        channels: Number of bands of every image, which are read in their own values; None reads
            photos, RGB of 8 bits.
        bands: With ``channels``, the three bands, from 1, that pictures and the dense CRF see as
            red, green and blue; None: the first three.
        random_seed: Seed of the random choice of held-out images.
        name: Name of the catalogue.

    Raises:
        ConfigError: ``val`` is a share outside (0, 1), or ``object_value``, ``negative``,
            ``channels`` or ``bands`` cannot be.
        DataError: Images and labels do not match, two files have the same id, or an id of the
            list ``val`` is unknown.
    """
    read_as = Bands.chosen(channels, bands)
    files = _find_images(Path(images), read_as)
    known, class_names, found = _read_labels(labels, files, classes, negative)
    _check_matching(Path(images), Path(labels), set(files), set(known))
    held_out = _held_out(list(files), val, random_seed)
    check_object_value(object_value, class_names)
    truth, notes = ({}, ()) if masks is None else _find_masks(Path(masks), files, held_out)
    train = [id_ for id_ in files if id_ not in held_out]
    kept = [id_ for id_ in files if id_ in held_out]

    def split(title: str, ids: Sequence[str]) -> Split:
        items = (Item(i, files[i], known[i], truth.get(i), object_value, read_as) for i in ids)
        return Split(title, tuple(items))

    return Catalogue(
        name=name,
        classes=class_names,
        train=split("train", train),
        scored=split("train", [id_ for id_ in train if id_ in truth]),
        val=split("val", kept),
        max_megapixels=max_megapixels,
        notes=(*found, *notes),
    )


def _read_labels(
    labels: Path | str,
    files: Collection[str],
    classes: Sequence[str] | Path | str | None,
    negative: str | Sequence[str] | None,
) -> tuple[Labels, tuple[str, ...], tuple[str, ...]]:
    """Read the labels in any of their forms: labels, class names and notes."""
    if str(labels) == FOLDERS:
        return read_folder_labels(files, classes, negative)
    if negative is not None:
        raise ConfigError(
            f"data.negative={negative}: names folders for data.labels={FOLDERS}, but "
            f"data.labels={labels}. Leave out one of the two."
        )
    path = Path(labels).expanduser()
    if path.is_dir():
        return read_yolo_labels(path, files, classes)
    if path.suffix.lower() == ".json":
        return *read_coco_labels(path, files, classes), ()
    if path.suffix.lower() in (".yaml", ".yml"):
        raise DataError(
            f"{path}: is not a file of image labels. For YOLO pass the folder of its .txt files "
            f"as data.labels, and data.classes={path} if that file is not beside or above it."
        )
    if classes is None:
        classes = sorted(read_csv_labels(path)[1])
    return *read_csv_labels(path, read_classes(classes)), ()


def _find_images(folder: Path, bands: Bands | None) -> dict[str, Path]:
    """Image files by id, in the order of their ids."""
    suffixes = IMAGE_SUFFIXES if bands is None else BAND_SUFFIXES
    if not folder.is_dir():
        raise DataError(
            f"{folder}: this folder does not exist. Pass the folder that contains the images. "
            f"{folders_beside(folder)}"
        )
    files: dict[str, Path] = {}
    problems = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        id_ = path.relative_to(folder).with_suffix("").as_posix()
        if id_ in files:
            problems.append(f"{files[id_]} and {path.name} have the same id {id_!r}")
        files[id_] = path
    if problems:
        raise DataError(
            f"{folder}: {len(problems)} id(s) are not unique.\n{at_most(problems)}\n"
            "Rename these files."
        )
    if not files:
        raise DataError(
            f"{folder}: contains no image ({' '.join(suffixes)}){other_files(folder, suffixes)}. "
            f"{described_bands(folder) if bands is None else ''}"
            "Pass the folder that contains the images."
        )
    return dict(sorted(files.items()))


def _check_matching(folder: Path, labels: Path, files: set[str], rows: set[str]) -> None:
    entry = "a file" if labels.is_dir() else "an entry" if labels.suffix == ".json" else "a line"
    no_line = [f"{id_}: an image without {entry} in {labels.name}" for id_ in sorted(files - rows)]
    no_image = [
        f"{id_}: {entry} in {labels.name} without an image{_meant(id_, files - rows)}"
        for id_ in sorted(rows - files)
    ]
    if no_line or no_image:
        listed = "\n".join(at_most(problems, 10) for problems in (no_line, no_image) if problems)
        raise DataError(
            f"{folder} and {labels} do not match: {len(no_line + no_image)} id(s) are in only one "
            f"of them.\n{listed}\nCorrect {labels.name}. An id is the path inside the folder "
            f"without suffix. The folder contains {len(files)} images{other_files(folder)}."
        )


def _meant(id_: str, files: set[str]) -> str:
    """The end of a sentence that suggests an image of that name elsewhere, or of a similar one."""
    elsewhere = [file for file in sorted(files) if Path(file).name == Path(id_).name]
    return suggestion(id_, sorted(files)) or suggestion(Path(id_).name, elsewhere)


def _held_out(ids: Sequence[str], val: float | Path | str, random_seed: int) -> set[str]:
    """Ids of the held-out images: a share chosen by hash, or those of a list file."""
    if isinstance(val, (str, Path)):
        listed = [plain_id(line) for line in read_lines(val, "one image id per line")]
        unknown = sorted(set(listed) - set(ids))
        if unknown:
            raise DataError(
                f"{val}: {len(unknown)} id(s) of the list have no image.\n{at_most(unknown)}\n"
                "Correct the list. An id is the path inside the image folder without suffix."
            )
        return set(listed)
    if not 0 < val < 1:
        raise ConfigError(
            f"val: {val} is not a share between 0 and 1. Pass for example 0.2, or a text file "
            "that lists the ids."
        )
    fractions = {id_: _fraction(id_, random_seed) for id_ in ids}
    chosen = {id_ for id_, fraction in fractions.items() if fraction < val}
    return chosen or {min(fractions, key=fractions.__getitem__)}


def _fraction(id_: str, random_seed: int) -> float:
    """A pseudo-random number in [0, 1) that depends only on the arguments."""
    digest = hashlib.sha256(f"{random_seed}/{id_}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _find_masks(
    folder: Path, files: dict[str, Path], held_out: set[str]
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Mask files by id, and notes; if one held-out image has a mask, all are expected to have one.

    A held-out image without a mask is then reported by the check, not left out of the score.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: this folder of masks does not exist. {folders_beside(folder)}")
    present = files_by_id(folder.rglob("*"), folder, MASK_SUFFIXES)
    found = present.keys() & files.keys()
    others = sorted(present.keys() - files.keys())
    if not found:
        example = f"; it contains {present[others[0]].name}, for example" if others else ""
        raise DataError(
            f"{folder}: contains no mask for any of the {len(files)} images{example}. Name each "
            f"mask after its image, for example {next(iter(files))}.png, or leave out masks."
        )
    notes = [f"{len(others)} of {len(present)} masks in {folder} belong to no image, for example "
             f"{others[0]}"] if others else []  # fmt: skip
    if found & held_out:
        found |= held_out
    masks = {id_: present.get(id_, folder / f"{id_}.png") for id_ in files if id_ in found}
    return masks, tuple(notes)
