"""Scores of label images against the ground truth: IoU of one confusion matrix over all images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import ConfigError, DataError
from pipeline.base.ranks import summed
from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.data.images import enlarge

VoidPolicy = Literal["background", "excluded"]
LABEL_ORACLE = "label oracle"  # marks the protocol of predictions that use image labels
Labels = NDArray[np.integer[Any]]
Counts = NDArray[np.int64]

_VALUES = 256  # label images are 8-bit
_DEFAULT_THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(1, 46))  # 0.02 ... 0.90


class ConfusionMatrix:
    """Number of pixels by true and predicted class, summed over images.

    Pixels with ground-truth void (255) are never counted. For predicted void there are two
    conventions, and a score should always be quoted with its convention:

    * ``"background"``: void counts as background, as in IRN. Every pixel is scored.
    * ``"excluded"``: void pixels are left out, as in ToCo. Quote ``coverage`` too: predicting
      void at every difficult pixel raises the score.

    Args:
        classes: Number of classes with background, 1 to 255.
        void: How a predicted 255 counts.

    Raises:
        ConfigError: ``classes`` is out of range, or ``void`` is unknown.

    Example:
        >>> matrix = ConfusionMatrix(classes=2)
        >>> matrix.update(np.array([[0, 1, 1]]), np.array([[0, 0, 1]]))
        >>> matrix.iou()
        array([0.5, 0.5])
    """

    def __init__(self, classes: int, void: VoidPolicy = "background") -> None:
        _check_classes("ConfusionMatrix", classes)
        if void not in get_args(VoidPolicy):
            raise ConfigError(
                f"ConfusionMatrix: void is {void!r}. "
                f"Choose one of {', '.join(map(repr, get_args(VoidPolicy)))}."
            )
        self.classes = classes
        self.void: VoidPolicy = void
        self._counts: Counts = np.zeros((classes, classes), dtype=np.int64)
        self._voids: Counts = np.zeros(classes, dtype=np.int64)  # predicted void, by true class

    @property
    def counts(self) -> Counts:
        """A copy of the counts, int64 [classes, classes]: rows ground truth, columns prediction."""
        counts = self._counts.copy()
        if self.void == "background":
            counts[:, BACKGROUND] += self._voids
        return counts

    def update(self, prediction: Labels, ground_truth: Labels) -> None:
        """Add the pixels of one image.

        Args:
            prediction: Integers [H, W], 0 to classes - 1, or 255 for void.
            ground_truth: Integers of the same size and range.

        Raises:
            DataError: The sizes differ, or a value is neither a class nor 255.
        """
        _check_same_size(prediction, ground_truth)
        true = _as_bytes("ground_truth", ground_truth)
        joint = _joint_histogram(true, _as_bytes("prediction", prediction), _VALUES, _VALUES)
        _check_values("prediction", joint.sum(axis=0), self.classes)
        _check_values("ground_truth", joint.sum(axis=1), self.classes)
        self._counts += joint[: self.classes, : self.classes]
        self._voids += joint[: self.classes, VOID]

    def gather(self) -> None:
        """Add what the other processes of the run have counted; all have to call this."""
        self._counts, self._voids = summed(self._counts), summed(self._voids)

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class, float64 [classes] in [0, 1].

        0 for a class that is predicted but absent from the ground truth, as in the VOC devkit;
        NaN for a class without a scored pixel in either.
        """
        return iou_of(self.counts)

    def mean_iou(self) -> float:
        """Mean IoU over the classes in the ground truth or the predictions, in [0, 1], or NaN."""
        return _mean(self.iou())

    def pixel_accuracy(self) -> float:
        """Share of the scored pixels with the right class; NaN if none is scored."""
        counts = self.counts
        return _share(counts.trace(), counts.sum())

    def coverage(self) -> float:
        """Share of pixels with ground truth that are not predicted void; NaN if there are none."""
        predicted = self._counts.sum()
        return _share(predicted, predicted + self._voids.sum())

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """The scores as plain data for a JSON file; undefined values are None.

        ``classes`` is the number of classes that the mIoU is over, ``left_out`` names the others.

        Args:
            names: Class names, with or without the background.

        Raises:
            ConfigError: The number of names is wrong.
        """
        if len(names) == self.classes - 1:
            names = ("background", *names)
        if len(names) != self.classes:
            raise ConfigError(
                f"ConfusionMatrix.as_dict: {len(names)} names for {self.classes} classes with "
                "background. Pass one name for each class."
            )
        iou = {name: _or_none(value) for name, value in zip(names, self.iou(), strict=True)}
        left_out = [name for name, value in iou.items() if value is None]
        return {
            "mIoU": _or_none(self.mean_iou()),
            "classes": len(iou) - len(left_out),
            "left_out": left_out,
            "IoU": iou,
            "pixel_accuracy": _or_none(self.pixel_accuracy()),
            "coverage": _or_none(self.coverage()),
            "void": self.void,
            "pixels": int(self.counts.sum()),
        }


class ThresholdSweep:
    """The best background threshold and its mIoU, found with the ground truth: an oracle.

    Report it beside the score of the fixed threshold, never instead of it. Predictions are those
    of ``seed.with_background`` and ``seed.label_image``: the strongest class where its map is
    above the threshold. All thresholds are evaluated in one pass over the pixels.

    Args:
        classes: Number of classes with background, 1 to 255.
        thresholds: Shares of the maximum of a map, at least one, in any order.

    Raises:
        ConfigError: ``classes`` is out of range or ``thresholds`` is empty.

    Example:
        >>> sweep = ThresholdSweep(classes=2, thresholds=[0.2, 0.6])
        >>> maps = np.array([[[0.1, 0.5, 0.9]]], dtype=np.float32)
        >>> sweep.update(maps, classes=[0], ground_truth=np.array([[0, 0, 1]]))
        >>> sweep.best()
        (0.6, 1.0)
    """

    def __init__(self, classes: int, thresholds: Sequence[float] = _DEFAULT_THRESHOLDS) -> None:
        _check_classes("ThresholdSweep", classes)
        if not len(thresholds):
            raise ConfigError("ThresholdSweep: thresholds is empty. Pass at least one.")
        self.classes = classes
        self.thresholds = tuple(sorted(float(threshold) for threshold in thresholds))
        self._edges = np.array(self.thresholds, dtype=np.float32)
        levels = len(self.thresholds) + 1
        # Pixels by number of thresholds below the strongest map, true class and strongest class.
        self._counts: Counts = np.zeros((levels, classes, classes), dtype=np.int64)

    def update(
        self, maps: NDArray[np.floating[Any]], classes: Sequence[int], ground_truth: Labels
    ) -> None:
        """Add the pixels of one image at all thresholds.

        Args:
            maps: Normalised maps, float [K, h, w] in [0, 1], resized bilinearly to the image.
            classes: The K class indices, from 0.
            ground_truth: Integers [H, W]: 0 to classes - 1, or 255 for void.

        Raises:
            DataError: The numbers of maps and classes differ, a class index or a value of the
                ground truth is out of range, or the maps are not finite.
        """
        if np.ndim(maps) != 3 or len(maps) != len(classes):
            raise DataError(
                f"ThresholdSweep.update: maps is {np.shape(maps)} for {len(classes)} classes. "
                "Pass [K, h, w], one map for each class."
            )
        if not np.isfinite(maps).all():
            raise DataError(
                f"ThresholdSweep.update: maps {np.shape(maps)} has values that are NaN or "
                "infinite. Check the saliency of this image."
            )
        true = _as_bytes("ground_truth", ground_truth)
        _check_values("ground_truth", np.bincount(true.ravel(), minlength=_VALUES), self.classes)
        _check_indices(classes, self.classes)
        strongest, values = _strongest(maps, classes, (true.shape[0], true.shape[1]))
        scored = true != VOID
        levels = np.searchsorted(self._edges, strongest[scored], side="left")
        rows = levels * self.classes + true[scored]
        joint = _joint_histogram(rows, values[scored], self._counts[..., 0].size, self.classes)
        self._counts += joint.reshape(self._counts.shape)

    def gather(self) -> None:
        """Add what the other processes of the run have counted; all have to call this."""
        self._counts = summed(self._counts)

    def counts(self) -> Counts:
        """One confusion matrix per threshold, int64 [thresholds, classes, classes]."""
        below = np.cumsum(self._counts, axis=0)
        counts: Counts = below[-1] - below[:-1]
        counts[..., BACKGROUND] += below[:-1].sum(axis=-1)
        return counts

    def mean_ious(self) -> NDArray[np.float64]:
        """The mIoU at each threshold, float64 [thresholds]; NaN if no pixel was scored."""
        return np.array([_mean(iou_of(counts)) for counts in self.counts()])

    def best(self) -> tuple[float, float]:
        """The threshold with the highest mIoU, and that mIoU; of equal ones the lowest threshold.

        Raises:
            DataError: No pixel with ground truth has been counted.
        """
        if not self._counts.any():
            raise DataError(
                "ThresholdSweep.best: no pixel with ground truth was counted. "
                "Call update with images that have masks."
            )
        means = self.mean_ious()
        index = int(means.argmax())
        return self.thresholds[index], float(means[index])

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """The best threshold and its mIoU, and the IoU of each class at every threshold.

        ``stage=compare`` needs the curves to find the best threshold for a subset of the classes.

        Args:
            names: Class names, without the background.

        Raises:
            DataError: No pixel with ground truth has been counted.
        """
        threshold, best = self.best()
        ious = [iou_of(counts) for counts in self.counts()]
        curves = {
            name: [_or_none(iou[label]) for iou in ious]
            for label, name in enumerate(("background", *names))
        }
        thresholds = list(self.thresholds)
        return {"threshold": threshold, "mIoU": best, "thresholds": thresholds, "IoU": curves}


def _strongest(
    maps: NDArray[np.floating[Any]], classes: Sequence[int], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Value and label of the strongest map at every pixel of an image of ``size``."""
    if not len(classes):
        return np.zeros(size, np.float32), np.full(size, BACKGROUND, np.uint8)
    large = enlarge(np.asarray(maps, dtype=np.float32), size)
    winners = large.argmax(axis=0)
    values = np.array([index + 1 for index in classes], dtype=np.uint8)
    return large.max(axis=0), values[winners]


def _joint_histogram(rows: Labels, columns: Labels, height: int, width: int) -> Counts:
    flat = rows.ravel().astype(np.int64) * width + columns.ravel()
    return np.bincount(flat, minlength=height * width).reshape(height, width)


def iou_of(counts: Counts) -> NDArray[np.float64]:
    """IoU of each class, float64 [C], NaN where there is no pixel.

    Args:
        counts: Pixels, int64 [C, C]: rows ground truth, columns prediction.

    Example:
        >>> iou_of(np.array([[2, 1], [0, 1]])).round(2).tolist()
        [0.67, 0.5]
    """
    right = counts.diagonal()
    union = counts.sum(axis=1) + counts.sum(axis=0) - right
    iou = np.full(len(counts), np.nan)
    np.divide(right, union, out=iou, where=union > 0)
    return iou


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _share(part: np.int64, whole: np.int64) -> float:
    return float(part / whole) if whole else float("nan")


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _check_classes(owner: str, classes: int) -> None:
    if not 1 <= classes <= VOID:
        raise ConfigError(
            f"{owner}: classes is {classes}. "
            f"Pass the number of classes with background, from 1 to {VOID}."
        )


def _check_indices(indices: Sequence[int], classes: int) -> None:
    wrong = [index for index in indices if not 0 <= index < classes - 1]
    if wrong:
        raise DataError(
            f"scoring: class indices {wrong} do not exist among {classes} classes with background. "
            f"Pass indices from 0 to {classes - 2}."
        )


def _check_same_size(prediction: Labels, ground_truth: Labels) -> None:
    if prediction.shape != ground_truth.shape:
        raise DataError(
            f"ConfusionMatrix.update: prediction is {prediction.shape} but ground_truth is "
            f"{ground_truth.shape}. Pass two label images [H, W] of one size; resize the "
            "prediction's probabilities, not the ground truth."
        )


def _as_bytes(name: str, labels: Labels) -> NDArray[np.uint8]:
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"scoring: {name} is {labels.dtype} {labels.shape}. "
            "Pass integers [H, W]; take the argmax of probabilities first."
        )
    if labels.dtype == np.uint8 or not labels.size:
        return labels.astype(np.uint8, copy=False)
    if labels.min() < 0 or labels.max() >= _VALUES:
        raise DataError(
            f"scoring: {name} {labels.shape} has values from {labels.min()} to {labels.max()}. "
            f"Use 0 to {VOID - 1}, and {VOID} for void."
        )
    return labels.astype(np.uint8)


def _check_values(name: str, pixels: Counts, classes: int) -> None:
    """Refuse values that are not classes; ``pixels`` is a histogram of the 256 values."""
    wrong = classes + np.flatnonzero(pixels[classes:VOID])
    if wrong.size:
        listed = ", ".join(str(value) for value in wrong[:10])
        raise DataError(
            f"scoring: {name} has the value(s) {listed} at {pixels[wrong].sum()} pixels, but there "
            f"are {classes} classes with background. "
            f"Use 0 to {classes - 1}, and {VOID} for void; check the list of classes."
        )
