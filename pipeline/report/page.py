"""The report of a run as plain values, and as one self-contained HTML file.

This module only renders: the caller reads files and fills in a ``Page``. Missing parts (no ground
truth, a stage that did not run) stay empty, and the page says so.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.data.palette import colourise
from pipeline.means import mean_over, scope
from pipeline.report.rendering import render_html

TEMPLATE = "template.html"
BACKGROUND_NAME = "background"
_CURVE = (640, 180)  # width and height of a plot, px

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
        oracle: Whether the number was chosen with ground truth.
    """

    name: str
    value: float | None
    how: str
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
class Tile:
    """One small picture; ``source`` is a data URL."""

    caption: str
    source: str


@dataclass(frozen=True)
class Row:
    """All pictures of one image, and a note about it."""

    id: str
    classes: Sequence[str]
    score: float | None
    tiles: Sequence[Tile]
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images in groups, for example the worst and the best."""

    title: str
    hint: str
    groups: Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Curve:
    """A line as an SVG path, with the numbers for its axes."""

    title: str
    path: str
    width: int
    height: int
    highest: float
    last: float
    steps: int


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
    galleries: Sequence[Gallery] = ()
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
    return render_html(TEMPLATE, page, {"percent": percent}, tests)


def percent(share: float | None) -> str:
    """A share in percent with one decimal; a dash for None and NaN.

    Example:
        >>> percent(0.6321), percent(None), percent(float("nan"))
        ('63.2', '-', '-')
    """
    return f"{100 * share:.1f}" if share is not None and is_number(share) else "-"


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
        [Swatch(name='cat', colour='#800000'), Swatch(name='void', colour=None)]
    """
    values = np.arange(1, len(classes) + 1, dtype=np.uint8)[:, None]  # background keeps the image
    colours = (f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colourise(values)[:, 0])
    swatches = [Swatch(name, colour) for name, colour in zip(classes, colours, strict=True)]
    return [*swatches, Swatch("void", None)]


def loss_curve(title: str, points: Sequence[tuple[float, float]]) -> Curve | None:
    """A line through (step, loss), smoothed over a twentieth of the points; None if too few."""
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if len(points) < 2:
        return None
    steps = [x for x, _ in points]
    values = _smooth([y for _, y in points], max(len(points) // 20, 1))
    width, height = _CURVE
    highest = max(values) or 1.0
    span = max(steps[-1] - steps[0], 1e-9)
    corners = [
        f"{width * (x - steps[0]) / span:.1f},{height * (1 - y / highest):.1f}"
        for x, y in zip(steps, values, strict=True)
    ]
    path = "M" + " L".join(corners)
    return Curve(title, path, width, height, highest, values[-1], int(steps[-1]) + 1)


def _smooth(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and its predecessors within a window."""
    starts = (max(0, end - window) for end in range(1, len(values) + 1))
    ends = range(1, len(values) + 1)
    return [sum(values[a:b]) / (b - a) for a, b in zip(starts, ends, strict=True)]


def _share(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def worst_and_best(
    scores: Mapping[str, float], ends: int = 5, between: int = 3
) -> dict[str, list[str]]:
    """Ids of the worst images, of some evenly spaced in between, and of the best, by score.

    A small number of images forms a single group.

    Example:
        >>> worst_and_best({"a": 0.3, "b": 0.1, "c": 0.9, "d": 0.5}, ends=1, between=1)
        {'Worst': ['b'], 'Between': ['d'], 'Best': ['c']}
    """
    ordered = sorted(scores, key=lambda name: (scores[name], name))
    if len(ordered) <= 2 * ends + between:
        return {"All, worst first": ordered} if ordered else {}
    middle = ordered[ends : len(ordered) - ends]
    step = len(middle) / (between + 1)
    spaced = [middle[round(step * (index + 1))] for index in range(between)]
    return {"Worst": ordered[:ends], "Between": spaced, "Best": ordered[-ends:][::-1]}
