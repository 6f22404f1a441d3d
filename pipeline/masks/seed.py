"""From raw saliency maps of the classes of one image to probabilities and label images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipeline.base.arrays import Floats, LabelImage
from pipeline.base.errors import ConfigError, DataError
from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.data.images import enlarge

PLANES = ("constant", "power")  # heights of the background, see ``with_background``
_ROUNDING = 1e-3  # maps may have been stored in half precision or enlarged


def normalise(maps: Floats) -> Floats:
    """Positive part of each map as a share of its own maximum; a map without one becomes 0.

    Args:
        maps: Raw signed saliency, float [K, H, W], one map for each class of the image.

    Returns:
        float32 [K, H, W] in [0, 1].

    Raises:
        DataError: ``maps`` is not [K, H, W], or a map has values that are not finite.

    Example:
        >>> normalise(np.array([[[-1.0, 2.0, 4.0]], [[-3.0, -2.0, 0.0]]]))
        array([[[0. , 0.5, 1. ]],
        <BLANKLINE>
               [[0. , 0. , 0. ]]], dtype=float32)
    """
    maps = np.asarray(maps)
    _check_planes("normalise", "maps", maps)
    positive = np.maximum(maps, 0).astype(np.float64)  # half-precision sums and tiny maxima
    highest = positive.max(axis=(1, 2), keepdims=True, initial=0.0)
    return (positive / np.where(highest > 0, highest, 1.0)).astype(np.float32)


def compete(maps: Floats, logits: Floats, temperature: float) -> Floats:
    """Each map, less where a classifier sees another class of the image at that place.

    With K classes and ``p`` the softmax over their logits at a pixel, each map is multiplied there
    by ``min(1, K p)``: a class with its even share or more keeps all of its saliency, one that
    another outdoes loses it. One map alone stays as it is.

    Args:
        maps: Normalised maps of the classes of one image, float [K, H, W], from ``normalise``.
        logits: Of the same classes by place, float [K, h, w] of any size: what the classifier's
            last linear layer makes of the feature map before its mean is taken.
        temperature: Of the softmax, > 0; the lower, the more the winner takes.

    Returns:
        float32 [K, H, W] in [0, 1].

    Raises:
        ConfigError: ``temperature`` is out of its range.
        DataError: The arrays are not [K, H, W] for one K, or have values that are not finite.

    Example:
        >>> even = np.ones((2, 1, 1))
        >>> compete(even, np.log([[[3.0]], [[1.0]]]), temperature=1).tolist()
        [[[1.0]], [[0.5]]]
    """
    if not 0 < temperature < math.inf:
        raise ConfigError(
            f"compete: temperature is {temperature}. Logits are divided by it. Pass a number > 0."
        )
    maps = np.asarray(maps, dtype=np.float32)
    logits = np.asarray(logits, dtype=np.float32)
    _check_planes("compete", "maps", maps)
    _check_planes("compete", "logits", logits)
    if len(maps) != len(logits):
        raise DataError(
            f"compete: maps is {maps.shape} but logits {logits.shape}. A class would have another "
            "one's logits. Pass those of the classes of the maps, in their order."
        )
    if len(maps) < 2:
        return maps
    scores = enlarge(logits, (maps.shape[1], maps.shape[2])) / temperature
    powers = np.exp(scores - scores.max(axis=0))
    shares = powers / powers.sum(axis=0)
    return np.asarray(maps * np.minimum(len(maps) * shares, 1), dtype=np.float32)


def with_background(maps: Floats, background: float, plane: str = "constant") -> Floats:
    """Probabilities of background and classes: the background's plane first, then all to sum 1.

    A pixel belongs to its strongest class where that map is above ``background``, whatever the
    plane; the plane says how sure that is, which matters to a refinement. A constant one leaves
    a class with at most ``1 / (1 + background)``. The power ``(1 - max_k m_k)^alpha`` is 1 where
    there is no saliency and 0 at a maximum; ``alpha = log(background) / log(1 - background)``
    puts the tie at ``background``: 0.5 is alpha 1, 0.38 is 2, 0.28 is 4, 0.09 is 24.

    Args:
        maps: Normalised maps, float [K, H, W] in [0, 1], from ``normalise``.
        background: Level of a map, a share of its maximum, at which it equals the background: in
            (0, 1], for the power below 1.
        plane: "constant", or "power".

    Returns:
        float32 [K + 1, H, W], background first.

    Raises:
        ConfigError: ``background`` is out of its range, or ``plane`` unknown.
        DataError: ``maps`` is not [K, H, W], or not within [0, 1].

    References:
        Ahn and Kwak, "Learning Pixel-level Semantic Affinity with Image-level Supervision for
        Weakly Supervised Semantic Segmentation", CVPR 2018 (the power, on class activation maps).

    Example:
        >>> with_background(np.array([[[0.0, 0.75]]]), background=0.25).tolist()
        [[[1.0, 0.25]], [[0.0, 0.75]]]
        >>> with_background(np.array([[[0.0, 0.75]]]), 0.5, "power").tolist()
        [[[1.0, 0.25]], [[0.0, 0.75]]]
    """
    _check_background(background, plane)
    maps = np.asarray(maps)
    _check_planes("with_background", "maps", maps)
    if maps.size and (maps.min() < 0 or maps.max() > 1 + _ROUNDING):
        raise DataError(
            f"with_background: maps are in [{maps.min():.4g}, {maps.max():.4g}]. A threshold on "
            "raw saliency means something else in every image. Pass them through normalise first."
        )
    height = np.full((1, *maps.shape[1:]), background, dtype=np.float32)
    if plane == "power":
        alpha = math.log(background) / math.log1p(-background)
        height = np.maximum(1 - maps.max(axis=0, keepdims=True, initial=0), 0) ** alpha
    planes: Floats = np.concatenate([height, maps]).astype(np.float32, copy=False)
    return np.asarray(planes / planes.sum(axis=0))


def label_image(probabilities: Floats, classes: Sequence[int]) -> LabelImage:
    """The most probable label of each pixel: 0 for background, class index + 1 otherwise.

    Of equals the background wins, then the class named first.

    Args:
        probabilities: float [K + 1, H, W], background first.
        classes: The K class indices, from 0 to 253, in the order of the planes.

    Returns:
        uint8 [H, W].

    Raises:
        DataError: Planes and classes do not match in number, or a class index is out of range.

    Example:
        >>> label_image(np.array([[[0.6, 0.2]], [[0.4, 0.8]]]), classes=[14])
        array([[ 0, 15]], dtype=uint8)
    """
    probabilities = np.asarray(probabilities)
    _check_planes("label_image", "probabilities", probabilities)
    if len(probabilities) != len(classes) + 1:
        raise DataError(
            f"label_image: probabilities is {probabilities.shape} for {len(classes)} classes. "
            "Planes would get the names of other classes. "
            f"Pass {len(classes) + 1} planes: background, then one for each class."
        )
    outside = [index for index in classes if not 0 <= index < VOID - 1]
    if outside:
        raise DataError(
            f"label_image: classes contains {outside}. Label {VOID} is void and 8 bits end there, "
            f"so that pixels would be lost. Pass 0-based indices from 0 to {VOID - 2}."
        )
    values = np.array([BACKGROUND, *(index + 1 for index in classes)], dtype=np.uint8)
    return np.asarray(values[probabilities.argmax(axis=0)])


def confident(strict: LabelImage, lenient: LabelImage) -> LabelImage:
    """Labels where a high and a low threshold agree, 255 (void) between the two.

    Foreground where ``strict`` says so (with its class), background where both say background.

    Args:
        strict: Label image made with the high foreground threshold, uint8 [H, W].
        lenient: Label image made with the low background threshold, uint8 [H, W].

    Returns:
        uint8 [H, W].

    Raises:
        DataError: The two differ in shape.

    References:
        Ahn, Cho, Kwak, "Weakly Supervised Learning of Instance Segmentation with Inter-pixel
        Relations", CVPR 2019, section 3.3 (confident regions for mining pixel pairs).

    Example:
        >>> confident(np.array([[3, 0, 0]], np.uint8), np.array([[3, 3, 0]], np.uint8))
        array([[  3, 255,   0]], dtype=uint8)
    """
    if strict.shape != lenient.shape:
        raise DataError(
            f"confident: strict is {strict.shape} but lenient is {lenient.shape}. Pixels would be "
            "compared with their neighbours. Make both label images at the size of the image."
        )
    mask = strict.copy()
    mask[(strict == BACKGROUND) & (lenient != BACKGROUND)] = VOID
    return mask


def _check_background(background: float, plane: str) -> None:
    if plane not in PLANES:
        raise ConfigError(
            f"with_background: plane is {plane!r}. There is no such background. "
            f"Choose {' or '.join(PLANES)}."
        )
    if not 0 < background <= 1 or (plane == "power" and background == 1):
        raise ConfigError(
            f"with_background: background is {background} of a {plane} plane. Maps are shares of "
            "their maximum, and every pixel would become the same label. "
            "Pass a number in (0, 1), or 1 for a constant plane."
        )


def _check_planes(function: str, name: str, planes: Floats) -> None:
    if planes.ndim != 3:
        raise DataError(
            f"{function}: {name} is {planes.shape}. Rows would be taken for maps. "
            "Pass one plane for each class, [K, H, W]."
        )
    finite = np.isfinite(planes).all(axis=(1, 2))
    if not finite.all():
        index = int(np.flatnonzero(~finite)[0])
        raise DataError(
            f"{function}: {name}[{index}] of {planes.shape} has "
            f"{np.count_nonzero(~np.isfinite(planes[index]))} values that are NaN or infinite. "
            "The mask would be noise. Check the saliency of this image, and that the model's "
            "weights are finite."
        )
