"""Image labels from a COCO file of boxes or polygons: the categories of an image's annotations."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError, at_most
from pipeline.data.class_names import read_classes, suggestion
from pipeline.data.ids import plain_id
from pipeline.data.labels import Labels

_KEYS = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id"),
    "categories": ("id", "name"),
}
_BACKGROUND = {"background", "_background_", "__background__"}


def read_coco_labels(
    path: Path | str,
    ids: Collection[str],
    classes: Sequence[str] | Path | str | None = None,
) -> tuple[Labels, tuple[str, ...]]:
    """Labels from a COCO detection or instance file; where the boxes are is not read.

    An image without annotations shows no class. A ``file_name`` may begin with folders that the
    ids lack. A category without annotations is left out if it is the background or only groups
    others (their ``supercategory``).

    Args:
        path: The JSON file.
        ids: Ids of the images, by which the file names are understood.
        classes: Class names in the order of the mask values, as a list or a text file; other
            categories count as background. None: all categories in the order of their ids.

    Returns:
        Class indices per image of the file, ascending, and the class names.

    Raises:
        DataError: The file is unreadable or of another kind, an annotation names an image or a
            category that is not there, two images have one id, or a class is no category.
    """
    path = Path(path).expanduser()
    content = _content(path)
    categories = {c["id"]: str(c["name"]).strip() for c in content["categories"]}
    shown = defaultdict(set)
    for annotation in content["annotations"]:
        shown[annotation["image_id"]].add(annotation["category_id"])
    _check_references(path, content, shown, categories)
    names = _classes(path, content, set().union(*shown.values()), classes)
    index = {name: k for k, name in enumerate(names)}
    labels: Labels = {}
    for image in content["images"]:
        id_ = _known(plain_id(str(image["file_name"])), ids)
        if id_ in labels:
            raise DataError(f"{path}: two images have the id {id_!r}. Remove one of them.")
        found = {categories[number] for number in shown[image["id"]]}
        labels[id_] = tuple(sorted(index[name] for name in found & index.keys()))
    return labels, names


def _content(path: Path) -> dict[str, Any]:
    """The file, with the keys that are read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: image labels cannot be read ({error}). It should be a COCO file in JSON."
        ) from error
    problems = (_part_problem(content, part, keys) for part, keys in _KEYS.items())
    problem = next(filter(None, problems), None)
    if problem is not None:
        raise DataError(
            f"{path}: is not a COCO file of boxes or polygons: {problem}. Export it as 'COCO' from "
            "the labelling tool (results and captions lack the classes), or write a CSV file of "
            "labels."
        )
    return dict(content)


def _part_problem(content: Any, part: str, keys: Sequence[str]) -> str | None:
    """Why a list of the file cannot be read; None if it can."""
    entries = content.get(part) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return f"no list {part!r}"
    usable = (int, float, str)
    lacking = (k for k in keys for entry in entries if not isinstance(entry.get(k), usable))
    key = next(lacking, None)
    return f"an entry of {part!r} has no {key!r}" if key else None


def _check_references(
    path: Path, content: dict[str, Any], shown: dict[Any, set[Any]], categories: dict[Any, str]
) -> None:
    images = {image["id"] for image in content["images"]}
    problems = [f"image {k!r} is not listed" for k in shown if k not in images]
    problems += [
        f"image {k!r}: category {number!r} is not listed"
        for k, numbers in shown.items()
        for number in numbers
        if number not in categories
    ]
    for part in ("images", "categories"):
        if len({entry["id"] for entry in content[part]}) < len(content[part]):
            problems.append(f"two of the {part} have one id")
    if problems:
        raise DataError(
            f"{path}: {len(problems)} problem(s) with the annotations.\n{at_most(problems)}\n"
            "Export the file again."
        )


def _classes(
    path: Path,
    content: dict[str, Any],
    used: set[Any],
    classes: Sequence[str] | Path | str | None,
) -> tuple[str, ...]:
    """The given classes, which must be categories, or all categories in the order of their ids."""
    found = [
        str(category["name"]).strip()
        for category in sorted(content["categories"], key=_place)
        if category["id"] in used or not _is_heading(category, content["categories"])
    ]
    if classes is None:
        return read_classes(found)
    names = read_classes(classes)
    problems = [f"{name!r}{suggestion(name, found)}" for name in names if name not in found]
    if problems:
        raise DataError(
            f"{path}: {len(problems)} class(es) of data.classes are no category of this file.\n"
            f"{at_most(problems)}\nIts categories are {', '.join(found)}."
        )
    return names


def _place(category: dict[str, Any]) -> tuple[bool, Any]:
    """For sorting: numbers before words."""
    return isinstance(category["id"], str), category["id"]


def _is_heading(category: dict[str, Any], categories: Sequence[dict[str, Any]]) -> bool:
    """Whether an unused category is the background, or the group that others belong to."""
    name = category["name"]
    others = (other for other in categories if other["name"] != name)
    grouped = any(other.get("supercategory") == name for other in others)
    return grouped or str(name).strip().casefold() in _BACKGROUND


def _known(id_: str, ids: Collection[str]) -> str:
    """The longest end of a path that is the id of an image; the path itself if there is none."""
    parts = id_.split("/")
    ends = ("/".join(parts[k:]) for k in range(len(parts)))
    return next((end for end in ends if end in ids), id_)
