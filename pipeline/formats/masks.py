"""Label images that were read from a file of a labelling tool."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.arrays import BoolImage, LabelImage
from pipeline.base.errors import DataError, at_most
from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.data.class_names import read_classes, suggestion
from pipeline.data.ids import id_problem, plain_id

VOID_NAME = "void"
MAX_BYTES = 2**30  # of a file that is read as a whole
_BACKGROUNDS = ("background", "_background_", "__background__")
_BAD = (
    KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError,
    OSError, NotImplementedError, SyntaxError, zipfile.BadZipFile,
)  # fmt: skip

Reader = Callable[[], LabelImage]


class Masks(Mapping[str, LabelImage]):
    """Label images by id, uint8 [H, W]; each is decoded when it is asked for.

    Args:
        classes: Names of the values 1, 2, 3...; empty if the file has no names.
        readers: What decodes each image.
    """

    def __init__(self, classes: Sequence[str], readers: Mapping[str, Reader]) -> None:
        self.classes = tuple(classes)
        self._readers = dict(readers)

    def __getitem__(self, id_: str) -> LabelImage:
        return self._readers[id_]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def only(self, ids: Iterable[str]) -> Masks:
        """The label images of these photos alone.

        Raises:
            DataError: Some have none.
        """
        readers = {id_: self._readers.get(id_) for id_ in ids}
        found = {id_: reader for id_, reader in readers.items() if reader is not None}
        if len(found) < len(readers):
            missing = sorted(readers.keys() - found.keys())
            raise DataError(
                f"{len(missing)} of {len(readers)} images have no mask.\n{at_most(missing)}\n"
                "Correct the list, or name the split that they belong to."
            )
        return Masks(self.classes, found)


@contextmanager
def explained(path: Path, kind: str) -> Iterator[None]:
    """Turn every exception that a malformed file causes into an error that names the file.

    Raises:
        DataError: The block met something that a file of this kind does not have.
    """
    try:
        yield
    except _BAD as error:
        what = f"{type(error).__name__}: {error}"[:300]
        raise DataError(
            f"{path}: cannot be read as {kind} ({what}). Export it again from the tool."
        ) from error


def read_json_file(path: Path) -> Any:
    """The content of a JSON file of moderate size.

    Raises:
        DataError: It is too large, or no JSON.
    """
    with explained(path, "JSON"):
        check_bytes(path, path.stat().st_size)
        return json.loads(path.read_text(encoding="utf-8-sig"))


def check_bytes(path: Path | str, size: int, most: int = MAX_BYTES) -> None:
    """Refuse what would fill the memory.

    Raises:
        DataError: The size is above ``most``.
    """
    if size > most:
        raise DataError(
            f"{path}: {size / 2**20:.0f} MiB, more than the {most / 2**20:.0f} that are read. "
            "Export fewer images at once."
        )


def check_shape(about: str, shape: Sequence[Any], max_megapixels: float) -> tuple[int, int]:
    """Height and width as a file states them, before anything of this size is made.

    Raises:
        DataError: They are no whole numbers from 1, or too large together.
    """
    height, width = shape
    if any(isinstance(n, bool) or int(n) != n or n < 1 for n in (height, width)):
        raise DataError(f"{about}: {width} x {height} pixels. Export it again from the tool.")
    if height * width > max_megapixels * 1e6:
        raise DataError(
            f"{about}: {width} x {height} pixels are more than the {max_megapixels:g} megapixels "
            "that are allowed. Nothing was decoded. Allow more if the computer has memory for it."
        )
    return int(height), int(width)


class Values:
    """The values of the class names that a file uses.

    Args:
        path: The file, for errors.
        names: Every name that it defines, in order.
        classes: Names of the values 1, 2, 3...; None takes the names in the order of the file.

    Raises:
        DataError: A name is none of ``classes``.
    """

    def __init__(self, path: Path, names: Iterable[str], classes: Sequence[str] | None) -> None:
        found = [str(name) for name in names]
        own = [n for n in found if n.lower() not in (*_BACKGROUNDS, VOID_NAME)]
        try:
            self.classes = read_classes(own) if classes is None else tuple(classes)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        self._path = path
        problems = [f"{n!r}{suggestion(n, self.classes)}" for n in own if n not in self.classes]
        if problems:
            raise DataError(
                f"{path}: {len(problems)} class(es) that the data do not have.\n"
                f"{at_most(problems)}\nThe classes are {', '.join(self.classes)}. Rename them in "
                "the tool."
            )

    def __getitem__(self, name: str) -> int:
        """0 for the background, 255 for void, else class index + 1."""
        if name in self.classes:
            return self.classes.index(name) + 1
        if name.lower() == VOID_NAME:
            return VOID
        if name.lower() in _BACKGROUNDS:
            return BACKGROUND
        raise DataError(f"{self._path}: uses the class {name!r}, which it does not define.")


def painted(shape: tuple[int, int], objects: Iterable[tuple[int, BoolImage]]) -> LabelImage:
    """A label image of objects on background; a later object covers an earlier one."""
    labels = np.zeros(shape, np.uint8)
    for value, pixels in objects:
        labels[pixels] = value
    return labels


def safe_id(path: Path, name: str) -> str:
    """The id of a photo that a file names.

    Raises:
        DataError: A file of this id could not be written everywhere, or not below a folder.
    """
    id_ = plain_id(str(name))
    problem = id_problem(id_)
    if problem:
        raise DataError(f"{path}: the image {name!r} {problem}. Rename it in the tool.")
    return id_


def by_id(path: Path, readers: Iterable[tuple[str, Reader]]) -> dict[str, Reader]:
    """Readers by id.

    Raises:
        DataError: An id occurs twice.
    """
    found: dict[str, Reader] = {}
    for id_, reader in readers:
        if id_ in found:
            raise DataError(f"{path}: has two images with the id {id_!r}. Keep one of them.")
        found[id_] = reader
    return found
