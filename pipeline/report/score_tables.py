"""Scores of one run as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.means import mean_over, scope
from pipeline.report.page import Block, Matrix, Text
from pipeline.report.tables import Cell, Column, Table, percent
from pipeline.scoring import iou_of

BACKGROUND_NAME = "background"

Scores = Mapping[str, Any]  # the result of ``ConfusionMatrix.as_dict``


def of_images(split: str, images: int | None) -> str:
    """The split and the number of images that a score is of.

    Example:
        >>> of_images("val", 100), of_images("val", None)
        ('100 images of val', 'val')
    """
    return split if images is None else f"{images} images of {split}"


def counted_in_words(scores: Scores) -> str:
    """How pixels that were predicted as void count in a score, and which classes it is over."""
    over = f"mean over {scope(scores)}"
    if scores.get("void") == "excluded":
        covered = percent(scores.get("coverage"))
        return f"predicted void excluded: {covered} % of pixels scored; {over}"
    return f"predicted void counts as {scores.get('void', 'background')}; {over}"


def iou_table(
    columns: Mapping[str, Scores], classes: Sequence[str], chosen: Sequence[str] | None
) -> Table:
    """The IoU of each class for everything that was scored, with the means.

    Args:
        columns: Scores by title; what follows a comma is small print.
        classes: Class names without background, in order.
        chosen: Classes whose mean, with background, is shown too.
    """
    names = [BACKGROUND_NAME, *classes]
    rows = [[name, *(s["IoU"].get(name) for s in columns.values())] for name in names]
    totals: list[list[str | float | Cell | None]] = [
        ["mean over the classes that occur", *(s["mIoU"] for s in columns.values())],
        ["number of these classes", *(_occurring(s) for s in columns.values())],
    ]
    if chosen:
        means = (mean_over(s, [BACKGROUND_NAME, *chosen]) for s in columns.values())
        totals.append([f"mean over background + {', '.join(chosen)}", *means])
    hint = (
        "IoU: intersection over union of prediction and ground truth, counted over all images "
        "together. A class that is predicted but absent from the ground truth counts as 0. "
        "A dash is a class that is in neither; it is left out of the means."
    )
    titles = (title.partition(", ") for title in columns)
    heads = [Column("class", "text"), *(Column(title, note=note) for title, _, note in titles)]
    return Table("IoU of each class", heads, rows, totals, hint, sortable=True)


def _occurring(scores: Scores) -> Cell:
    """The number of classes in the ground truth or the predictions."""
    return Cell(str(sum(value is not None for value in scores["IoU"].values())))


def average_precision_table(summary: Mapping[str, Any], classes: Sequence[str]) -> Table:
    """The classifier's average precision for each class, with the number of images."""
    counts = summary.get("images", {})
    rows = [[name, str(counts.get(name, "-")), summary["AP"].get(name)] for name in classes]
    hint = (
        "Average precision: how well images that show the class are ranked above the others. "
        "The mean is over the classes that occur."
    )
    split = summary.get("split", "val")
    columns = [Column("class", "text"), Column(f"images in {split} with it", "text"), Column("AP")]
    totals = [["mean", "", summary["mAP"]]]
    title = "Average precision of the classifier"
    return Table(title, columns, rows, totals, hint, sortable=True)


def data_table(contents: Mapping[str, Any], classes: Sequence[str]) -> Table:
    """Number of images of every split, in total and for each class."""
    roles = {"train": "learned from", "scored": "scored", "val": "held out"}
    there = [(contents[key], role) for key, role in roles.items() if contents[key]["images"]]
    splits = [split for split, _ in there]
    titles = [f"{split['name']} ({role})" for split, role in there]
    rows = [[name, *(str(s["images_per_class"].get(name, 0)) for s in splits)] for name in classes]
    totals = [
        ["all images", *(str(split["images"]) for split in splits)],
        ["with a ground-truth mask", *(str(split["with_mask"]) for split in splits)],
    ]
    return Table("", [Column(title, "text") for title in ("images", *titles)], rows, totals)


def confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> list[Block]:
    """A confusion matrix as shares of each true label, then precision and recall.

    Args:
        counts: Pixels [C, C]: rows ground truth, columns prediction.
        classes: Names without the background.
    """
    true, predicted, right = counts.sum(1), counts.sum(0), counts.diagonal()
    here = np.flatnonzero(true + predicted)
    names = [BACKGROUND_NAME, *classes]
    shares = counts[np.ix_(here, here)] / np.maximum(true[here], 1)[:, None]
    iou = iou_of(counts)
    rows = [
        [names[k], float(iou[k]), _ratio(right[k], predicted[k]), _ratio(right[k], true[k])]
        for k in here
    ]
    about = (
        "Rows are the ground truth, columns the prediction; each number is the share of the pixels "
        "of its row, in %. The diagonal is the recall."
    )
    hint = (
        "Precision: share of the pixels with this label in the prediction that have it in the "
        "ground truth. Recall: share of those in the ground truth that were found."
    )
    heads = [Column("class", "text"), Column("IoU"), Column("precision"), Column("recall")]
    table = Table("", heads, rows, hint=hint, sortable=True)
    return [Text(about), Matrix([names[k] for k in here], shares.tolist()), table]


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
