"""Photos as the networks see them: upright, RGB, eight bits a channel."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tsgb._optional import optional_package
from tsgb.errors import TSGBError

MAX_MEGAPIXELS = 100.0
_WIDE = re.compile(r"^(?!BGR).*;16")  # how Pillow calls the 16-bit channels of a file
_TWELVE_BITS = 16  # values of 12-bit sensors in a 16-bit file stay below this of 256


class ImageError(TSGBError, ValueError):
    """A file is no photo that can be read, or is too large."""


class TooLargeError(ImageError):
    """A photo has more pixels than are allowed."""


class Photo(NamedTuple):
    """A photo from a file.

    Attributes:
        image: Pillow's image in RGB, turned upright.
        note: What a person should know about it; empty if there is nothing.
    """

    image: Any
    note: str = ""


def read_photo(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Photo:
    """The photo, turned upright as its EXIF data say; 16-bit values are divided by 256.

    Args:
        path: A file that Pillow can read.
        max_megapixels: Width x height allowed, in millions; a larger one is not decoded.

    Raises:
        ImageError: The file does not exist or cannot be read.
        MissingPackageError: Pillow is not installed.
        TooLargeError: It has more pixels.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
        ...     Image.fromarray(np.full((1, 2), 40000, np.uint16)).save(file.name)
        ...     read_photo(Path(file.name)).image.getpixel((0, 0))
        (156, 156, 156)
    """
    pillow = optional_package("PIL.Image", "tsgb explain")
    upright = optional_package("PIL.ImageOps", "tsgb explain").exif_transpose
    if not path.is_file():
        raise ImageError(f"there is no file {str(path)!r}. Check the path.")
    try:
        with _own_limit(pillow), pillow.open(path) as file:
            _check_size(path, file.size, max_megapixels)
            is_wide = any(_WIDE.match(_raw_mode(part)) for part in file.tile)
            image = _eight_bits(path, upright(file)).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: a broken PNG
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            f"{str(path)!r} cannot be read ({error}). Give a JPEG, PNG or WebP file."
        ) from error
    return Photo(image, _note(path, image) if is_wide else "")


@contextmanager
def _own_limit(pillow: Any) -> Iterator[None]:
    """Pillow's limit is fixed, and its error knows no file names; :func:`_check_size` has both."""
    before = pillow.MAX_IMAGE_PIXELS
    pillow.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        pillow.MAX_IMAGE_PIXELS = before


def _check_size(path: Path, size: tuple[int, int], allowed: float) -> None:
    width, height = size
    if width * height > allowed * 1e6:
        raise TooLargeError(
            f"{str(path)!r} has {width} x {height} pixels, {width * height / 1e6:.0f} megapixels "
            f"where {allowed:g} are allowed. It was not decoded. Make it smaller, or allow more if "
            "the computer has memory for it."
        )


def _raw_mode(part: Any) -> str:
    """How a part of an opened file stores its pixels, such as ``RGB`` or ``I;16B``."""
    arguments = part[3]
    return str(arguments if isinstance(arguments, str) or not arguments else arguments[0])


def _eight_bits(path: Path, image: Any) -> Any:
    """Pillow's image, with its grey values divided by 256 if they have more than eight bits."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image  # of 16-bit colours Pillow keeps the higher byte
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise ImageError(
            f"{str(path)!r} holds {values.dtype} values from {values.min():g} to {values.max():g}. "
            "Which of them is white is not known. Save it with 8 or 16 bits."
        )
    pillow = optional_package("PIL.Image", "tsgb explain")
    return pillow.fromarray((values >> 8).astype(np.uint8))


def _note(path: Path, image: Any) -> str:
    brightest = max(high for _, high in image.getextrema())
    if brightest >= _TWELVE_BITS:
        return ""
    return (
        f"{str(path)!r} has 16 bits a channel, but no value above {256 * brightest + 255} of "
        "65535, as if a camera of 12 bits or less had filled it. The network sees it nearly black. "
        "Multiply its values by 16 and save it again."
    )
