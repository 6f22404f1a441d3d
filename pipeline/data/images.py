"""Photos as arrays, and a loud error where a decoder would return half a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from pipeline.base.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

# Stored pixels, three 8-bit channels: grey and palette pictures are expanded, alpha is dropped.
_DECODE = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
# How a file of the format begins, and what it must end with to be whole.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82"}


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """An image file as RGB ``[H, W, 3]``, exactly the pixels that the file stores.

    The EXIF orientation is ignored on purpose. A mask PNG has no orientation, and annotation
    tools draw on the stored pixels; turning the photo alone would part it from its mask. Grey,
    palette and 16-bit images become 8-bit RGB; an alpha channel is dropped.

    Args:
        path: A JPEG, PNG, BMP or WebP file.

    Returns:
        Values 0..255, height first.

    Raises:
        DataError: The file is missing, is not an image, or is cut off before its end (OpenCV 4
            would fill the missing part with grey). Fetch the file again or drop it.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(
            f"{path}: cannot be read ({reason}). Put the file there or take it off the list."
        ) from error
    decoded = _decode(data)
    if decoded is None or not _is_whole(data):
        raise DataError(
            f"{path}: not a whole image ({len(data)} bytes could not be decoded). "
            "The network would learn from noise. Fetch the file again or take it off the list."
        )
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _decode(data: bytes) -> Any | None:
    """OpenCV's array, or None for whatever it cannot decode."""
    if not data:
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), _DECODE)
    except cv2.error:
        return None


def _is_whole(data: bytes) -> bool:
    """False if the file stops early. Free for a normal file: only its last bytes are looked at.

    A file without its end marker may still be whole (cameras append data after it), so then
    Pillow, which is strict about truncation, decodes it and decides.
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
    """Maps [K, h, w] at ``size`` (height, width) in pixels, bilinear.

    Example:
        >>> enlarge(np.array([[[0.0, 1.0]]], dtype=np.float32), (1, 4))
        array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    """
    large = [cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR) for m in maps]
    return np.stack(large) if large else np.zeros((0, *size), np.float32)
