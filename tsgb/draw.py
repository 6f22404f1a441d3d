"""Pictures of saliency maps: colours, overlays, a grid with captions, a file.

Colours and overlays need torch and numpy only. :func:`grid` asks for matplotlib and :func:`save`
for Pillow, which the extra ``draw`` brings.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tsgb._optional import MissingPackageError as MissingPackageError
from tsgb._optional import optional_package
from tsgb.errors import NonFiniteError, ShapeError

Picture: TypeAlias = NDArray[np.uint8]  # RGB [H, W, 3]
SaliencyMap: TypeAlias = Tensor | NDArray[Any]  # real [h, w]

# Control points, RGB, evenly spaced in value and nearly so in CIE lightness.
_SEQUENTIAL = ((6, 6, 20), (45, 18, 88), (107, 28, 112), (178, 44, 96), (231, 87, 54),
               (247, 154, 42), (250, 214, 106), (255, 252, 222))  # fmt: skip
_DIVERGING = ((8, 48, 107), (46, 110, 178), (128, 178, 214), (244, 244, 244), (240, 160, 110),
              (200, 76, 44), (110, 20, 20))  # fmt: skip
_GAP = 8  # between pictures and around them, px
_NARROWEST = 120  # column of a grid, so that captions have room, px
_SMALLEST, _LARGEST = 11, 24  # letters, px
_DPI = 72  # at which a point of matplotlib is a pixel


def colours(
    saliency: SaliencyMap, *, signed: bool | None = None, size: tuple[int, int] | None = None
) -> Picture:
    """The map in colours: black to light yellow, or blue over light grey to red if it is signed.

    Zero is black, or the light grey in the middle; the largest absolute value has the last colour.
    So a map of zeros is black, and a positive constant light yellow.

    Args:
        saliency: Real, any scale.
        signed: Which colours; None takes the signed ones if a value is negative. False shows
            negative values as zeros.
        size: Height and width of the picture; the map is stretched bilinearly. None keeps its own.

    Raises:
        NonFiniteError: The map holds NaN or infinity.
        ShapeError: The map is not [h, w], empty or complex, or the size is not positive.

    Example:
        >>> colours(torch.tensor([[0.0, 3.0]])).tolist()
        [[[6, 6, 20], [255, 252, 222]]]
    """
    values = _values("colours", saliency)
    if size is not None:
        values = _stretched("colours", values, size)
    if signed is None:
        signed = bool((values < 0).any())
    if not signed:
        return _interpolated(_positive_share(values), _SEQUENTIAL)
    return _interpolated((_divided(values, values.abs().max()) + 1) / 2, _DIVERGING)


def overlay(image: Picture, saliency: SaliencyMap, *, strength: float = 1.0) -> Picture:
    """The image under the colours of the map's positive part, the more opaque the higher.

    Opacity is the share of the map's maximum times ``strength``: the strongest saliency hides the
    image, no saliency leaves it as it is. A map that is nowhere positive gives back the image.

    Args:
        image: RGB, uint8.
        saliency: Real, any scale and size; it is stretched bilinearly over the image. Negative
            values count as zeros.
        strength: Opacity of the strongest saliency, in [0, 1].

    Raises:
        NonFiniteError: The map holds NaN or infinity.
        ShapeError: The image is not uint8 [H, W, 3], or the map not [h, w].
        ValueError: ``strength`` is not in [0, 1].

    Example:
        >>> image = np.full((1, 2, 3), 100, np.uint8)
        >>> overlay(image, torch.tensor([[0.0, 3.0]])).tolist()
        [[[100, 100, 100], [255, 252, 222]]]
    """
    _check_picture("overlay", image)
    if not 0 <= strength <= 1:
        raise ValueError(
            f"overlay: strength is {strength}. There is no such opacity. Use a number from 0 to 1."
        )
    values = _stretched("overlay", _values("overlay", saliency), image.shape[:2])
    share = _positive_share(values)
    opacity = strength * share.numpy()[..., None]
    return _rounded((1 - opacity) * image + opacity * _interpolated(share, _SEQUENTIAL))


def grid(
    pictures: Sequence[tuple[str, Picture]], *, columns: int | None = None, title: str = ""
) -> Picture:
    """One white picture with all pictures in rows, pixel for pixel, each under its caption.

    Columns are as wide as the widest picture, and at least 120 px. Long captions are wrapped; a
    row without captions leaves no room for them.

    Args:
        pictures: Captions and pictures, row by row; sizes may differ.
        columns: Pictures in a row; None puts all into one.
        title: Of the whole picture.

    Raises:
        MissingPackageError: There is text to write and matplotlib is not installed.
        ShapeError: A picture is not uint8 [H, W, 3], or there is none.
        ValueError: ``columns`` is below 1.

    Example:
        >>> grid([("", np.zeros((10, 120, 3), np.uint8))] * 2).shape
        (26, 264, 3)
    """
    if not pictures:
        raise ShapeError("grid: there are no pictures. The grid would be empty. Pass at least one.")
    for _, picture in pictures:
        _check_picture("grid", picture)
    columns = len(pictures) if columns is None else columns
    if columns < 1:
        raise ValueError(f"grid: columns is {columns}. Nothing would fit. Use a number from 1.")
    width = max(_NARROWEST, *(picture.shape[1] for _, picture in pictures))
    letters = min(max(width // 16, _SMALLEST), _LARGEST)
    starts = range(0, len(pictures), columns)
    rows = [_row(pictures[start : start + columns], width, columns, letters) for start in starts]
    if title.strip():
        rows.insert(0, _title(title, rows[0].shape[1], letters))
    return np.concatenate([*rows, _white(_GAP, rows[0].shape[1])])


def save(path: str | Path, picture: Picture) -> None:
    """Write the picture to a file; its ending says the format. Missing folders are made.

    Args:
        path: For example ``map.png``.
        picture: RGB, uint8.

    Raises:
        MissingPackageError: Pillow is not installed.
        OSError: The file cannot be written.
        ShapeError: The picture is not uint8 [H, W, 3].
        ValueError: The ending is of no format that Pillow writes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Path(folder) / "maps" / "black.png", np.zeros((2, 3, 3), np.uint8))
    """
    _check_picture("save", picture)
    pillow = optional_package("PIL.Image", "save")
    path = Path(path)
    if path.suffix.lower() not in pillow.registered_extensions():
        raise ValueError(
            f"save: {path.name!r} has no ending of a picture. Its format is open. "
            "Give a name like map.png."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(np.ascontiguousarray(picture)).save(path)


def _values(who: str, saliency: SaliencyMap) -> Tensor:
    """The map as float64 [h, w] on the CPU."""
    tensor = saliency if isinstance(saliency, Tensor) else torch.from_numpy(np.array(saliency))
    if tensor.dim() != 2 or tensor.numel() == 0 or tensor.is_complex():
        raise ShapeError(
            f"{who}: the map has shape {tuple(tensor.shape)} and type {tensor.dtype}, expected "
            "real [h, w]. One picture shows one map. Pick one, as with maps[0, 0]."
        )
    values = tensor.detach().cpu().to(torch.float64)
    if not values.isfinite().all():
        raise NonFiniteError(
            f"{who}: the map holds NaN or infinity. Its other values would lose their colours. "
            "Check how it was computed."
        )
    return values


def _check_picture(who: str, picture: Picture) -> None:
    shape, kind = np.shape(picture), getattr(picture, "dtype", type(picture).__name__)
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ShapeError(
            f"{who}: a picture has shape {tuple(shape)} and type {kind}, expected a numpy array "
            "of uint8 [H, W, 3]. Its colours would be wrong. Convert to RGB in 0 to 255."
        )


def _stretched(who: str, values: Tensor, size: Sequence[int]) -> Tensor:
    height, width = size
    if height < 1 or width < 1:
        raise ShapeError(
            f"{who}: size is {height} x {width}. Such a picture has no pixels. "
            "Pass height and width from 1."
        )
    target = (height, width)
    stretched = functional.interpolate(
        values[None, None], target, mode="bilinear", align_corners=False
    )
    return stretched[0, 0]


def _positive_share(values: Tensor) -> Tensor:
    """Share of the maximum in [0, 1]; negative values, and maps without positive ones, are 0."""
    values = values.clamp(min=0)
    return _divided(values, values.max())


def _divided(values: Tensor, largest: Tensor) -> Tensor:
    return values / torch.where(largest == 0, 1, largest)


def _interpolated(shares: Tensor, points: Sequence[tuple[int, int, int]]) -> Picture:
    """Colours [H, W, 3] of shares in [0, 1] on the way along evenly spaced points."""
    positions = np.linspace(0, 1, len(points))
    channels = [
        np.interp(shares.numpy(), positions, channel) for channel in zip(*points, strict=True)
    ]
    return _rounded(np.stack(channels, axis=-1))


def _rounded(picture: NDArray[np.floating[Any]]) -> Picture:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _white(height: int, width: int) -> Picture:
    return np.full((height, width, 3), 255, np.uint8)


def _row(
    pictures: Sequence[tuple[str, Picture]], width: int, columns: int, letters: int
) -> Picture:
    """A row of a grid, with a gap above it and beside each picture."""
    captions = [_wrapped(caption, width, letters) for caption, _ in pictures]
    top = _GAP + _text_height(max(len(lines) for lines in captions), letters)
    bottom = top + max(picture.shape[0] for _, picture in pictures)
    row = _white(bottom, _GAP + columns * (width + _GAP))
    for column, (lines, (_, picture)) in enumerate(zip(captions, pictures, strict=True)):
        left = _GAP + column * (width + _GAP)
        if lines:
            row[_GAP:top, left : left + width] = _text(lines, top - _GAP, width, letters)
        left += (width - picture.shape[1]) // 2
        row[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return row


def _title(title: str, width: int, letters: int) -> Picture:
    lines = _wrapped(title, width, letters)
    text = _text(lines, _text_height(len(lines), letters), width, letters)
    return np.concatenate([_white(_GAP, width), text])


def _wrapped(text: str, width: int, letters: int) -> list[str]:
    """Lines that fit into the width; a letter is about 0.6 times as wide as high."""
    count = max(int(width / (0.6 * letters)), 1)
    return [line for part in text.splitlines() for line in textwrap.wrap(part, count)]


def _text_height(lines: int, letters: int) -> int:
    return round(1.4 * letters * lines) + (4 if lines else 0)


def _text(lines: Sequence[str], height: int, width: int, letters: int) -> Picture:
    """Black on white, in the middle at the bottom."""
    figure_module = optional_package("matplotlib.figure", "grid")
    agg = optional_package("matplotlib.backends.backend_agg", "grid")
    # The half keeps rounding from taking a pixel away.
    size = ((width + 0.5) / _DPI, (height + 0.5) / _DPI)
    figure = figure_module.Figure(figsize=size, dpi=_DPI, facecolor="white")
    figure.text(
        0.5, 4 / height, "\n".join(lines), ha="center", va="bottom", linespacing=1.2,
        fontsize=letters, color="black", parse_math=False,
    )  # fmt: skip
    canvas = agg.FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:height, :width, :3].copy()
