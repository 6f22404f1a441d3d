"""From the raw saliency maps of one image to probabilities and label images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipeline.base.arrays import Floats, LabelImage
from pipeline.base.errors import ConfigError, DataError
from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.data.images import enlarge

PLANES = ("constant", "power")  # background scores, see ``with_background``
_ROUNDING = 1e-3  # tolerance for maps stored in half precision or resized


def normalise(maps: Floats) -> Floats:
    """The positive part of each map, divided by its maximum; 0 for a map without positive values.

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
    positive = np.maximum(maps, 0).astype(np.float64)  # a tiny maximum may be a float32 denormal
    highest = positive.max(axis=(1, 2), keepdims=True, initial=0.0)
    return (positive / np.where(highest > 0, highest, 1.0)).astype(np.float32)


def compete(maps: Floats, logits: Floats, temperature: float) -> Floats:
    """Maps that are reduced where the classifier favours another class of the image.

    With K classes and ``p`` the softmax over their logits at a pixel, each map is multiplied there
    by ``min(1, K p)``: a class with a probability of ``1 / K`` or more keeps its saliency, a less
    probable one loses part of it. A single map is returned unchanged.

    Args:
        maps: Normalised maps of the classes of one image, float [K, H, W], from ``normalise``.
        logits: Logits of the same classes at each location, float [K, h, w] of any size: the
            classifier's last linear layer applied to the feature map before pooling.
        temperature: Temperature of the softmax, > 0; the lower, the sharper the competition.

    Returns:
        float32 [K, H, W] in [0, 1].

    Raises:
        ConfigError: ``temperature`` is out of its range.
        DataError: An array is not [K, H, W], the two differ in K, or a value is not finite.

    Example:
        >>> even = np.ones((2, 1, 1))
        >>> compete(even, np.log([[[3.0]], [[1.0]]]), temperature=1).tolist()
        [[[1.0]], [[0.5]]]
    """
    if not 0 < temperature < math.inf:
        raise ConfigError(f"compete: temperature is {temperature}. Pass a finite number > 0.")
    maps = np.asarray(maps, dtype=np.float32)
    logits = np.asarray(logits, dtype=np.float32)
    _check_planes("compete", "maps", maps)
    _check_planes("compete", "logits", logits)
    if len(maps) != len(logits):
        raise DataError(
            f"compete: maps is {maps.shape} but logits is {logits.shape}. "
            "Pass the logits of the classes of the maps, in the same order."
        )
    if len(maps) < 2:
        return maps
    scores = enlarge(logits, (maps.shape[1], maps.shape[2])) / temperature
    powers = np.exp(scores - scores.max(axis=0))
    shares = powers / powers.sum(axis=0)
    return np.asarray(maps * np.minimum(len(maps) * shares, 1), dtype=np.float32)


def with_background(maps: Floats, background: float, plane: str = "constant") -> Floats:
    """Probabilities of background and classes: a background plane is added, then the sum is 1.

    With either plane a pixel belongs to its strongest class if that map is above the threshold
    ``background``. The plane determines the confidence, which matters to a refinement. With a
    constant plane the probability of a class is at most ``1 / (1 + background)``. The power
    ``(1 - max_k m_k)^alpha`` is 1 where there is no saliency and 0 at a maximum;
    ``alpha = log(background) / log(1 - background)`` puts the tie at ``background``: threshold
    0.5 is alpha 1, 0.38 is 2, 0.28 is 4, 0.09 is 24.

    Args:
        maps: Normalised maps, float [K, H, W] in [0, 1], from ``normalise``.
        background: Threshold, the value of a map at which class and background are equally
            probable: in (0, 1], below 1 for the power plane.
        plane: "constant" or "power".

    Returns:
        float32 [K + 1, H, W], background first.

    Raises:
        ConfigError: ``background`` is out of its range, or ``plane`` is unknown.
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
            f"with_background: maps are in [{maps.min():.4g}, {maps.max():.4g}], not in [0, 1]. "
            "Pass them through normalise first."
        )
    height = np.full((1, *maps.shape[1:]), background, dtype=np.float32)
    if plane == "power":
        alpha = math.log(background) / math.log1p(-background)
        height = np.maximum(1 - maps.max(axis=0, keepdims=True, initial=0), 0) ** alpha
    planes: Floats = np.concatenate([height, maps]).astype(np.float32, copy=False)
    return np.asarray(planes / planes.sum(axis=0))


def label_image(probabilities: Floats, classes: Sequence[int]) -> LabelImage:
    """The most probable label of each pixel: 0 for background, class index + 1 otherwise.

    A tie goes to the background, then to the first class.

    Args:
        probabilities: float [K + 1, H, W], background first.
        classes: The K class indices, from 0 to 253, in the order of the planes.

    Returns:
        uint8 [H, W].

    Raises:
        DataError: The numbers of planes and classes do not match, or a class index is out of
            range.

    Example:
        >>> label_image(np.array([[[0.6, 0.2]], [[0.4, 0.8]]]), classes=[14])
        array([[ 0, 15]], dtype=uint8)
    """
    probabilities = np.asarray(probabilities)
    _check_planes("label_image", "probabilities", probabilities)
    if len(probabilities) != len(classes) + 1:
        raise DataError(
            f"label_image: probabilities is {probabilities.shape} for {len(classes)} classes. "
            f"Pass {len(classes) + 1} planes: background, then one for each class."
        )
    outside = [index for index in classes if not 0 <= index < VOID - 1]
    if outside:
        raise DataError(
            f"label_image: classes contains {outside}. Labels are 8 bits and {VOID} is void. "
            f"Pass class indices from 0 to {VOID - 2}."
        )
    values = np.array([BACKGROUND, *(index + 1 for index in classes)], dtype=np.uint8)
    return np.asarray(values[probabilities.argmax(axis=0)])


def confident(strict: LabelImage, lenient: LabelImage) -> LabelImage:
    """A training mask: foreground from ``strict``, background from ``lenient``, void otherwise.

    Args:
        strict: Label image made with the high threshold, for foreground, uint8 [H, W].
        lenient: Label image made with the low threshold, for background, uint8 [H, W].

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
            f"confident: strict is {strict.shape} but lenient is {lenient.shape}. "
            "Make both label images at the size of the image."
        )
    mask = strict.copy()
    mask[(strict == BACKGROUND) & (lenient != BACKGROUND)] = VOID
    return mask


def _check_background(background: float, plane: str) -> None:
    if plane not in PLANES:
        raise ConfigError(
            f"with_background: plane is {plane!r}, which is unknown. Choose {' or '.join(PLANES)}."
        )
    if not 0 < background <= 1 or (plane == "power" and background == 1):
        raise ConfigError(
            f"with_background: background is {background} with a {plane} plane. "
            "Pass a number in (0, 1); a constant plane also accepts 1."
        )


def _check_planes(function: str, name: str, planes: Floats) -> None:
    if planes.ndim != 3:
        raise DataError(
            f"{function}: {name} is {planes.shape}. Pass one plane for each class, [K, H, W]."
        )
    finite = np.isfinite(planes).all(axis=(1, 2))
    if not finite.all():
        index = int(np.flatnonzero(~finite)[0])
        raise DataError(
            f"{function}: {name}[{index}] of {planes.shape} has "
            f"{np.count_nonzero(~np.isfinite(planes[index]))} values that are NaN or infinite. "
            "Check the saliency of this image, and that the model's weights are finite."
        )
