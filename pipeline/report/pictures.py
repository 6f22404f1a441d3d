"""Pictures of maps and label images: arrays in, arrays or encoded bytes out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.data.palette import colourise

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Image = NDArray[np.uint8]  # RGB [H, W, 3]
LabelImage = NDArray[np.uint8]  # [H, W], 0 background, 255 void

COLOUR_MAP = "inferno"
_TALLEST, _WIDEST = 220, 400  # of a thumbnail, px
_LARGEST_ZOOM = 2.0  # small pictures are enlarged at most so much
_STRIPE = 4  # width of the stripes that mark void, px
_QUALITY = 85  # of JPEG
_PANEL = 3.0  # side of a panel of ``explain_picture``, inches
_NARROWEST = 6.0  # whole picture, inches, so that its title fits
_DPI = 110


def thumbnail(image: Image) -> Image:
    """The image at most 220 px high and 400 px wide; small ones at most twice as large.

    Example:
        >>> thumbnail(np.zeros((440, 600, 3), np.uint8)).shape
        (220, 300, 3)
    """
    height, width = image.shape[:2]
    zoom = min(_TALLEST / height, _WIDEST / width, _LARGEST_ZOOM)
    size = (max(round(width * zoom), 1), max(round(height * zoom), 1))
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)


def overlay_map(image: Image, saliency: NDArray[np.floating[Any]]) -> Image:
    """A map in [0, 1] of any size over the greyed image, bright where the map is high.

    Example:
        >>> overlay_map(np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2))).max()
        np.uint8(0)
    """
    values = _resized_map(saliency, image)
    strength = (0.8 * values**0.5)[..., None]
    return _to_uint8(_grey(image) * (1 - strength) + coloured_map(values) * strength)


def coloured_map(values: NDArray[np.floating[Any]]) -> Image:
    """A map in [0, 1] in colours from black over red to light yellow, RGB [H, W, 3]."""
    from matplotlib import colormaps  # takes half a second, and only pictures of maps need it

    return _to_uint8(colormaps[COLOUR_MAP](np.clip(values, 0, 1))[..., :3] * 255)


def overlay_labels(image: Image, labels: LabelImage) -> Image:
    """A label image of any size over the image: classes in their colours, void striped.

    Example:
        >>> overlay_labels(np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2), np.uint8)).max()
        np.uint8(0)
    """
    size = (image.shape[1], image.shape[0])
    labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    picture = _grey(image) * 0.65
    objects = (labels != BACKGROUND) & (labels != VOID)
    picture[objects] = 0.45 * _grey(image)[objects] + 0.65 * colourise(labels)[objects]
    picture[_outline(labels)] = 255
    void = labels == VOID
    picture[void] = 0.3 * picture[void] + 0.7 * stripes(labels.shape)[void]
    return _to_uint8(picture)


def stripes(size: tuple[int, ...]) -> Image:
    """Light diagonal stripes, RGB [H, W, 3]: how void looks in every picture."""
    rows, columns = np.indices(size[:2])
    light = ((rows + columns) // _STRIPE) % 2 == 0
    return np.where(light[..., None], np.uint8(245), np.uint8(120)).repeat(3, axis=2)


def _outline(labels: LabelImage) -> NDArray[np.bool_]:
    """Pixels of an object at its edge, so that neighbours of similar colours are kept apart."""
    eroded = cv2.erode(labels, np.ones((3, 3), np.uint8))
    dilated = cv2.dilate(labels, np.ones((3, 3), np.uint8))
    void_beside = dilated == VOID  # void has its stripes; no line is needed there
    edge: NDArray[np.bool_] = (eroded != labels) & (labels != VOID) & ~void_beside
    return edge


def encode_jpeg(image: Image) -> bytes:
    """The image as a JPEG file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    _, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return bytes(content)


def explain_picture(
    image: Image, maps: NDArray[np.floating[Any]], names: Sequence[str], title: str = ""
) -> bytes:
    """One picture: the image, and for each class its map and the map over the image.

    Args:
        image: RGB [H, W, 3].
        maps: [K, h, w] in [0, 1]; any size, they are stretched over the image.
        names: K titles, class names for example.
        title: Of the whole picture.

    Returns:
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = _panel_size(image)
    size = (max((len(names) + 1) * width, _NARROWEST), 2 * height + 1.0)
    figure = Figure(figsize=size, dpi=_DPI)
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
    axes = figure.subplots(2, len(names) + 1, squeeze=False)
    figure.suptitle(title, fontsize=11, color="0.35", parse_math=False)
    _show(axes[0, 0], image, "image")
    _scale_bar(axes[1, 0])
    for column, (name, saliency) in enumerate(zip(names, maps, strict=True), start=1):
        _show(axes[0, column], coloured_map(_resized_map(saliency, image)), name)
        _show(axes[1, column], overlay_map(image, saliency), "")
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def _panel_size(image: Image) -> tuple[float, float]:
    """Height and width in inches with the image's aspect ratio, the longer one ``_PANEL``."""
    height, width = image.shape[:2]
    longer = max(height, width)
    return _PANEL * max(height / longer, 0.4), _PANEL * max(width / longer, 0.65)


def _show(axes: Axes, picture: Image, title: str) -> None:
    axes.imshow(picture)
    axes.set_title(title, fontsize=12, parse_math=False)
    axes.set_axis_off()


def _scale_bar(axes: Axes) -> None:
    """What the colours mean, in the panel that has no picture."""
    axes.set_axis_off()
    bar = axes.inset_axes((0.15, 0.55, 0.7, 0.08))
    bar.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=COLOUR_MAP)
    bar.set_yticks([])
    bar.set_xticks([0, 255], ["0", "maximum"], fontsize=9)
    bar.set_title("evidence for the class", fontsize=10)


def _resized_map(saliency: NDArray[np.floating[Any]], image: Image) -> NDArray[np.float32]:
    size = (image.shape[1], image.shape[0])
    large = cv2.resize(saliency.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.clip(large, 0, 1)


def _grey(image: Image) -> NDArray[np.float32]:
    """The image almost without colour, so that the colours on it can be read."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    return np.asarray(0.8 * grey + 0.2 * image, dtype=np.float32)


def _to_uint8(picture: NDArray[Any]) -> Image:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
