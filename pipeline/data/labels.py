"""Image labels, the only supervision: the classes that each image shows.

The readers return ``{id: class indices}``; an id is always a string, even if it looks like a
number.
"""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import DataError, at_most
from pipeline.data.class_names import (
    doubtful_names,
    read_classes,
    same_but_for_spelling,
    suggestion,
)
from pipeline.data.ids import plain_id

Labels = dict[str, tuple[int, ...]]

# Headers of the column of ids, without case, spaces and signs; pandas leaves its index unnamed.
_ID_HEADERS = {
    "", "id", "ids", "image", "images", "imageid", "imageids", "imagename", "imagefile",
    "imagepath", "imagefilename", "img", "imgid", "imgname", "imgfile", "imgpath", "file",
    "fileid", "filename",
    "filepath", "filenames", "path", "name", "photo", "photoid", "photoname", "picture",
    "pictureid", "picturename", "frame", "frameid", "sample", "sampleid", "key", "uid", "uuid",
}  # fmt: skip
_INDEX_HEADERS = {"", "unnamed0", "index"}  # of the row numbers that pandas adds
_CLASS_HEADERS = re.compile(r"(class|label|tag|categor|object|name|species|target)\w*|\d*")
_WORDS = {
    **dict.fromkeys(("false", "f", "no", "n"), False),
    **dict.fromkeys(("true", "t", "yes", "y"), True),
}
_NUMBERS = {0.0: False, -1.0: False, 1.0: True}
_LAYOUTS = (
    "It should be a UTF-8 CSV file, either with a header 'id,class,class' and 0/1 cells or with "
    "lines 'id,name,name'."
)
_FOREIGN = {
    b"PK\x03\x04": "an Excel workbook or another archive. Save the sheet as 'CSV UTF-8'",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook. Save the sheet as 'CSV UTF-8'",
    b"\xff\xfe": "text in UTF-16. Save it as 'CSV UTF-8'",
    b"\xfe\xff": "text in UTF-16. Save it as 'CSV UTF-8'",
    b"<": "XML or a web page. For VOC's XML files use data=voc",
    b"{": "JSON, as COCO and many labelling tools write it. Give a COCO file the suffix .json",
    b"[": "JSON. Write a line 'id,class,class' for each image",
}  # how files of other formats begin


@dataclass(frozen=True)
class _Row:
    line: int
    id: str
    cells: tuple[str, ...]


def read_csv_labels(
    path: Path | str, classes: Sequence[str] | None = None
) -> tuple[Labels, tuple[str, ...]]:
    """Labels from a CSV file in either layout, and the class names that their indices refer to.

    Table: a header ``id,cat,dog`` and one column per class with a truth value in each cell: 0/1,
    -1/1, true/false, yes/no. List: lines ``photo1,cat,dog`` with the names of the image's classes;
    a header is optional. It is a table if most cells are truth values. The separator is a comma,
    a semicolon or a tab; an image suffix on an id is dropped, as is the index column of pandas.

    Args:
        path: The CSV file.
        classes: The class names, in the order of the mask values. None means the columns of a
            table in their order, or the names of a list in alphabetical order. Names that were
            found in this way are refused if two look like one, or one like several.

    Returns:
        Class indices per id, ascending, and the class names.

    Raises:
        DataError: The file is missing, empty or of another format, an id is repeated, a cell is
            no truth value, or a class is unknown. Up to 20 problems are listed with their lines.
    """
    path = Path(path).expanduser()
    header, rows = _read_rows(path)
    if _is_table(header, rows, classes):
        columns = _columns(path, header, rows)
        names = _table_classes(path, columns, classes)
        problems = _table_problems(rows, columns)
        named = {row.id: _named_by_table(row, columns) for row in rows}
    else:
        problems = _column_problems(header) if classes is None else []
        found = Counter(name for row in rows for name in set(row.cells) if name)
        names = _list_classes(path, found) if classes is None else read_classes(classes)
        problems += _list_problems(rows, names, given=classes is not None)
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
        DataError: An annotation is not readable XML, a name is a class in another spelling, or
            no name is a class.
    """
    named: dict[str, list[str]] = {}
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
        named[id_] = [item.findtext("name", "").strip() for item in objects]
    if problems:
        raise DataError(
            f"{len(problems)} annotation(s) cannot be read.\n{at_most(problems)}\n"
            "Download these files again."
        )
    images = Counter(name for names in named.values() for name in set(names))
    _check_annotated(Path(folder), images, classes)
    index = {name: k for k, name in enumerate(classes)}
    return {id_: _indices(names, index) for id_, names in named.items()}


def _check_annotated(folder: Path, images: Counter[str], classes: Sequence[str]) -> None:
    """Refuse names of which none is a class, or one only in another spelling."""
    spellings = {same_but_for_spelling(name): name for name in classes}
    others = [name for name in images if name not in classes]
    respelt = [
        f"{name!r} ({images[name]} images): the class is {spellings[same_but_for_spelling(name)]!r}"
        for name in others
        if same_but_for_spelling(name) in spellings
    ]
    if respelt or (images and len(others) == len(images)):
        listed = respelt or [f"{name!r}: {count} images" for name, count in images.most_common()]
        raise DataError(
            f"{folder}: names of objects there are no class of this data set.\n{at_most(listed)}\n"
            f"The classes are {', '.join(classes)}. Give them as they are spelt there, in the "
            f"order of the mask values: data.classes=[{','.join(sorted(images))}], for example."
        )


def _read_rows(path: Path) -> tuple[list[str], list[_Row]]:
    """The header, empty if there is none, and the rows with their line numbers, from 1."""
    first, *_ = text = _text(path).splitlines() or [""]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True)
    lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    header: list[str] = []
    if lines and _is_header(lines[0][1], [cells for _, cells in lines[1:]]):
        header = lines.pop(0)[1]
    if _has_index(header, [cells[0] for _, cells in lines]):
        header, lines = header[1:], [(number, cells[1:]) for number, cells in lines]
    rows = [_Row(number, plain_id(cells[0]), tuple(cells[1:])) for number, cells in lines]
    if not rows:
        raise DataError(
            f"{path}: contains no image labels. Write one line per image: its id, then its classes."
        )
    return header, rows


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: image labels cannot be read ({error}). {_LAYOUTS}") from error
    begin = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    for signature, what in _FOREIGN.items():
        if begin.startswith(signature):
            raise DataError(f"{path}: image labels cannot be read: this is {what}. {_LAYOUTS}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: image labels cannot be read ({error}). {_LAYOUTS}") from error


def _is_header(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether the first line names columns: that of ids, or those of a table of truth values."""
    if _letters(first[0]) in _ID_HEADERS | _INDEX_HEADERS:
        return True
    below = [cell for cells in rest for cell in cells[1:] if cell]
    return bool(below) and all(map(_is_flag, below)) and not any(map(_is_flag, first[1:]))


def _has_index(header: Sequence[str], column: Sequence[str]) -> bool:
    """Whether the first column is the row numbers of pandas and the second that of ids."""
    if len(header) < 2 or _letters(header[0]) not in _INDEX_HEADERS:
        return False
    counted = [[str(k + start) for k in range(len(column))] for start in (0, 1)]
    return _letters(header[1]) in _ID_HEADERS and list(column) in counted


def _flag(cell: str) -> bool | None:
    """The truth value of a cell; None if it has none.

    Example:
        >>> _flag("-1"), _flag("1.00"), _flag("Yes"), _flag("0.7")
        (False, True, True, None)
    """
    try:
        return _NUMBERS.get(float(cell))
    except ValueError:
        return _WORDS.get(cell.lower())


def _is_flag(cell: str) -> bool:
    return _flag(cell) is not None


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold())


def _is_table(header: Sequence[str], rows: Sequence[_Row], classes: Sequence[str] | None) -> bool:
    """Whether the header names given classes, or at least half of the cells are truth values."""
    cells = [cell for row in rows for cell in row.cells if cell]
    if classes is not None and cells and all(cell in classes for cell in cells):
        return False
    if classes is not None and not set(header[1:]).isdisjoint(classes):
        return True
    return bool(cells) and 2 * sum(map(_is_flag, cells)) >= len(cells)


def _columns(path: Path, header: Sequence[str], rows: Sequence[_Row]) -> list[str]:
    """The classes that the header of a table names."""
    if len(header) < 2:
        raise DataError(
            f"{path}: line {rows[0].line}: cells like {rows[0].cells[0]!r} are truth values, but "
            "no header says of which class. Add a first line 'id,class,class'."
        )
    return [cell.strip() for cell in header[1:]]


def _table_classes(
    path: Path, columns: Sequence[str], classes: Sequence[str] | None
) -> tuple[str, ...]:
    """The class names in index order; columns and ``classes`` must be equal as sets."""
    if classes is None:
        _check_found(path, dict.fromkeys(columns, 1))
        return read_classes(columns)
    names = read_classes(classes)
    problems = [
        f"column {name!r} is not a class{suggestion(name, names)}"
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


def _list_classes(path: Path, images: Counter[str]) -> tuple[str, ...]:
    if not images:
        raise DataError(f"{path}: names no class. Write the classes of each image behind its id.")
    _check_found(path, images)
    return read_classes(sorted(images))


def _check_found(path: Path, images: dict[str, int]) -> None:
    doubts = doubtful_names(images)
    if doubts:
        raise DataError(
            f"{path}: {len(doubts)} name(s) of classes are in doubt.\n{at_most(doubts)}\n"
            "Correct the file, one name in each cell; or, if all of them are classes, list them: "
            f"data.classes=[{','.join(sorted(images))}]."
        )


def _table_problems(rows: Sequence[_Row], columns: Sequence[str]) -> list[str]:
    problems = [
        f"line {row.line} ({row.id}): {len(row.cells)} cells for {len(columns)} classes"
        for row in rows
        if len(row.cells) != len(columns)
    ]
    whole = [row for row in rows if len(row.cells) == len(columns)]
    for k, name in enumerate(columns):
        wrong = [row for row in whole if not _is_flag(row.cells[k])]
        if wrong and len(wrong) == len(whole) > 1:
            problems.append(
                f"column {name!r} contains no truth value, for example {wrong[0].cells[k]!r} on "
                f"line {wrong[0].line}. Remove it if it is no class"
            )
            continue
        problems += [
            f"line {row.line} ({row.id}): column {name!r} contains {row.cells[k]!r}, not 0 or 1"
            for row in wrong
        ]
    return problems + _three_values(whole)


def _three_values(rows: Sequence[_Row]) -> list[str]:
    """A problem if both 0 and -1 occur: some use one of them for "unknown", some the other."""
    backwards = [(value, row.line) for row in reversed(rows) for value in row.cells]
    where = {value: line for value, line in backwards if value in ("0", "-1")}  # the first lines
    if len(where) < 2:
        return []
    return [
        f"both 0 (line {where['0']}) and -1 (line {where['-1']}) occur: one of them may mean "
        "difficult or unknown. Write 0 or 1 in every cell"
    ]


def _column_problems(header: Sequence[str]) -> list[str]:
    """Columns of a list that may hold something other than classes."""
    if len(header) < 3 or all(_CLASS_HEADERS.fullmatch(_letters(cell)) for cell in header[1:]):
        return []
    other = [cell for cell in header[1:] if not _CLASS_HEADERS.fullmatch(_letters(cell))]
    return [
        f"column {name!r}: does it hold names of classes? Then call it 'class'. If it is one class "
        "of a table, write 0 or 1 into its cells; if it is something else, remove it"
        for name in other
    ]


def _list_problems(rows: Sequence[_Row], names: Sequence[str], *, given: bool) -> list[str]:
    problems = [
        f"line {row.line} ({row.id}): {cell!r} is not a class{suggestion(cell, names)}"
        for row in rows
        for cell in row.cells
        if cell and cell not in names
    ]
    if given:
        return problems
    return [
        f"line {row.line} ({row.id}): {cell!r} is a truth value, not the name of a class"
        for row in rows
        for cell in row.cells
        if _is_flag(cell)
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
    return [name for name, cell in pairs if _flag(cell)]


def _indices(names: Iterable[str], index: dict[str, int]) -> tuple[int, ...]:
    return tuple(sorted({index[name] for name in names if name in index}))
