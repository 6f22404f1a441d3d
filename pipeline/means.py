"""Means of IoU over classes, and the words that say over which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_NAMED = 10  # classes left out of a mean that are named in a sentence

RULE = (
    "One confusion matrix over all images. Pixels whose ground truth is void (255) do not count; "
    "predicted void counts as background. A class that is predicted but absent from the ground "
    "truth counts as 0 in the mean; a class in neither is left out."
)


def miou(scores: Mapping[str, Any], chosen: Sequence[str]) -> float | None:
    """Mean IoU over the background and the chosen classes, or over all classes if none is chosen.

    Args:
        scores: The result of ``ConfusionMatrix.as_dict``.
        chosen: Class names without ``background``.

    Example:
        >>> scores = {"mIoU": 0.4, "IoU": {"background": 0.9, "cat": 0.5, "cow": 0.1}}
        >>> miou(scores, ["cat"]), miou(scores, [])
        (0.7, 0.4)
    """
    if chosen:
        return mean_over(scores, ["background", *chosen])
    value: float | None = scores["mIoU"]
    return value


def mean_over(scores: Mapping[str, Any], names: Iterable[str]) -> float | None:
    """Mean IoU of the given classes, without those whose IoU is undefined; None if all are.

    Args:
        scores: The result of ``ConfusionMatrix.as_dict``.
        names: Class names; ``background`` counts only if it is among them.

    Example:
        >>> mean_over({"IoU": {"cat": 0.5, "dog": 0.7, "cow": None}}, ["cat", "cow"])
        0.5
    """
    values = [scores["IoU"][name] for name in names]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def scope(scores: Mapping[str, Any], chosen: Sequence[str] = ()) -> str:
    """In words, which classes a mean is over.

    Args:
        scores: The result of ``ConfusionMatrix.as_dict``.
        chosen: As in ``miou``.

    Example:
        >>> scope({"IoU": {"background": 0.9, "cat": 0.5}})
        '2 classes'
        >>> scope({"IoU": {"background": 0.9, "cat": 0.5, "cow": None}})
        '2 of 3 classes; neither in the ground truth nor predicted: cow'
    """
    names = ["background", *chosen] if chosen else list(scores["IoU"])
    absent = [name for name in names if scores["IoU"][name] is None]
    if not absent:
        return f"{len(names)} {'class' if len(names) == 1 else 'classes'}"
    listed = ", ".join(absent[:_NAMED]) + (", ..." if len(absent) > _NAMED else "")
    return (
        f"{len(names) - len(absent)} of {len(names)} classes; "
        f"neither in the ground truth nor predicted: {listed}"
    )
