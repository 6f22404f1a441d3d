"""Files that stages wrote, read again: a damaged one makes room, so that it is made anew."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipeline.base.arrays import LabelImage
from pipeline.base.errors import DamagedFileError, DataError
from pipeline.base.files import put_aside
from pipeline.data.palette import read_label_image

CHECKPOINT = "last.ckpt"
"""What a training leaves in the folder of its stage."""

T = TypeVar("T")
_DAMAGE = (DataError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError)


def read_own(path: Path, read: Callable[[Path], T]) -> T:
    """What ``read`` makes of a file that a stage wrote.

    Raises:
        DamagedFileError: The file is gone, or ``read`` cannot use it. In that case it was renamed.
    """
    if not path.exists():
        raise DamagedFileError(f"{path}: gone. {remade()}")
    try:
        return read(path)
    except _DAMAGE as error:
        raise DamagedFileError(
            f"{path}: damaged ({error}). It was renamed {put_aside(path).name}. {remade()}"
        ) from error


def read_labels(path: Path, run: Path) -> LabelImage:
    """A label image that a stage of a run wrote, or one from elsewhere.

    Raises:
        DamagedFileError: It is damaged and lies in the run's folder. It was renamed.
        DataError: It is damaged and lies elsewhere.
    """
    own = path.absolute().is_relative_to(run.absolute())
    return read_own(path, read_label_image) if own else read_label_image(path)


def remade() -> str:
    """How a damaged file comes back."""
    return "The stage that wrote it makes it anew: run stage=all, or that stage."
