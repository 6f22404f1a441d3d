"""Unaries of a CRF: negative log probabilities of each pixel by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import Floats
from pipeline.base.errors import ConfigError, DataError


def unary_from_probabilities(probabilities: Floats, floor: float = 1e-5) -> Floats:
    """Negative log probabilities, clipped from below at ``floor``.

    Args:
        probabilities: Any shape, values in [0, 1].
        floor: Smallest probability, in (0, 1); a probability of zero would exclude its label.

    Returns:
        float32, the same shape, in [0, -log(floor)].

    Raises:
        DataError: A probability is NaN or outside [0, 1].

    Example:
        >>> unary_from_probabilities(np.array([1.0, 0.0], dtype=np.float32)).round(2) + 0.0
        array([ 0.  , 11.51], dtype=float32)
    """
    if not (np.all(probabilities >= 0) and np.all(probabilities <= 1 + 1e-5)):
        raise DataError(
            f"unary_from_probabilities: probabilities {probabilities.shape} has values that are "
            "NaN or outside [0, 1]. "
            "Normalise first, for example with pipeline.masks.seed.with_background."
        )
    energies: Floats = -np.log(np.clip(probabilities, floor, 1.0, dtype=np.float32))
    return energies


def unary_from_labels(
    labels: NDArray[np.integer[Any]], n_labels: int, gt_prob: float, void: int | None = None
) -> Floats:
    """Negative log probabilities of hard labels that are right with probability ``gt_prob``.

    The other labels share the rest; at void pixels all labels are equally probable.

    Args:
        labels: Integers [H, W] in [0, n_labels), or ``void``.
        n_labels: Number of labels, >= 2.
        gt_prob: Probability that a label is right, in (0, 1).
        void: Value of pixels without a label; None if there are none.

    Returns:
        float32 [n_labels, H, W].

    Raises:
        ConfigError: ``n_labels`` or ``gt_prob`` is out of its range.
        DataError: A label is out of its range.

    Example:
        >>> np.exp(-unary_from_labels(np.array([[1, 9]]), 2, 0.7, void=9))[:, 0].round(2)
        array([[0.3, 0.5],
               [0.7, 0.5]], dtype=float32)
    """
    if n_labels < 2 or not 0 < gt_prob < 1:
        raise ConfigError(
            f"unary_from_labels: n_labels is {n_labels} and gt_prob {gt_prob}. "
            "Pass at least 2 labels and a probability in (0, 1)."
        )
    unknown = np.zeros(labels.shape, dtype=bool) if void is None else labels == void
    strange = np.unique(labels[~unknown & ((labels < 0) | (labels >= n_labels))])
    if len(strange):
        raise DataError(
            f"unary_from_labels: labels {labels.shape} contains {strange[:5].tolist()}, outside "
            f"0 to {n_labels - 1}. Pass this value as void, or renumber the labels."
        )
    is_label = np.arange(n_labels).reshape(-1, *(1,) * labels.ndim) == labels
    unary = np.where(is_label, -math.log(gt_prob), -math.log((1 - gt_prob) / (n_labels - 1)))
    return np.where(unknown, math.log(n_labels), unary).astype(np.float32)
