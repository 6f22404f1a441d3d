"""What the first bytes of an image file tell, before anything large is decoded."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipeline.base.errors import DataError

MAX_MEGAPIXELS = 100.0

# Pillow's own limit is fixed and knows no file names; `check_size` takes its place.
Image.MAX_IMAGE_PIXELS = None

ORIENTATION = 0x0112  # EXIF tag
_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH_OF_PNG = 24  # place of the byte


@dataclass(frozen=True)
class Header:
    """An image file before it is decoded.

    Attributes:
        width: Stored pixels in a row, before any turn.
        height: Stored rows.
        orientation: How EXIF says that the picture is turned or mirrored, 1 to 8; 1 is upright.
        bits: Bits per channel, 8 or 16.
    """

    width: int
    height: int
    orientation: int = 1
    bits: int = 8

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width as shown, after the turn."""
        stored = (self.height, self.width)
        return stored if self.orientation < 5 else stored[::-1]

    @property
    def hides_turn(self) -> bool:
        """Whether the picture is turned or mirrored, and its shape does not tell."""
        return self.orientation != 1 and self.shape == (self.height, self.width)


def read_header(data: bytes) -> Header | None:
    """The header of a whole image file; None if it is no image that Pillow knows.

    Example:
        >>> stream = io.BytesIO()
        >>> Image.new("L", (3, 2)).save(stream, "PNG")
        >>> read_header(stream.getvalue())
        Header(width=3, height=2, orientation=1, bits=8)
        >>> read_header(b"<html>404</html>") is None
        True
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            bits = data[_DEPTH_OF_PNG] if data.startswith(_PNG) else 8
            return Header(image.width, image.height, _orientation(image, data), max(bits, 8))
    except (OSError, SyntaxError, ValueError, struct.error):
        return None


def check_size(path: Path, max_megapixels: float, setting: str = "data.max_megapixels=N") -> None:
    """Refuse an image whose header announces more pixels than are allowed.

    A small file can unfold to gigabytes. A file that cannot be read is left to its reader, whose
    errors are about that.

    Args:
        path: An image or a label image.
        max_megapixels: Width x height allowed, in millions.
        setting: How a person allows more.

    Raises:
        DataError: The image is larger.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, struct.error):
        return
    check_pixels(path, width, height, max_megapixels, setting)


def check_pixels(
    path: Path,
    width: int,
    height: int,
    max_megapixels: float,
    setting: str = "data.max_megapixels=N",
) -> None:
    """Refuse a file by the size that is known of it, see :func:`check_size`."""
    if width * height > max_megapixels * 1e6:
        raise DataError(
            f"{path}: {width} x {height} pixels are {width * height / 1e6:.0f} megapixels, more "
            f"than the {max_megapixels:g} that are allowed. It was not decoded. Make it smaller, "
            f"or allow it with {setting} if the computer has memory for it."
        )


def chunks_fit(data: bytes) -> bool:
    """False for a PNG with a chunk that is longer than the file; true for other formats.

    A decoder that believes a damaged length takes gigabytes before it notices.
    """
    if not data.startswith(_PNG):
        return True
    place = len(_PNG)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        place += 12 + length  # length, kind and checksum have four bytes each
        if kind == b"IEND":
            break
    return place <= len(data)


def _orientation(image: Image.Image, data: bytes) -> int:
    if data.startswith(_PNG) and b"eXIf" not in data:  # Pillow would decode it to be sure
        return 1
    found = image.getexif().get(ORIENTATION, 1)
    return found if found in range(1, 9) else 1
