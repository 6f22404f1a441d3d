"""`tsgb score`: the IoU of any two folders of label images, outside of any run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError, at_most
from pipeline.base.terminal import Terminal, printable
from pipeline.data.class_names import read_classes
from pipeline.data.headers import MAX_MEGAPIXELS, check_size
from pipeline.data.ids import read_ids
from pipeline.data.palette import read_label_image
from pipeline.means import RULE, scope
from pipeline.scoring import ConfusionMatrix

SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")
_UNNAMED = 255  # classes with background that an 8-bit label image can hold
_BACKGROUND = "background"

Pairs = Mapping[str, tuple[Path, Path]]  # prediction and ground truth by id
Scores = dict[str, Any]


def main(wanted: argparse.Namespace, terminal: Terminal) -> None:
    """Score one folder against the other.

    Args:
        wanted: The words of the command.
        terminal: Where progress and summary are shown.

    Raises:
        PipelineError: They do not belong together; the message says why.
    """
    names = _names(wanted)
    pairs = matched(wanted.predictions, wanted.truth, wanted.ids)
    scores = score(pairs, names, terminal, wanted.megapixels)
    text = json.dumps(scores, indent=2) if wanted.json else as_text(scores)
    sys.stdout.write(f"{text}\n")


def _names(wanted: argparse.Namespace) -> tuple[str, ...]:
    """Class names without background; none if the values are to be their own names."""
    if wanted.names is not None:
        return read_classes(wanted.names)
    return () if wanted.classes is None else read_classes(wanted.classes.split(","))


def matched(predictions: Path, truth: Path, ids: Path | None = None) -> Pairs:
    """Prediction and ground truth of each image, by id: the path in its folder without suffix.

    Args:
        predictions: Folder of label images.
        truth: Folder of ground truth.
        ids: List of the images that are scored; None: all, and both folders must have the same.

    Raises:
        DataError: A folder has no label image or two for one id, or an image lacks one of the two.
    """
    predicted, true = _files(predictions), _files(truth)
    wanted = predicted.keys() | true.keys() if ids is None else set(read_ids(ids))
    problems = [f"{id_}: not in {predictions}" for id_ in sorted(wanted - predicted.keys())]
    problems += [f"{id_}: not in {truth}" for id_ in sorted(wanted - true.keys())]
    if problems:
        raise DataError(
            f"{len(problems)} of {len(wanted)} images lack their prediction or their ground "
            f"truth.\n{at_most(problems)}\nAdd the files, or score a part of the images with "
            "--ids FILE, a list with one id per line."
        )
    return {id_: (predicted[id_], true[id_]) for id_ in sorted(wanted)}


def _files(folder: Path) -> dict[str, Path]:
    """Label images of a folder by id."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give the folder of the label images.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        id_ = path.relative_to(folder).with_suffix("").as_posix()
        if id_ in found:
            raise DataError(
                f"{folder}: {found[id_].name} and {path.name} are label images of one id, {id_!r}. "
                "Keep one of them."
            )
        found[id_] = path
    if not found:
        raise DataError(
            f"{folder}: no label image ({', '.join(SUFFIXES)}). Export the label images as indexed "
            "PNG, without loss."
        )
    return found


def score(
    pairs: Pairs,
    names: Sequence[str],
    terminal: Terminal,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Scores:
    """The scores of many images as plain data; one image at a time is in memory.

    Args:
        pairs: Files by id.
        names: Class names without background; empty: each value is its own name.
        terminal: Where the progress is shown.
        max_megapixels: Larger files are refused before they are decoded.

    Raises:
        DataError: Some images cannot be scored; named after all were tried.
    """
    matrix, failures = ConfusionMatrix(len(names) + 1 if names else _UNNAMED), []
    with terminal.progress("scoring", len(pairs)) as step:
        for count, (id_, (prediction, truth)) in enumerate(pairs.items(), start=1):
            try:
                for path in (prediction, truth):
                    check_size(path, max_megapixels, "--megapixels N")
                matrix.update(read_label_image(prediction), read_label_image(truth))
            except DataError as error:
                failures.append(f"{id_}: {error}")
            step(count, len(pairs))
    if failures:
        raise DataError(
            f"{len(failures)} of {len(pairs)} images cannot be scored, so there is no score.\n"
            f"{at_most(failures)}"
        )
    return {**_named(matrix, names), "images": len(pairs), "rule": RULE}


def _named(matrix: ConfusionMatrix, names: Sequence[str]) -> Scores:
    """Scores with the names of the classes, or with values up to the highest that occurs."""
    if names:
        return matrix.as_dict(names)
    counts = matrix.counts
    highest = max((counts.sum(axis=0) + counts.sum(axis=1)).nonzero()[0], default=0)
    scores = matrix.as_dict([_BACKGROUND, *map(str, range(1, matrix.classes))])
    iou = dict(list(scores["IoU"].items())[: highest + 1])
    return {**scores, "IoU": iou, "left_out": [name for name in iou if iou[name] is None]}


def as_text(scores: Scores) -> str:
    """Scores as lines for people, in percent."""
    rows = [(printable(name), value) for name, value in scores["IoU"].items()]
    rows += [("mIoU", scores["mIoU"]), ("pixel accuracy", scores["pixel_accuracy"])]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {_percent(value):>6}" for name, value in rows]
    lines.insert(-2, "")
    coverage = scores["coverage"]
    void = "" if coverage in (1.0, None) else f"; {100 * (1 - coverage):.2f} % predicted void"
    about = f"{scores['images']} images, {scores['pixels']} pixels{void}"
    over = f"mIoU over {printable(scope(scores))}."
    return "\n".join(["IoU, %", *lines, "", over, f"{about}.", RULE])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
