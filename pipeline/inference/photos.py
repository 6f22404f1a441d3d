"""Photos to label: files, folders with sub-folders, and text files that list them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.base.errors import DataError, at_most
from pipeline.data.class_names import read_lines
from pipeline.data.ids import id_problem

_LIST = ".txt"

Photos = dict[str, Path]
"""Files by id: the path in its folder without suffix, by which results are named."""


def find_photos(places: Sequence[Path | str], suffixes: Sequence[str]) -> Photos:
    """The photos that a person names.

    Args:
        places: Image files, folders, or text files with a path per line, relative to the text.
        suffixes: Suffixes of the files that count in folders.

    Raises:
        DataError: A file is missing, there are none, or two have the same id.
    """
    found: Photos = {}
    problems: list[str] = []
    for place in places:
        for id_, path in _photos_at(Path(place).expanduser(), suffixes):
            problem = None if path.is_file() else "no such file"
            if found.get(id_, path) != path:
                problem = f"has the same name as {found[id_]}"
            problem = problem or id_problem(id_)
            problems += [f"{path}: {problem}"] if problem else []
            found.setdefault(id_, path)
    if problems:
        raise DataError(
            f"{len(problems)} photo(s) cannot be used.\n{at_most(problems)}\n"
            "Correct the paths; give photos of one name in several commands, each with its --out."
        )
    if not found:
        raise DataError(
            f"{', '.join(map(str, places))}: no photo ({', '.join(suffixes)}). "
            "Give image files, or folders that have some."
        )
    return found


def _photos_at(place: Path, suffixes: Sequence[str]) -> Iterator[tuple[str, Path]]:
    if place.is_dir():
        for path in sorted(place.rglob("*")):
            if path.suffix.lower() in suffixes and path.name[0] != ".":
                yield path.relative_to(place).with_suffix("").as_posix(), path
    elif place.suffix.lower() == _LIST:
        for line in read_lines(place, "one path of a photo per line"):
            path = place.parent / Path(line).expanduser()
            yield path.stem, path
    else:
        yield place.stem, place
