"""Image labels, the only supervision: the classes that each image shows.

The readers return ``{id: class indices}``; an id is always a string, even if it looks like a
number.
"""

from __future__ import annotations

import csv
import difflib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.base.errors import DataError, at_most
from pipeline.data.images import IMAGE_SUFFIXES

Labels = dict[str, tuple[int, ...]]

_ID_HEADERS = {"id", "image", "image_id", "filename", "file", "name"}
_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
_CLASSES_MAX = 254


@dataclass(frozen=True)
class _Row:
    line: int
    id: str
    cells: tuple[str, ...]


def plain_id(text: str) -> str:
    """An id without the suffix of an image file, with forward slashes.

    Example:
        >>> plain_id("2007_000032"), plain_id("holiday/cat.1.JPG")
        ('2007_000032', 'holiday/cat.1')
    """
    path = PurePosixPath(text.strip().replace("\\", "/"))
    return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)


def read_classes(classes: Sequence[str] | Path | str) -> tuple[str, ...]:
    """Class names without the background, from a list or from a text file with one name per line.

    Raises:
        DataError: The file is missing, or a name is empty, repeated, or the background.
    """
    if isinstance(classes, (str, Path)):
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
        if name.lower() in {"background", "_background_", "__background__"}
    ]
    if not 1 <= len(names) <= _CLASSES_MAX:
        problems.append(f"{len(names)} classes; an 8-bit mask can hold 1 to {_CLASSES_MAX}")
    if problems:
        raise DataError(
            f"{origin}: the class names cannot be used.\n{at_most(problems)}\n"
            "List every class exactly once."
        )
    return names


def read_lines(path: Path | str, content: str) -> list[str]:
    """Stripped, non-empty lines of a text file; an error names the expected ``content``.

    Raises:
        DataError: The file cannot be read as text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). It should contain {content}, as UTF-8 text."
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_csv_labels(
    path: Path | str, classes: Sequence[str] | None = None
) -> tuple[Labels, tuple[str, ...]]:
    """Labels from a CSV file in either layout, and the class names that their indices refer to.

    Table: a header ``id,cat,dog`` and one 0/1 column per class. List: lines ``photo1,cat,dog``
    with the names of the image's classes; a header is optional. The first data row determines the
    layout. The separator is a comma, a semicolon or a tab; an image suffix on an id is dropped.

    Args:
        path: The CSV file.
        classes: The class names, in the order of the mask values. None means the columns of a
            table in their order, or the names of a list in alphabetical order.

    Returns:
        Class indices per id, ascending, and the class names.

    Raises:
        DataError: The file is missing or empty, an id is repeated, a cell is neither 0 nor 1, or
            a class is unknown. Up to 20 problems are listed with their lines.
    """
    header, rows = _read_rows(Path(path))
    if header is not None and _is_table(header, rows):
        columns = [cell.strip() for cell in header[1:]]
        names = _table_classes(Path(path), columns, classes)
        problems = _table_problems(rows, columns)
        named = {row.id: _named_by_table(row, columns) for row in rows}
    else:
        found = sorted({cell for row in rows for cell in row.cells if cell})
        names = read_classes(found if classes is None else classes)
        problems = _list_problems(rows, names)
        named = {row.id: list(row.cells) for row in rows}
    problems += _repeated_ids(rows)
    if problems:
        raise DataError(
            f"{path}: {len(problems)} problem(s) with the image labels.\n{at_most(problems)}\n"
            "Correct these lines."
        )
    index = {name: k for k, name in enumerate(names)}
    return {id_: _indices(cells, index) for id_, cells in named.items()}, names


def read_xml_labels(folder: Path | str, ids: Iterable[str], classes: Sequence[str]) -> Labels:
    """Labels from VOC annotations: the object names of ``<folder>/<id>.xml`` among ``classes``.

    Boxes are ignored, and so are names outside ``classes``, as in the usual protocol. An id
    without a file is missing from the result, so that a test split needs no annotations.

    Raises:
        DataError: An annotation is not readable XML.
    """
    index = {name: k for k, name in enumerate(classes)}
    labels: Labels = {}
    problems = []
    for id_ in ids:
        path = Path(folder) / f"{id_}.xml"
        try:
            objects = ElementTree.parse(path).getroot().findall("object")
        except FileNotFoundError:
            continue
        except (ElementTree.ParseError, OSError) as error:
            problems.append(f"{path}: {error}")
            continue
        labels[id_] = _indices((item.findtext("name", "").strip() for item in objects), index)
    if problems:
        raise DataError(
            f"{len(problems)} annotation(s) cannot be read.\n{at_most(problems)}\n"
            "Download these files again."
        )
    return labels


def _read_rows(path: Path) -> tuple[list[str] | None, list[_Row]]:
    """The header, or None, and the rows with their line numbers, counted from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: image labels cannot be read ({error}). It should be a UTF-8 CSV file, "
            "either with a header 'id,class,class' and 0/1 cells or with lines 'id,name,name'."
        ) from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    header = None
    if lines and lines[0][1][0].lower() in _ID_HEADERS:
        header = lines.pop(0)[1]
    rows = [_Row(number, plain_id(cells[0]), tuple(cells[1:])) for number, cells in lines]
    if not rows:
        raise DataError(
            f"{path}: contains no image labels. Write one line per image: its id, then its classes."
        )
    return header, rows


def _is_table(header: Sequence[str], rows: Sequence[_Row]) -> bool:
    """Whether the first row with cells begins with a flag (0 or 1), not with a class name."""
    cells = next((row.cells for row in rows if any(row.cells)), ())
    filled = [cell for cell in cells if cell]
    return len(header) > 1 and bool(filled) and filled[0].lower() in _FLAGS


def _table_classes(
    path: Path, columns: Sequence[str], classes: Sequence[str] | None
) -> tuple[str, ...]:
    """The class names in index order; columns and ``classes`` must be equal as sets."""
    if classes is None:
        return read_classes(columns)
    names = read_classes(classes)
    problems = [
        f"column {name!r} is not a class{_suggestion(name, names)}"
        for name in columns
        if name not in names
    ]
    problems += [f"class {name!r} has no column" for name in names if name not in columns]
    if problems:
        raise DataError(
            f"{path}: columns and classes differ.\n{at_most(problems)}\n"
            "Correct the header or the list of classes."
        )
    return names


def _table_problems(rows: Sequence[_Row], columns: Sequence[str]) -> list[str]:
    problems = []
    for row in rows:
        if len(row.cells) != len(columns):
            problems.append(
                f"line {row.line} ({row.id}): {len(row.cells)} cells for {len(columns)} classes"
            )
            continue
        problems += [
            f"line {row.line} ({row.id}): column {name!r} contains {cell!r}, not 0 or 1"
            for name, cell in zip(columns, row.cells, strict=True)
            if cell.lower() not in _FLAGS
        ]
    return problems


def _list_problems(rows: Sequence[_Row], names: Sequence[str]) -> list[str]:
    return [
        f"line {row.line} ({row.id}): {cell!r} is not a class{_suggestion(cell, names)}"
        for row in rows
        for cell in row.cells
        if cell and cell not in names
    ]


def _repeated_ids(rows: Sequence[_Row]) -> list[str]:
    first: dict[str, int] = {}
    return [
        f"line {row.line}: id {row.id!r} was already on line {first[row.id]}"
        for row in rows
        if first.setdefault(row.id, row.line) != row.line
    ]


def _named_by_table(row: _Row, columns: Sequence[str]) -> list[str]:
    pairs = zip(columns, row.cells, strict=False)
    return [name for name, cell in pairs if _FLAGS.get(cell.lower(), False)]


def _indices(names: Iterable[str], index: dict[str, int]) -> tuple[int, ...]:
    return tuple(sorted({index[name] for name in names if name in index}))


def _suggestion(name: str, names: Sequence[str]) -> str:
    """The end of a sentence that suggests the closest known name, or an empty string."""
    near = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
