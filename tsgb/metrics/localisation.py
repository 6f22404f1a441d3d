"""Does the saliency lie on the object? Maps against masks and boxes."""

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor

from tsgb.errors import ShapeError
from tsgb.metrics._checks import check_same_shape, checked_pair, checked_values


def pointing_game(saliency: Tensor, mask: Tensor, tolerance: float = 15.0) -> Tensor:
    """Whether the highest point of each map lies on the object or close to it.

    Close means that some pixel of the object is less than ``tolerance`` away. Of several highest
    points the first in reading order counts, so a constant map points at the upper left corner.
    An empty mask is never hit.

    Args:
        saliency: One map per image, [B, H, W], at the size of the mask.
        mask: True on the object, [B, H, W]; for boxes see :func:`boxes_to_mask`.
        tolerance: In pixels, above 0; at 1 the point has to lie on the mask itself.

    Returns:
        One bool per image, [B]. For the published score average over classes: :class:`ClassMean`.

    Raises:
        NonFiniteError: ``saliency`` holds NaN or infinity.
        ShapeError: ``saliency`` and ``mask`` differ in shape. Resize the map, not the mask.
        ValueError: ``tolerance`` is not above 0.

    References:
        Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016 (the pointing
        game); strict comparison and 15 pixels as in TorchRay.

    Example:
        >>> import torch
        >>> saliency = torch.tensor([[[0.0, 3.0], [0.0, -5.0]]])
        >>> mask = torch.tensor([[[False, False], [False, True]]])
        >>> pointing_game(saliency, mask), pointing_game(saliency, mask, tolerance=1)
        (tensor([True]), tensor([False]))
    """
    values = checked_pair("pointing_game", saliency, mask)
    if not tolerance > 0:
        raise ValueError(
            f"pointing_game: tolerance is {tolerance}. No point is closer than that, so every "
            "image would be a miss. Use 1 for points on the mask, or 15 as published."
        )
    height, width = mask.shape[1:]
    point = values.flatten(1).argmax(1)[:, None]
    rows = torch.arange(height, device=mask.device) - point // width
    columns = torch.arange(width, device=mask.device) - point % width
    squared = rows.square()[:, :, None] + columns.square()[:, None, :]
    return (mask & (squared < tolerance**2)).flatten(1).any(1)


def energy_pointing_game(saliency: Tensor, mask: Tensor) -> Tensor:
    """Share of the positive saliency that lies inside the mask.

    Negative saliency counts as zero. A map without positive saliency scores 0, and so does an
    empty mask.

    Args:
        saliency: One map per image, [B, H, W], any scale; only ratios matter.
        mask: True on the object, [B, H, W]. Set the saliency of void pixels (VOC label 255) to 0.

    Returns:
        One score per image, [B], in [0, 1]; higher is better.

    Raises:
        NonFiniteError: ``saliency`` holds NaN or infinity.
        ShapeError: ``saliency`` and ``mask`` differ in shape. Resize the map, not the mask.

    References:
        Wang et al., "Score-CAM", CVPR Workshops 2020 (energy-based pointing game).

    Example:
        >>> import torch
        >>> saliency = torch.tensor([[[3.0, 1.0], [0.0, -5.0]]])
        >>> mask = torch.tensor([[[True, False], [False, True]]])
        >>> energy_pointing_game(saliency, mask)
        tensor([0.7500])
    """
    positive = checked_pair("energy_pointing_game", saliency, mask).clamp(min=0)
    highest = positive.amax((1, 2), keepdim=True)
    shares = positive / torch.where(highest > 0, highest, 1.0)  # sums of these cannot overflow
    total = shares.sum((1, 2))
    inside = (shares * mask).sum((1, 2))
    # Two sums of the same numbers may be rounded differently.
    return torch.where(total > 0, inside / total, 0.0).clamp(max=1)


def iou_at_threshold(saliency: Tensor, mask: Tensor, threshold: float) -> Tensor:
    """Intersection over union of the mask and the map cut at a share of its maximum.

    What is at least ``threshold`` times the maximum of the map is foreground. A map without
    positive saliency has no foreground and scores 0, also against an empty mask.

    Args:
        saliency: One map per image, [B, H, W]; only ratios matter.
        mask: True on the object, [B, H, W].
        threshold: Share of the maximum, above 0 and at most 1.

    Returns:
        One score per image, [B], in [0, 1]; higher is better.

    Raises:
        NonFiniteError: ``saliency`` holds NaN or infinity.
        ShapeError: ``saliency`` and ``mask`` differ in shape. Resize the map, not the mask.
        ValueError: ``threshold`` is not above 0 and at most 1.

    References:
        Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016
        (localisation: cut at 0.2; here the mask takes the place of the box).

    Example:
        >>> import torch
        >>> saliency = torch.tensor([[[4.0, 1.0], [2.0, -5.0]]])
        >>> mask = torch.tensor([[[True, False], [False, True]]])
        >>> iou_at_threshold(saliency, mask, threshold=0.5)
        tensor([0.3333])
    """
    values = checked_pair("iou_at_threshold", saliency, mask)
    if not 0 < threshold <= 1:
        raise ValueError(
            f"iou_at_threshold: threshold is {threshold}. It is a share of the maximum, and the "
            "foreground would be everything or nothing. Use a number above 0 and at most 1."
        )
    highest = values.amax((1, 2), keepdim=True)
    foreground = (values >= threshold * highest) & (highest > 0)
    intersection = (foreground & mask).sum((1, 2))
    union = (foreground | mask).sum((1, 2))
    return intersection.to(values) / union.clamp(min=1)


def boxes_to_mask(boxes: Tensor, height: int, width: int) -> Tensor:
    """Union of boxes as a mask.

    Pixels are numbered from 0, and a box ends before its last coordinate: (0, 0, 2, 1) is two
    pixels wide and one high. A VOC annotation, which counts from 1 and includes the last pixel,
    needs 1 taken off ``xmin`` and ``ymin`` only. What lies outside the image is cut off; no boxes
    give an empty mask.

    Args:
        boxes: Rows of (left, top, right, bottom) in pixels, [N, 4].
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        True inside some box, [H, W], on the device of the boxes.

    Raises:
        ShapeError: ``boxes`` is not [N, 4].

    Example:
        >>> import torch
        >>> boxes_to_mask(torch.tensor([[0, 0, 2, 1], [2, 1, 3, 2]]), height=2, width=3).int()
        tensor([[1, 1, 0],
                [0, 0, 1]], dtype=torch.int32)
    """
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ShapeError(
            f"boxes_to_mask: boxes are {tuple(boxes.shape)}, expected (N, 4). "
            "Give one row (left, top, right, bottom) per box."
        )
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    columns = torch.arange(width, device=boxes.device)
    rows = torch.arange(height, device=boxes.device)
    inside_columns = (columns >= left) & (columns < right)
    inside_rows = (rows >= top) & (rows < bottom)
    return (inside_rows[:, :, None] & inside_columns[:, None, :]).any(0)


class ClassScores(NamedTuple):
    """Means of :class:`ClassMean`.

    Attributes:
        mean: Mean of the classes, each of the same weight however often it was seen.
        per_class: Mean of each class that was seen, by its index, in ascending order.
    """

    mean: float
    per_class: dict[int, float]


class ClassMean:
    """Mean over classes of the mean within each class, collected batch by batch.

    With hits of :func:`pointing_game` this is the published accuracy, hits / (hits + misses) per
    class and then the mean. Classes that were never seen are left out.

    References:
        Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016 (the
        pointing game).

    Example:
        >>> import torch
        >>> score = ClassMean()
        >>> score.update(torch.tensor([True, False, True]), torch.tensor([7, 7, 2]))
        >>> score.compute()
        ClassScores(mean=0.75, per_class={2: 1.0, 7: 0.5})
    """

    def __init__(self) -> None:
        self._sums: defaultdict[int, float] = defaultdict(float)
        self._counts: defaultdict[int, int] = defaultdict(int)

    def update(self, values: Tensor, classes: Tensor) -> None:
        """Add scores.

        Args:
            values: Scores or hits of any shape.
            classes: Index of the class of each, same shape; entries of -1 are passed over.

        Raises:
            NonFiniteError: ``values`` holds NaN or infinity.
            ShapeError: The shapes differ. Give one class per score.
        """
        check_same_shape("ClassMean", ("values", "classes"), values, classes)
        numbers = checked_values("ClassMean", "values", values).flatten().tolist()
        for number, index in zip(numbers, classes.flatten().tolist(), strict=True):
            if index >= 0:
                self._sums[index] += number
                self._counts[index] += 1

    def compute(self) -> ClassScores:
        """Mean over the classes seen so far, and the mean of each.

        Raises:
            ValueError: No class was seen yet.
        """
        if not self._counts:
            raise ValueError(
                "ClassMean: no score was added. The mean of nothing is not a number. "
                "Call update() with at least one class that is not -1."
            )
        means = {index: self._sums[index] / self._counts[index] for index in sorted(self._counts)}
        return ClassScores(sum(means.values()) / len(means), means)
