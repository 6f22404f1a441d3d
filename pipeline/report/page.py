"""The report of a run as plain values, and as one self-contained HTML file.

This module only renders: the caller reads files and fills in a ``Page``. Missing parts (no ground
truth, a stage that did not run) stay empty, and the page says so.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.means import mean_over, scope
from pipeline.report.charts import Curve
from pipeline.report.gallery import Gallery
from pipeline.report.pictures import class_colours
from pipeline.report.rendering import render_html
from pipeline.scoring import iou_of

TEMPLATE = "template.html"
BACKGROUND_NAME = "background"

Scores = Mapping[str, Any]  # the result of ``ConfusionMatrix.as_dict``


@dataclass(frozen=True)
class Headline:
    """A large number at the top; ``note`` says how it was made."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class ScoreStep:
    """The mIoU after one step of the pipeline.

    Attributes:
        name: What was scored.
        value: mIoU in [0, 1].
        how: Split, scales, flip, refinement and how predicted void counts.
        short: Split and number of images.
        oracle: Whether the number was chosen with ground truth.
    """

    name: str
    value: float | None
    how: str
    short: str = ""
    oracle: bool = False


@dataclass(frozen=True)
class Table:
    """A table. Cells are text, or shares in [0, 1] that are drawn as bars, or None for a dash."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    totals: Sequence[Sequence[str | float | None]] = ()
    hint: str = ""


@dataclass(frozen=True)
class Confusion:
    """Which class is taken for which, in the pixels of all images of a split.

    Attributes:
        title: What predicted, on which images.
        names: The labels, the background first; those that occur.
        shares: Share of the pixels of each true label (rows) that each label (columns) got.
        table: Intersection over union, precision and recall of each label.
    """

    title: str
    names: Sequence[str]
    shares: Sequence[Sequence[float]]
    table: Table


@dataclass(frozen=True)
class Histogram:
    """Number of images in each tenth of the mIoU of one image."""

    title: str
    counts: Sequence[int]


@dataclass(frozen=True)
class Swatch:
    """A class and its colour; None is the colour of void."""

    name: str
    colour: str | None


@dataclass(frozen=True)
class StageState:
    """The state of a stage, and the command that completes it."""

    name: str
    state: str
    time: str = ""
    share: float = 0.0  # of the time of all stages
    folder: str = ""
    code: str = ""  # revision of the code
    remedy: str = ""


@dataclass(frozen=True)
class Page:
    """The content of the page."""

    title: str
    folder: str
    created: str
    headlines: Sequence[Headline] = ()
    steps: Sequence[ScoreStep] = ()
    stages: Sequence[StageState] = ()
    data: Table | None = None
    tables: Sequence[Table] = ()
    gallery: Gallery | None = None
    confusions: Sequence[Confusion] = ()
    histograms: Sequence[Histogram] = ()
    commands: Mapping[str, str] = field(default_factory=dict)  # what to do next, ready to paste
    places: Mapping[str, str] = field(default_factory=dict)  # paths of results, by name
    changed: Mapping[str, str] = field(default_factory=dict)  # settings that are no defaults
    legend: Sequence[Swatch] = ()
    known: Sequence[tuple[str, str]] = ()  # without ground truth, by name
    curves: Sequence[Curve] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    has_ground_truth: bool = True


def render(page: Page) -> str:
    """The page as HTML; every text in it is escaped."""
    tests = {"share": lambda cell: isinstance(cell, float) and not math.isnan(cell)}
    filters: dict[str, Callable[..., Any]] = {"percent": percent, "images": _for_script}
    return render_html(TEMPLATE, page, filters, tests)


def _for_script(gallery: Gallery, legend: Sequence[Swatch]) -> dict[str, Any]:
    """What the script of the gallery reads."""
    images = [asdict(image) for image in gallery.images]
    colours = {swatch.name: swatch.colour for swatch in legend}
    return {"images": images, "order": gallery.order, "colours": colours}


def percent(share: float | None) -> str:
    """A share in percent with one decimal; a dash for None and NaN.

    Example:
        >>> percent(0.6321), percent(None), percent(float("nan"))
        ('63.2', '-', '-')
    """
    return f"{100 * share:.1f}" if share is not None and is_number(share) else "-"


def of_images(split: str, images: int | None) -> str:
    """The split and the number of images that a score is of.

    Example:
        >>> of_images("val", 100), of_images("val", None)
        ('100 images of val', 'val')
    """
    return split if images is None else f"{images} images of {split}"


def duration(seconds: float) -> str:
    """A time in seconds as short text.

    Example:
        >>> duration(4.2), duration(192), duration(7500)
        ('4.2 s', '3 min 12 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def data_address(content: bytes, kind: str) -> str:
    """A file as a data URL.

    Example:
        >>> data_address(b"abc", "image/png")
        'data:image/png;base64,YWJj'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; undefined scores are None or NaN."""
    return isinstance(value, int | float) and math.isfinite(value)


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
        columns: Scores by title.
        classes: Class names without background, in order.
        chosen: Classes whose mean, with background, is shown too.
    """
    names = [BACKGROUND_NAME, *classes]
    rows = [[name, *(_share(s["IoU"].get(name)) for s in columns.values())] for name in names]
    totals: list[list[str | float | None]] = [
        ["mean over the classes that occur", *(_share(s["mIoU"]) for s in columns.values())],
        ["number of these classes", *(_occurring(s) for s in columns.values())],
    ]
    if chosen:
        title = f"mean over background + {', '.join(chosen)}"
        means = (mean_over(s, [BACKGROUND_NAME, *chosen]) for s in columns.values())
        totals.append([title, *means])
    hint = (
        "IoU: intersection over union of prediction and ground truth, counted over all images "
        "together. A class that is predicted but absent from the ground truth counts as 0. "
        "A dash is a class that is in neither; it is left out of the means."
    )
    return Table("IoU of each class, %", ["class", *columns], rows, totals, hint)


def _occurring(scores: Scores) -> str:
    """The number of classes in the ground truth or the predictions."""
    return str(sum(value is not None for value in scores["IoU"].values()))


def average_precision_table(summary: Mapping[str, Any], classes: Sequence[str]) -> Table:
    """The classifier's average precision for each class, with the number of images."""
    counts = summary.get("images", {})
    rows = [[name, str(counts.get(name, "-")), _share(summary["AP"].get(name))] for name in classes]
    hint = (
        "Average precision: how well images that show the class are ranked above the others. "
        "The mean is over the classes that occur."
    )
    split = summary.get("split", "val")
    columns = ["class", f"images in {split} with it", "AP"]
    totals = [["mean", "", _share(summary["mAP"])]]
    return Table("Average precision of the classifier, %", columns, rows, totals, hint)


def data_table(contents: Mapping[str, Any], classes: Sequence[str]) -> Table:
    """Number of images of every split, in total and for each class."""
    splits = [contents[role] for role in ("train", "scored", "val") if contents[role]["images"]]
    titles = dict(zip(("train", "scored", "val"), ("learned from", "scored", "held out"),
                      strict=True))  # fmt: skip
    roles = [titles[role] for role in titles if contents[role]["images"]]
    columns = ["images", *(f"{s['name']} ({r})" for s, r in zip(splits, roles, strict=True))]
    rows = [
        [name, *(str(split["images_per_class"].get(name, 0)) for split in splits)]
        for name in classes
    ]
    totals = [
        ["all images", *(str(split["images"]) for split in splits)],
        ["with a ground-truth mask", *(str(split["with_mask"]) for split in splits)],
    ]
    return Table("Data", columns, rows, totals)


def legend(classes: Sequence[str]) -> list[Swatch]:
    """The classes with their colours in label images, then void.

    Example:
        >>> legend(["cat"])
        [Swatch(name='cat', colour='#e69f00'), Swatch(name='void', colour=None)]
    """
    colours = (
        f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in class_colours(len(classes))
    )
    swatches = [Swatch(name, colour) for name, colour in zip(classes, colours, strict=True)]
    return [*swatches, Swatch("void", None)]


def _share(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def confusion(title: str, counts: NDArray[np.int64], classes: Sequence[str]) -> Confusion:
    """A confusion matrix as shares of each true label, with precision and recall.

    Args:
        title: What predicted, on which images.
        counts: Pixels [C, C]: rows ground truth, columns prediction.
        classes: Names without the background.
    """
    true, predicted, right = counts.sum(1), counts.sum(0), counts.diagonal()
    here = np.flatnonzero(true + predicted)
    names = [BACKGROUND_NAME, *classes]
    shares = counts[np.ix_(here, here)] / np.maximum(true[here], 1)[:, None]
    iou = iou_of(counts)
    rows = [
        [names[k], _share(iou[k]), _ratio(right[k], predicted[k]), _ratio(right[k], true[k])]
        for k in here
    ]
    hint = (
        "Precision: share of the pixels with this label in the prediction that have it in the "
        "ground truth. Recall: share of those in the ground truth that were found."
    )
    table = Table("", ["class", "IoU", "precision", "recall"], rows, hint=hint)
    return Confusion(title, [names[k] for k in here], shares.tolist(), table)


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
