"""Pictures of saliency maps: colours, overlays, a grid with captions, a file.

Maps are drawn smoothed: as fine as the pixels, what a method finds may be a lattice of dots too
thin to be seen. The maps themselves are never changed, and ``smoothing=0`` draws them as they are.

Colours and overlays need torch and numpy only. :func:`grid` needs matplotlib for text and
:func:`save` needs Pillow; the extra ``draw`` installs both.
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
_SMOOTHING = 0.02  # chosen on pictures of photos; pointing games smooth gradients as much
_GAP = 8  # between pictures and around them, px
_NARROWEST = 120  # least width of a column of a grid, so that captions have room, px
_SMALLEST, _LARGEST = 11, 24  # font sizes, px
_DPI = 72  # resolution at which a point of matplotlib is a pixel


def colours(
    saliency: SaliencyMap,
    *,
    signed: bool | None = None,
    size: tuple[int, int] | None = None,
    maximum: float | None = None,
    smoothing: float = _SMOOTHING,
) -> Picture:
    """The map in colours: black to light yellow, or blue over light grey to red if it is signed.

    Zero is black, or the light grey in the middle; the largest absolute value has the last colour.
    So a map of zeros is black, and a positive constant light yellow.

    Args:
        saliency: Real, any scale.
        signed: Which colours; None takes the signed ones if a value is negative. False shows
            negative values as zeros.
        size: Height and width of the picture; the map is stretched bilinearly. None keeps its own.
        maximum: Absolute value that has the last colour, as do all above it: 1 for a map in
            [0, 1], say. None takes the largest one that is drawn.
        smoothing: Standard deviation of the Gaussian that the map is smoothed with, as a share of
            the picture's longer side; 0: none. Maps of up to 12 x 12 stay as they are.

    Raises:
        NonFiniteError: The map holds NaN or infinity.
        ShapeError: The map is not [h, w], empty or complex, or the size is not positive.
        ValueError: ``maximum`` is not positive, or ``smoothing`` not in [0, 1].

    Example:
        >>> colours(torch.tensor([[0.0, 3.0]])).tolist()
        [[[6, 6, 20], [255, 252, 222]]]
    """
    values = _values("colours", saliency)
    if size is not None:
        values = _stretched("colours", values, size)
    values = _smoothed("colours", values, smoothing)
    if signed is None:
        signed = bool((values < 0).any())
    if not signed:
        return _interpolated(_positive_share(values, maximum), _SEQUENTIAL)
    return _interpolated((_share(values, maximum) + 1) / 2, _DIVERGING)


def overlay(
    image: Picture,
    saliency: SaliencyMap,
    *,
    strength: float = 1.0,
    smoothing: float = _SMOOTHING,
) -> Picture:
    """The image under the colours of the map's positive part, the more opaque the higher.

    Opacity is the share of the map's maximum times ``strength``: the strongest saliency hides the
    image, no saliency leaves it as it is. A map that is nowhere positive gives back the image.

    Args:
        image: RGB, uint8.
        saliency: Real, any scale and size; it is stretched bilinearly over the image. Negative
            values count as zeros.
        strength: Opacity of the strongest saliency, in [0, 1].
        smoothing: As of :func:`colours`.

    Raises:
        NonFiniteError: The map holds NaN or infinity.
        ShapeError: The image is not uint8 [H, W, 3], or the map not [h, w].
        ValueError: ``strength`` or ``smoothing`` is not in [0, 1].

    Example:
        >>> image = np.full((1, 2, 3), 100, np.uint8)
        >>> overlay(image, torch.tensor([[0.0, 3.0]])).tolist()
        [[[100, 100, 100], [255, 252, 222]]]
    """
    _check_picture("overlay", image)
    if not 0 <= strength <= 1:
        raise ValueError(f"overlay: strength must be in [0, 1], got {strength}.")
    values = _stretched("overlay", _values("overlay", saliency), image.shape[:2])
    share = _positive_share(_smoothed("overlay", values, smoothing))
    opacity = strength * share.numpy()[..., None]
    return _rounded((1 - opacity) * image + opacity * _interpolated(share, _SEQUENTIAL))


def grid(
    pictures: Sequence[tuple[str, Picture]], *, columns: int | None = None, title: str = ""
) -> Picture:
    """One white picture that shows the pictures in rows, unscaled, each under its caption.

    Columns are as wide as the widest picture, and at least 120 px. Long captions are wrapped; a
    row without captions leaves no room for them.

    Args:
        pictures: Captions and pictures, row by row; sizes may differ.
        columns: Pictures in a row; None puts all into one.
        title: Line above all pictures.

    Raises:
        MissingPackageError: There is text to write and matplotlib is not installed.
        ShapeError: A picture is not uint8 [H, W, 3], or there are no pictures.
        ValueError: ``columns`` is below 1.

    Example:
        >>> grid([("", np.zeros((10, 120, 3), np.uint8))] * 2).shape
        (26, 264, 3)
    """
    if not pictures:
        raise ShapeError("grid: there are no pictures. Pass at least one.")
    for _, picture in pictures:
        _check_picture("grid", picture)
    columns = len(pictures) if columns is None else columns
    if columns < 1:
        raise ValueError(f"grid: columns must be at least 1, got {columns}.")
    width = max(_NARROWEST, *(picture.shape[1] for _, picture in pictures))
    font_size = min(max(width // 16, _SMALLEST), _LARGEST)
    starts = range(0, len(pictures), columns)
    rows = [_row(pictures[start : start + columns], width, columns, font_size) for start in starts]
    if title.strip():
        rows.insert(0, _title(title, rows[0].shape[1], font_size))
    return np.concatenate([*rows, _white(_GAP, rows[0].shape[1])])


def save(path: str | Path, picture: Picture) -> None:
    """Write the picture to a file whose suffix names the format; missing folders are made.

    Args:
        path: For example ``map.png``.
        picture: RGB, uint8.

    Raises:
        MissingPackageError: Pillow is not installed.
        OSError: The file cannot be written.
        ShapeError: The picture is not uint8 [H, W, 3].
        ValueError: The suffix is not that of a format that Pillow writes.

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
            f"save: {path.name!r} does not end like a picture, so that its format is unknown. "
            "Give a name such as map.png."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(np.ascontiguousarray(picture)).save(path)


def _values(who: str, saliency: SaliencyMap) -> Tensor:
    """The map as float64 [h, w] on the CPU."""
    tensor = saliency if isinstance(saliency, Tensor) else torch.from_numpy(np.array(saliency))
    if tensor.dim() != 2 or tensor.numel() == 0 or tensor.is_complex():
        raise ShapeError(
            f"{who}: the map has shape {tuple(tensor.shape)} and type {tensor.dtype}, expected "
            "real [h, w]. Pass a single map, such as maps[0, 0]."
        )
    values = tensor.detach().cpu().to(torch.float64)
    if not values.isfinite().all():
        raise NonFiniteError(f"{who}: the map holds NaN or infinity. Check how it was computed.")
    return values


def _check_picture(who: str, picture: Picture) -> None:
    shape, kind = np.shape(picture), getattr(picture, "dtype", type(picture).__name__)
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ShapeError(
            f"{who}: a picture has shape {tuple(shape)} and type {kind}, expected a numpy array "
            "of uint8 [H, W, 3]. Convert it to RGB in 0 to 255."
        )


def _stretched(who: str, values: Tensor, size: Sequence[int]) -> Tensor:
    height, width = size
    if height < 1 or width < 1:
        raise ShapeError(f"{who}: height and width must be at least 1, got {height} x {width}.")
    target = (height, width)
    stretched = functional.interpolate(
        values[None, None], target, mode="bilinear", align_corners=False
    )
    return stretched[0, 0]


def _smoothed(who: str, values: Tensor, share: float) -> Tensor:
    """The map after a Gaussian, with its border continued; ``share`` as for :func:`colours`."""
    if not 0 <= share <= 1:
        raise ValueError(f"{who}: smoothing must be in [0, 1], got {share}.")
    deviation = share * max(values.shape)
    reach = int(4 * deviation)
    if reach == 0:
        return values
    distances = torch.arange(-reach, reach + 1, dtype=values.dtype) / deviation
    taps = (-0.5 * distances.square()).exp()
    taps = taps / taps.sum()
    padded = functional.pad(values[None, None], (reach,) * 4, mode="replicate")
    rows = functional.conv2d(padded, taps.view(1, 1, 1, -1))
    return functional.conv2d(rows, taps.view(1, 1, -1, 1))[0, 0]


def _positive_share(values: Tensor, maximum: float | None = None) -> Tensor:
    """Share of the maximum in [0, 1]; negative values, and maps without positive ones, are 0."""
    return _share(values.clamp(min=0), maximum)


def _share(values: Tensor, maximum: float | None) -> Tensor:
    """Share of the maximum, or of the largest absolute value, in [-1, 1]."""
    if maximum is not None and not maximum > 0:
        raise ValueError(f"colours: maximum must be above 0, got {maximum}.")
    largest = values.abs().max() if maximum is None else values.new_tensor(maximum)
    return (values / torch.where(largest == 0, 1, largest)).clamp(-1, 1)


def _interpolated(shares: Tensor, points: Sequence[tuple[int, int, int]]) -> Picture:
    """Colours [H, W, 3] of shares in [0, 1], interpolated between evenly spaced points."""
    positions = np.linspace(0, 1, len(points))
    channels = [
        np.interp(shares.numpy(), positions, channel) for channel in zip(*points, strict=True)
    ]
    return _rounded(np.stack(channels, axis=-1))


def _rounded(picture: NDArray[np.floating[Any]]) -> Picture:
    rounded: Picture = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return rounded


def _white(height: int, width: int) -> Picture:
    return np.full((height, width, 3), 255, np.uint8)


def _row(
    pictures: Sequence[tuple[str, Picture]], width: int, columns: int, font_size: int
) -> Picture:
    """A row of a grid, with a gap above it and beside each picture."""
    captions = [_wrapped(caption, width, font_size) for caption, _ in pictures]
    top = _GAP + _text_height(max(len(lines) for lines in captions), font_size)
    bottom = top + max(picture.shape[0] for _, picture in pictures)
    row = _white(bottom, _GAP + columns * (width + _GAP))
    for column, (lines, (_, picture)) in enumerate(zip(captions, pictures, strict=True)):
        left = _GAP + column * (width + _GAP)
        if lines:
            row[_GAP:top, left : left + width] = _text(lines, top - _GAP, width, font_size)
        left += (width - picture.shape[1]) // 2
        row[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return row


def _title(title: str, width: int, font_size: int) -> Picture:
    lines = _wrapped(title, width, font_size)
    text = _text(lines, _text_height(len(lines), font_size), width, font_size)
    return np.concatenate([_white(_GAP, width), text])


def _wrapped(text: str, width: int, font_size: int) -> list[str]:
    """Lines that fit into the width; a letter is about 0.6 times as wide as high."""
    count = max(int(width / (0.6 * font_size)), 1)
    return [line for part in text.splitlines() for line in textwrap.wrap(part, count)]


def _text_height(lines: int, font_size: int) -> int:
    return round(1.4 * font_size * lines) + (4 if lines else 0)


def _text(lines: Sequence[str], height: int, width: int, font_size: int) -> Picture:
    """The lines in black on white, centred, at the bottom of their area."""
    figure_module = optional_package("matplotlib.figure", "grid")
    agg = optional_package("matplotlib.backends.backend_agg", "grid")
    # Half a pixel more, so that rounding down in matplotlib does not lose one.
    size = ((width + 0.5) / _DPI, (height + 0.5) / _DPI)
    figure = figure_module.Figure(figsize=size, dpi=_DPI, facecolor="white")
    figure.text(
        0.5, 4 / height, "\n".join(lines), ha="center", va="bottom", linespacing=1.2,
        fontsize=font_size, color="black", parse_math=False,
    )  # fmt: skip
    canvas = agg.FigureCanvasAgg(figure)
    canvas.draw()
    pixels: Picture = np.asarray(canvas.buffer_rgba())[:height, :width, :3].copy()
    return pixels
