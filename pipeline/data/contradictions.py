"""Masks against image labels: masks that are read with wrong classes contradict the labels.

Single images contradict in every real data set: a small object is missing in a mask or in the
labels. So a contradiction counts as a wrong reading only if it is systematic, by three rules:

1. Most masks of labelled images, and at least two, hold void and no class at all. (In VOC too
   outlines are void, but around something.)
2. Values exchanged for one another explain at least two images, and more than three times as many
   as they do now, where an image counts that agrees with its labels under one reading only. Errors
   of labels cannot do this: to agree with a wrong reading, an image must be wrong in two labels.
3. Five images or more have a class in the mask or in the labels, and none in both. If a third of
   the labels of a class were missing, this would happen once in 3 ** 5 = 243 classes.

Rule 3 is for ground truth. Predictions of a weak network may miss a class everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.catalogue import BACKGROUND, VOID

_IMAGES_MIN = 2  # of rules 1 and 2: one image may be an accident
_TIMES = 3  # of rule 2
_ENOUGH = 5  # images of rule 3
_EXAMPLES = 3
GROUND_TRUTH = "data.masks"  # which data.object_value is about


@dataclass(frozen=True)
class Shown:
    """What one image shows.

    Attributes:
        id: The image.
        labels: Class indices that its labels name.
        values: Values in its mask.
    """

    id: str
    labels: tuple[int, ...]
    values: tuple[int, ...]

    @property
    def masked(self) -> set[int]:
        """Class indices whose values are in the mask."""
        return {value - 1 for value in self.values if value not in (BACKGROUND, VOID)}


def contradiction(
    images: Iterable[Shown],
    classes: Sequence[str],
    *,
    truth: bool = True,
    setting: str = GROUND_TRUTH,
) -> str | None:
    """Why the masks of these images are read wrongly, with both readings; None if they are not.

    Args:
        images: Images with label images whose values are classes or void.
        classes: Class names in the order of the mask values.
        truth: Whether the masks are ground truth, in which every class must be found.
        setting: Where they come from, for the remedy.

    Example:
        >>> swapped = [Shown("a", (0,), (0, 2)), Shown("b", (1,), (0, 1))]
        >>> contradiction(swapped, ["disc", "square"])[:75]
        'the masks contradict the image labels: 2 of 2 images agree with their label'
    """
    images = list(images)
    if not any(image.labels for image in images):
        return None  # nothing to compare with: a test split has no labels
    object_value = truth and setting == GROUND_TRUTH
    rules = [
        _only_void(images, classes, object_value=object_value),
        _exchanged(images, classes),
    ]
    if truth:
        rules.append(_never_both(images, classes, setting))
    return next(filter(None, rules), None)


def deviations(images: Iterable[Shown], classes: Sequence[str]) -> str | None:
    """A sentence about single images whose mask shows other classes than the labels name."""
    images = list(images)
    differing = [image for image in images if image.masked != set(image.labels)]
    if not differing or not any(image.labels for image in images):
        return None
    examples = ", ".join(
        f"{image.id} (mask: {_names(image.masked, classes)}; labels: "
        f"{_names(image.labels, classes)})"
        for image in differing[:_EXAMPLES]
    )
    return (
        f"the masks of {len(differing)} of {len(images)} images show other classes than their "
        f"labels, for example {examples}"
    )


def _only_void(
    images: Sequence[Shown], classes: Sequence[str], *, object_value: bool
) -> str | None:
    labelled = [image for image in images if image.labels]
    void = [image for image in labelled if not image.masked and VOID in image.values]
    if len(void) < _IMAGES_MIN or 2 * len(void) <= len(labelled):
        return None
    remedy = f"Masks of object or not do not say which of the {len(classes)} classes it is."
    if len(classes) == 1:
        setting = f"set data.object_value={VOID}" if object_value else "write 1 for it"
        remedy = f"If {VOID} is the object, {setting}."
    return (
        f"the masks of {len(void)} of {len(labelled)} labelled images hold no class, only 0 and "
        f"{VOID}, which means void: pixels that are neither learned nor scored. The labels say "
        f"that a class is there. {remedy} In masks, class k of the list has the value k, from 1."
    )


def _exchanged(images: Sequence[Shown], classes: Sequence[str]) -> str | None:
    masked = _table([image.masked for image in images], classes)
    named = _table([image.labels for image in images], classes)
    right = _best_classes(masked, named)
    for cycle in _cycles(right):
        now = (masked[:, cycle] == named[:, cycle]).all(1)
        then = (masked[:, cycle] == named[:, right[cycle]]).all(1)
        only_then, only_now = int((then & ~now).sum()), int((now & ~then).sum())
        if only_then >= _IMAGES_MIN and only_then > _TIMES * only_now:
            return _both_readings(cycle, right, classes, (only_then, only_now, len(images)))
    return None


def _both_readings(
    cycle: list[int], right: NDArray[np.intp], classes: Sequence[str], counts: tuple[int, int, int]
) -> str:
    only_then, only_now, total = counts
    other = ", ".join(f"value {k + 1} is {classes[right[k]]!r}" for k in cycle)
    now = ", ".join(f"value {k + 1} is {classes[k]!r}" for k in cycle)
    order = ",".join(classes[k] for k in right)
    return (
        f"the masks contradict the image labels: {only_then} of {total} images agree with their "
        f"labels only if {other}, and {only_now} only as they are read now: {now}. Give the "
        f"classes in the order of the values, data.classes=[{order}], or correct the masks."
    )


def _best_classes(masked: NDArray[np.bool_], named: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The class of each value with which masks and labels differ least; itself if that ties."""
    from scipy.optimize import linear_sum_assignment  # half a second, for masks beside labels only

    a, b = masked.astype(np.int64), named.astype(np.int64)
    differing = a.sum(0)[:, None] + b.sum(0) - 2 * a.T @ b
    _, classes = linear_sum_assignment(differing * (len(differing) + 1) - np.eye(len(differing)))
    return np.asarray(classes)


def _cycles(assigned: NDArray[np.intp]) -> list[list[int]]:
    """The values that are exchanged among one another, without those that stay."""
    left, cycles = {k for k, to in enumerate(assigned) if k != to}, []
    while left:
        cycle = [min(left)]
        while assigned[cycle[-1]] != cycle[0]:
            cycle.append(int(assigned[cycle[-1]]))
        left -= set(cycle)
        cycles.append(sorted(cycle))
    return cycles


def _never_both(images: Sequence[Shown], classes: Sequence[str], setting: str) -> str | None:
    for k, name in enumerate(classes):
        masked = sum(k in image.masked for image in images)
        named = sum(k in image.labels for image in images)
        both = any(k in image.masked and k in image.labels for image in images)
        if masked + named >= _ENOUGH and not both:
            return (
                f"the labels name {name!r} in {named} of {len(images)} images, and the masks show "
                f"its value {k + 1} in {masked}, but never both in one image. Correct the masks or "
                "the labels, give the classes in the order of the values (data.classes=[...]), or "
                f"leave the masks out ({setting}=null)."
            )
    return None


def _table(sets: Sequence[Iterable[int]], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Which image (row) has which class (column)."""
    table = np.zeros((len(sets), len(classes)), dtype=np.bool_)
    for row, members in zip(table, sets, strict=True):
        row[list(members)] = True
    return table


def _names(indices: Iterable[int], classes: Sequence[str]) -> str:
    return ", ".join(classes[k] for k in sorted(indices)) or "none"
