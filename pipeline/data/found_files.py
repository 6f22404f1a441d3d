"""Files of images and masks in a folder, by id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.base.spelling import nearest
from pipeline.data.ids import BAND_SUFFIXES, IMAGE_SUFFIXES

# Lossless formats first. A mask in another one is found too, so that its reader can say why not.
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".webp")

_LISTED = 4


def files_by_id(paths: Iterable[Path], folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Files with one of the suffixes, in upper or lower case; the earlier suffix wins an id.

    Args:
        paths: Files in ``folder``.
        folder: An id is the path inside of it, without suffix.
        suffixes: In lower case, with their dots.
    """
    order = {suffix: place for place, suffix in enumerate(suffixes)}
    known = [path for path in paths if path.suffix.lower() in order and path.name[0] != "."]
    known.sort(key=lambda path: (order[path.suffix.lower()], path))
    found: dict[str, Path] = {}
    for path in known:
        found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return found


def other_files(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> str:
    """The end of a sentence: how many files of other kinds are there; empty for none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     _ = Path(name, "scan.TIF").write_bytes(b"")
        ...     other_files(Path(name))
        ', but 1 .tif. Save them as PNG, or read them as they are with data.channels=N'
    """
    files = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    kinds = Counter(path.suffix.lower() or "without suffix" for path in files)
    for suffix in suffixes:
        kinds.pop(suffix, None)
    if not kinds:
        return ""
    listed = ", ".join(f"{count} {suffix}" for suffix, count in kinds.most_common(_LISTED))
    if suffixes == IMAGE_SUFFIXES and kinds.keys() & set(BAND_SUFFIXES):
        return f", but {listed}. Save them as PNG, or read them as they are with data.channels=N"
    return f", but {listed}. Save them as {'PNG' if suffixes == IMAGE_SUFFIXES else 'TIFF'}"


def folders_beside(folder: Path) -> str:
    """A sentence about what is there in place of a folder that is not, the nearest name first."""
    if not folder.parent.is_dir():
        return f"{folder.parent} does not exist either."
    names = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
    near = nearest(folder.name, names)
    meant = f"Did you mean {near}? " if near else ""
    return f"{meant}Folders in {folder.parent}: {', '.join(names) or 'none'}."
