"""Signs that an image is worth a person's minutes. None of them looks at ground truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.base.arrays import Floats, LabelImage
from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.scoring import ConfusionMatrix

SIGNALS = {
    "network_vs_mask": "1 - mean IoU of the network's labels and the pseudo-mask, void left out",
    "network_vs_classifier": "largest difference, over the classes, of the classifier's "
    "probability and the network's at its surest pixel",
    "scales_and_mirror": "1 - mean IoU of the network's labels for the photo and for the mirrored "
    "and the smaller one",
    "named_not_found": "classes in the image label of which the network finds no pixel",
    "found_not_named": "share of the pixels that the network gives to classes that the image "
    "label does not name",
}
"""What is measured in each image, by the name of its column; more is worse."""

_STANDS_OUT = 0.75  # share of the images that have less of a signal
_NOTHING = "No single sign stands out"


@dataclass(frozen=True)
class Seen:
    """What network, classifier, image label and pseudo-mask say about an image.

    Attributes:
        named: Class indices of the image label.
        labels: Labels that the network gives.
        views: Pairs of the labels for the photo and for another view of it.
        sureness: The network's probability of each class at its surest pixel, [classes].
        believed: The classifier's probability of each class, [classes].
        mask: The pseudo-mask; None if the image has none.
    """

    named: tuple[int, ...]
    labels: LabelImage
    views: Sequence[tuple[LabelImage, LabelImage]]
    sureness: Floats
    believed: Floats
    mask: LabelImage | None = None

    @property
    def shares(self) -> list[float]:
        """Share of the pixels that the network gives each class."""
        counts = np.bincount(self.labels.ravel(), minlength=VOID + 1)[BACKGROUND + 1 :]
        return [round(int(n) / self.labels.size, 6) for n in counts[: len(self.believed)]]


def signals_of(seen: Seen) -> dict[str, float]:
    """The signals of an image by name; without a pseudo-mask, the one that needs it is left out.

    Example:
        >>> one, two = np.array([[0, 1]], np.uint8), np.array([[0, 2]], np.uint8)
        >>> sure = np.array([0.9, 0.0], np.float32)
        >>> seen = Seen((1,), one, [(one, one)], sure, np.array([0.9, 1.0], np.float32), two)
        >>> signals_of(seen)  # doctest: +NORMALIZE_WHITESPACE
        {'network_vs_mask': 0.6667, 'network_vs_classifier': 1.0, 'scales_and_mirror': 0.0,
         'named_not_found': 1.0, 'found_not_named': 0.5}
    """
    count, shares = len(seen.believed), seen.shares
    others = [share for k, share in enumerate(shares) if k not in seen.named]
    unlike = [_difference(labels, view, count) for labels, view in seen.views]
    found = {
        "network_vs_classifier": float(np.abs(seen.believed - seen.sureness).max()),
        "scales_and_mirror": sum(unlike) / len(unlike),
        "named_not_found": float(sum(not shares[k] for k in seen.named)),
        "found_not_named": sum(others),
    }
    if seen.mask is not None:
        found["network_vs_mask"] = _difference(seen.labels, seen.mask, count)
    return {name: round(found[name], 4) for name in SIGNALS if name in found}


def _difference(labels: LabelImage, reference: LabelImage, classes: int) -> float:
    """1 - mean IoU over the classes in either; 1 if the reference is void everywhere."""
    matrix = ConfusionMatrix(classes + 1)
    matrix.update(labels, reference)
    overlap = matrix.mean_iou()
    return 1.0 if math.isnan(overlap) else 1.0 - overlap


def shares_below(values: Sequence[float]) -> list[float]:
    """For each value the share of all that are smaller, equal ones counted half.

    Example:
        >>> shares_below([3.0, 1.0, 1.0, 9.0])
        [0.625, 0.25, 0.25, 0.875]
    """
    ordered = np.sort(values)
    sides = [np.searchsorted(ordered, values, side) for side in ("left", "right")]
    return [float(share) for share in (sides[0] + sides[1]) / 2 / max(len(ordered), 1)]


def standings(images: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """For each image and signal, the share of the images that have less of the signal.

    Args:
        images: Signals of each image by id.

    Example:
        >>> standings({"a": {"x": 1.0}, "b": {"x": 0.5, "y": 2.0}})
        {'a': {'x': 0.75}, 'b': {'x': 0.25, 'y': 0.5}}
    """
    found: dict[str, dict[str, float]] = {id_: {} for id_ in images}
    for name in {name: None for values in images.values() for name in values}:
        having = {id_: values[name] for id_, values in images.items() if name in values}
        for id_, share in zip(having, shares_below(list(having.values())), strict=True):
            found[id_][name] = share
    return found


def score_of(standing: Mapping[str, float]) -> float:
    """Rank of an image: the mean of its standings, in (0, 1); the greatest comes first."""
    return sum(standing.values()) / len(standing)


def reason(
    named: Sequence[int],
    classes: Sequence[str],
    seen: Mapping[str, Any],
    standing: Mapping[str, float],
) -> str:
    """In what an image stands out from the others, in words.

    Args:
        named: Class indices of the image label.
        classes: Names of all classes.
        seen: The ``signals`` of the image, and ``shares``, ``sureness`` and ``believed`` by class.
        standing: For each signal, the share of the images that have less of it.

    Example:
        >>> seen = {"signals": {"network_vs_mask": 0.6}, "shares": [0.0, 0.25]}
        >>> reason([0], ["cat", "dog"], seen, {"network_vs_mask": 0.9})
        'The label says cat; the network found none. Network and pseudo-mask overlap by 40 %'
    """
    missed = [classes[k] for k in named if not seen["shares"][k]]
    says = [f"The label says {', '.join(missed)}; the network found none"] if missed else []
    out = [name for name in _WORDS if standing.get(name, 0.0) >= _STANDS_OUT]
    says += [_WORDS[name](named, classes, seen) for name in out]
    return ". ".join(filter(None, says)) or _NOTHING


def _unnamed(named: Sequence[int], classes: Sequence[str], seen: Mapping[str, Any]) -> str:
    found = [
        f"{classes[k]} on {_percent(share)} of the pixels"
        for k, share in enumerate(seen["shares"])
        if share and k not in named
    ]
    what = "it" if len(found) == 1 else "them"
    text = f"The network found {', '.join(found)}; the label does not name {what}"
    return text if found else ""


def _beliefs(_named: Sequence[int], classes: Sequence[str], seen: Mapping[str, Any]) -> str:
    believed, sureness = seen["believed"], seen["sureness"]
    k = max(range(len(classes)), key=lambda k: abs(believed[k] - sureness[k]))
    return (
        f"{classes[k]}: the classifier is {_percent(believed[k])} sure, the network at its surest "
        f"pixel {_percent(sureness[k])}"
    )


def _overlap(_named: Sequence[int], _classes: Sequence[str], seen: Mapping[str, Any]) -> str:
    return f"Network and pseudo-mask overlap by {_overlapping(seen, 'network_vs_mask')}"


def _views(_named: Sequence[int], _classes: Sequence[str], seen: Mapping[str, Any]) -> str:
    overlap = _overlapping(seen, "scales_and_mirror")
    return f"Mirrored or smaller, the photo gets other labels: they overlap by {overlap}"


def _overlapping(seen: Mapping[str, Any], name: str) -> str:
    return _percent(1 - seen["signals"][name])


def _percent(share: float) -> str:
    return "less than 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


_WORDS: dict[str, Callable[[Sequence[int], Sequence[str], Mapping[str, Any]], str]] = {
    "found_not_named": _unnamed,
    "network_vs_classifier": _beliefs,
    "network_vs_mask": _overlap,
    "scales_and_mirror": _views,
}
