"""Names of classes, and names that look as if two of them were meant for one."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import yaml

from pipeline.base.errors import DataError, at_most
from pipeline.base.spelling import nearest

_CLASSES_MAX = 254
_BACKGROUND = {"background", "_background_", "__background__"}
_LISTS = re.compile(r"[|;,\[\]{}]")  # separate names, or enclose several
_JOINTS = re.compile(r"[\s/+&]+|_|-")  # may separate names, but are also part of names
_ALIKE = 0.8  # difflib's ratio; "catt" and "cat" have 0.86, "car" and "cat" 0.67
_TIMES_RARER = 10  # of a misspelt name, if it occurs more than once


def read_classes(classes: Sequence[str] | Path | str) -> tuple[str, ...]:
    """Class names without the background, from a list or from a file.

    A text file has one name per line; a ``.yaml`` file has YOLO's ``names``, a list or numbered.

    Raises:
        DataError: The file is missing, or a name is empty, repeated, or the background.
    """
    if isinstance(classes, (str, Path)) and Path(classes).suffix.lower() in (".yaml", ".yml"):
        origin, lines = str(classes), _yaml_names(Path(classes).expanduser())
    elif isinstance(classes, (str, Path)):
        origin, lines = str(classes), read_lines(classes, "class names, one per line")
    else:
        origin, lines = "classes", [str(name).strip() for name in classes]
    names = tuple(lines)
    repeated = sorted({name for name in names if names.count(name) > 1})
    problems = [f"{name!r} is listed more than once" for name in repeated]
    problems += [f"{name!r} is not a name" for name in names if not name]
    problems += [
        f"{name!r} is value 0 of every mask and must not be listed as a class"
        for name in names
        if name.lower() in _BACKGROUND
    ]
    if not 1 <= len(names) <= _CLASSES_MAX:
        problems.append(f"{len(names)} classes; an 8-bit mask can hold 1 to {_CLASSES_MAX}")
    if problems:
        raise DataError(
            f"{origin}: the class names cannot be used.\n{at_most(problems)}\n"
            "List every class exactly once."
        )
    return names


def _yaml_names(path: Path) -> list[str]:
    """The ``names`` of a YAML file; numbers must count from 0."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: the class names cannot be read ({error}).") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    if not isinstance(names, list):
        raise DataError(
            f"{path}: has no 'names' of classes. They should be a list, or numbered from 0 "
            "without gaps, as in YOLO's data.yaml."
        )
    return [str(name).strip() for name in names]


def read_lines(path: Path | str, content: str) -> list[str]:
    """Stripped, non-empty lines of a text file; an error names the expected ``content``.

    Raises:
        DataError: The file cannot be read as text.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). It should be a UTF-8 text file with {content}."
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def same_but_for_spelling(name: str) -> str:
    """What is left of a name without case, spaces, hyphens and underscores.

    Example:
        >>> same_but_for_spelling("Potted Plant") == same_but_for_spelling("potted_plant")
        True
    """
    return re.sub(r"[\s_-]", "", unicodedata.normalize("NFKC", name).casefold())


def suggestion(name: str, names: Sequence[str]) -> str:
    """The end of a sentence that suggests the closest known name, or an empty string.

    Example:
        >>> suggestion("Dgo", ["cat", "dog"])
        " (did you mean 'dog'?)"
    """
    near = nearest(name, names)
    return f" (did you mean {near!r}?)" if near else ""


def doubtful_names(images: Mapping[str, int]) -> list[str]:
    """Why names that were found in a file may not be classes of their own.

    Args:
        images: How many images have each name.

    Returns:
        A sentence for every doubt: several names in one, two spellings of one name, a rare name
        that is close to a frequent one.

    Example:
        >>> doubtful_names({"cat": 30, "catt": 1, "cow": 5})
        ["'catt' (1 image) is close to 'cat' (30 images): did you mean 'cat'?"]
    """
    found = [*_several_in_one(images), *_spelt_twice(images)]
    return found or list(_misspelt(images))


def _several_in_one(images: Mapping[str, int]) -> Iterator[str]:
    whole = {name.casefold(): name for name in images}
    words = {name: [w.casefold() for w in _JOINTS.split(name) if w] for name in images}
    orders = Counter(tuple(sorted(parts)) for parts in words.values())
    for name, parts in words.items():
        shuffled = len(parts) > 1 and orders[tuple(sorted(parts))] > 1 and len({*parts}) > 1
        same = [o for o in images if same_but_for_spelling(o) == same_but_for_spelling(name)]
        known = [images[whole[word]] for word in parts if word in whole]
        listed = len(parts) > 1 and (
            len(known) == len(parts) or any(_rare(images[name], usual) for usual in known)
        )
        if _LISTS.search(name) or listed or (shuffled and len(same) == 1):
            yield f"{name!r} ({_count(images[name])}): several names in one cell?"


def _spelt_twice(images: Mapping[str, int]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for name in images:
        groups.setdefault(same_but_for_spelling(name), []).append(name)
    for names in groups.values():
        if len(names) > 1:
            listed = ", ".join(f"{name!r} ({_count(images[name])})" for name in names)
            yield f"{listed} differ only in case, spaces, hyphens or underscores: one class?"


def _misspelt(images: Mapping[str, int]) -> Iterator[str]:
    for one, other in combinations(images, 2):
        rare, usual = sorted((one, other), key=lambda name: images[name])
        few, many = images[rare], images[usual]
        if _rare(few, many) and _alike(rare, usual):
            yield (
                f"{rare!r} ({_count(few)}) is close to {usual!r} ({_count(many)}): did you mean "
                f"{usual!r}?"
            )


def _rare(few: int, many: int) -> bool:
    return few == 1 < many or few * _TIMES_RARER <= many


def _alike(name: str, other: str) -> bool:
    """Whether one may be a misspelling of the other; names that differ in numbers are not."""
    a, b = name.casefold(), other.casefold()
    if re.sub(r"\d", "", a) == re.sub(r"\d", "", b):
        return False
    return sorted(a) == sorted(b) or difflib.SequenceMatcher(None, a, b).ratio() >= _ALIKE


def _count(images: int) -> str:
    return f"{images} image" + "s" * (images != 1)
