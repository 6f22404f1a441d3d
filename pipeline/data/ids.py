"""Image ids: text that names an image in lists and labels, and its files in every stage."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from pipeline.base.errors import DataError
from pipeline.data.class_names import read_lines

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
LARGE_SUFFIXES = (".tif", ".tiff")
"""Files that can be read by windows."""

BAND_SUFFIXES = (".tif", ".tiff", ".png", ".npy")
"""Files that may have any number of bands, and more than 8 bits."""

_NAME_BYTES = 255  # the longest name that common file systems can store
_SUFFIX_BYTES = len(".png")  # the longest that a stage adds
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DRIVE = re.compile(r"[A-Za-z]:")
_DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE)


def plain_id(text: str) -> str:
    """An id without the suffix of an image file, with forward slashes.

    Example:
        >>> plain_id("2007_000032"), plain_id("holiday/cat.1.JPG")
        ('2007_000032', 'holiday/cat.1')
    """
    known = (*IMAGE_SUFFIXES, *BAND_SUFFIXES)
    path = PurePosixPath(text.strip().replace("\\", "/"))
    return str(path.with_suffix("") if path.suffix.lower() in known else path)


def read_ids(path: Path) -> list[str]:
    """The ids in a text file, one per line; suffixes of image files may stand behind them.

    Raises:
        DataError: The file cannot be read, or has no id.
    """
    ids = [plain_id(line) for line in read_lines(path, "one image id per line")]
    if not ids:
        raise DataError(f"{path}: no id. List images, one id per line.")
    return ids


def id_problem(id_: str) -> str | None:
    r"""Why no file may be named after an id; None for an id that is safe on every system.

    Stages write ``<folder>/<id>.png``: an id must stay in the folder, and be a name that Linux,
    macOS and Windows can store.

    Example:
        >>> id_problem("holiday/cat.1") is None
        True
        >>> id_problem("../../cat")
        "has the part '..', which cannot name a file"
    """
    if "\\" in id_:
        return "has a backslash, which separates folders on Windows"
    if _CONTROL.search(id_):
        return f"has a control character ({id_!r})"
    if id_.startswith("/") or _DRIVE.match(id_):
        return "is an absolute path"
    return next(filter(None, map(_part_problem, id_.split("/"))), None)


def _part_problem(part: str) -> str | None:
    if part in ("", ".", ".."):
        return f"has the part {part!r}, which cannot name a file"
    length = len(part.encode("utf-8", "surrogateescape"))
    if length + _SUFFIX_BYTES > _NAME_BYTES:
        return f"has {length} bytes; with a suffix, file systems store {_NAME_BYTES}"
    if _DEVICES.fullmatch(part.partition(".")[0].rstrip()):
        return f"has the part {part!r}, a name that Windows reserves for a device"
    return None
