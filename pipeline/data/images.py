"""Photos as arrays, upright, with an error for a truncated file that a decoder would fill up."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from pipeline.base.errors import DataError
from pipeline.data.headers import chunks_fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

# First bytes of a file of each format, and the last bytes of a whole one.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82"}


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """An image file as RGB ``[H, W, 3]``, turned upright as its EXIF orientation says.

    This is what browsers, phones and labelling tools show, and so what a mask was drawn on. Grey
    and palette images become RGB; an alpha channel is dropped; 16-bit values are divided by 256.

    Args:
        path: A JPEG, PNG, BMP or WebP file.

    Returns:
        Values 0..255, height first.

    Raises:
        DataError: The file is missing, is not an image, or is truncated (OpenCV 4 would fill the
            missing part with grey). Download the file again or remove it.
    """
    path = Path(path)
    data = read_bytes(path)
    decoded = _decode(data) if chunks_fit(data) else None
    if decoded is None or not _is_whole(data):
        raise not_whole(path, data)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def not_whole(path: Path, data: bytes, damage: str | None = None) -> DataError:
    """The error for a file whose pixels are not those that were stored.

    Args:
        path: The file.
        data: What it contains.
        damage: What was found; None if it could not be decoded at all.
    """
    resave = " If it looks right, save it anew." if damage else ""
    return DataError(
        f"{path}: not a whole image ({damage or f'{len(data)} bytes could not be decoded'}). "
        f"Download the file again, or remove it from the list.{resave}"
    )


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(
            f"{path}: cannot be read ({reason}). Add the file, or remove it from the list."
        ) from error


def _decode(data: bytes) -> Any | None:
    """OpenCV's array, three 8-bit channels, or None for data that it cannot decode."""
    if not data:
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None


def _is_whole(data: bytes) -> bool:
    """False if the file is truncated. Costs nothing for a file that ends with its end marker.

    A file without one may still be whole (cameras append data after it). Pillow, which is strict
    about truncation, decides in this case.
    """
    for start, end in _ENDS.items():
        if data.startswith(start) and not data.rstrip(b"\0").endswith(end.rstrip(b"\0")):
            return _pillow_decodes(data)
    return True


def _pillow_decodes(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


def enlarge(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps [K, h, w] resized to ``size`` (height, width) in pixels, bilinear.

    Example:
        >>> enlarge(np.array([[[0.0, 1.0]]], dtype=np.float32), (1, 4))
        array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    """
    large = [cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR) for m in maps]
    return np.stack(large) if large else np.zeros((0, *size), np.float32)
