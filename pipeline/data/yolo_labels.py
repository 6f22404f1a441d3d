"""Image labels from a folder of YOLO's text files: the class numbers that begin their lines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.base.errors import DataError, at_most
from pipeline.data.class_names import read_classes, suggestion
from pipeline.data.labels import Labels

_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names", "names.txt")
_OTHERS = {"classes", "names", "labels", "train", "val", "valid", "test"}  # lists, not labels
_LEVELS = 3  # the folder itself and two above: images/train and labels/train share data.yaml
_CELLS = 5  # of a box: class and four numbers; a polygon has more


def read_yolo_labels(
    folder: Path | str,
    ids: Collection[str],
    classes: Sequence[str] | Path | str | None = None,
) -> tuple[Labels, tuple[str, ...], tuple[str, ...]]:
    """Labels from YOLO files of boxes or polygons; where the boxes are is not read.

    ``<folder>/<id>.txt`` belongs to an image, or the same with ``labels`` in place of ``images``.
    An image without a file shows no class, as YOLO has it.

    Args:
        folder: The folder of ``.txt`` files, searched with its sub-folders.
        ids: Ids of the images.
        classes: A file of the names (``.yaml``, or text with one per line), or a list. A list
            chooses among the names in ``data.yaml``, ``classes.txt`` or ``obj.names``, which are
            looked for in the folder and two above; without any of these files it is the names, in
            the order of their numbers. None: all names of that file.

    Returns:
        Class indices per file and image, ascending, the class names, and notes.

    Raises:
        DataError: There are no names, no file belongs to an image, a line is no box, or a class
            is unknown.
    """
    folder = Path(folder).expanduser()
    names, chosen = _names(folder, classes)
    files = _files(folder, ids)
    index = {name: k for k, name in enumerate(chosen)}
    labels: Labels = dict.fromkeys(ids, ())
    problems: list[str] = []
    for id_, path in files.items():
        numbers, wrong = _numbers(path, len(names))
        problems += [f"{path.relative_to(folder).as_posix()} {text}" for text in wrong]
        found = {names[number] for number in numbers}
        labels[id_] = tuple(sorted(index[name] for name in found & index.keys()))
    if problems:
        raise DataError(
            f"{folder}: {len(problems)} problem(s) with the image labels.\n{at_most(problems)}\n"
            f"A line should be 'class x y width height'; the classes are 0 {names[0]} to "
            f"{len(names) - 1} {names[-1]}."
        )
    bare = len(set(ids) - files.keys())
    note = f"{bare} of {len(ids)} images have no file in {folder}: they show no class, as in YOLO"
    return labels, chosen, (note,) if bare else ()


def _names(
    folder: Path, classes: Sequence[str] | Path | str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All names in the order of their numbers, and those that are classes."""
    if isinstance(classes, (str, Path)):
        return (read_classes(classes),) * 2
    places = [folder.absolute(), *folder.absolute().parents][:_LEVELS]
    found = (place / name for place in places for name in _NAMES if (place / name).is_file())
    path = next(found, None)
    if path is None and classes is None:
        raise DataError(
            f"{folder}: numbers of classes without names: there is no {', '.join(_NAMES)} in it or "
            "in the two folders above. Pass data.classes=[...], in the order of the numbers, or "
            "the path of such a file."
        )
    names = read_classes(path or classes or ())
    chosen = names if classes is None else read_classes(classes)
    unknown = [f"{name!r}{suggestion(name, names)}" for name in chosen if name not in names]
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} class(es) of data.classes are not in this file.\n"
            f"{at_most(unknown)}\nIts names are {', '.join(names)}."
        )
    return names, chosen


def _files(folder: Path, ids: Collection[str]) -> dict[str, Path]:
    """The label files by id; one that belongs to no image keeps its own name."""
    files = {}
    for path in sorted(folder.rglob("*.txt")):
        own = path.relative_to(folder).with_suffix("").as_posix()
        swapped = _beside(own)
        id_ = next((name for name in (own, swapped) if name in ids), own)
        listed = path.stem.casefold() in _OTHERS or path.stem.casefold().startswith("readme")
        if id_ in ids or not listed:
            files[id_] = path
    if not files.keys() & set(ids):
        example = f", for example {next(iter(files))}.txt" if files else ""
        raise DataError(
            f"{folder}: {len(files)} label files (.txt){example}, none of which belongs to any of "
            f"the {len(ids)} images. Name each after its image: {min(ids)}.txt."
        )
    return files


def _beside(name: str) -> str:
    """The image that YOLO expects for a label file.

    Example:
        >>> _beside("train/labels/1")
        'train/images/1'
    """
    head, found, tail = f"/{name}".rpartition("/labels/")
    return f"{head}/images/{tail}".removeprefix("/") if found else name


def _numbers(path: Path, classes: int) -> tuple[set[int], list[str]]:
    """The class numbers in a file, and what is wrong with its lines."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return set(), [f"cannot be read ({error})"]
    numbers, problems = set(), []
    for count, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        number = _number(line.split())
        if number is None:
            problems.append(f"line {count}: {line[:60]!r} is no box")
        elif number >= classes:
            problems.append(f"line {count}: class {number} has no name, there are {classes}")
        else:
            numbers.add(number)
    return numbers, problems


def _number(cells: Sequence[str]) -> int | None:
    """The class of a box or a polygon; None for anything else.

    Example:
        >>> _number(["2", ".5", ".5", ".1", ".1"]), _number(["cat", "1", "1", "5", "5"])
        (2, None)
    """
    try:
        first, *rest = map(float, cells)
    except ValueError:
        return None
    return int(first) if first >= 0 and first.is_integer() and len(rest) >= _CELLS - 1 else None
