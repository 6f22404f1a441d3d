"""``pydensecrf.utils``: unary energies from probabilities or labels, and features of arrays."""
# ruff: noqa: N803 - the names are those of pydensecrf

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import Floats
from pipeline.base.errors import PipelineError


class ArgumentError(PipelineError, ValueError):
    """An argument is wrong, which pydensecrf says with a ``ValueError``."""


def unary_from_softmax(
    sm: NDArray[Any], scale: float | None = None, clip: float | None = 1e-5
) -> Floats:
    """Negative log probabilities, float32 [labels, points].

    Args:
        sm: Probabilities, [labels, ...].
        scale: Confidence in the probabilities, in (0, 1]; the rest is spread evenly over the
            labels. None means 1.
        clip: Smallest probability; with None a probability of 0 has an infinite energy.
    """
    probabilities = np.asarray(sm)
    if scale is not None:
        probabilities = scale * probabilities + (1 - scale) / len(probabilities)
    if clip is not None:
        probabilities = np.clip(probabilities, clip, 1.0)
    with np.errstate(divide="ignore"):
        energies = -np.log(probabilities).reshape(len(probabilities), -1)
    return np.asarray(energies, dtype=np.float32)


def softmax_to_unary(sm: NDArray[Any], GT_PROB: float = 1) -> Floats:
    """An older name of :func:`unary_from_softmax`, without clipping.

    Args:
        sm: Probabilities, [labels, ...].
        GT_PROB: Confidence in the probabilities.
    """
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def unary_from_labels(
    labels: NDArray[Any], n_labels: int, gt_prob: float, zero_unsure: bool = True
) -> Floats:
    """Negative log probabilities of hard labels, float32 [n_labels, points].

    Args:
        labels: Integers of any shape.
        n_labels: Number of labels, >= 2, without the unsure one.
        gt_prob: Probability that a given label is right, in (0, 1).
        zero_unsure: If true, 0 means unsure and labels count from 1. Otherwise they count from 0.

    Raises:
        ArgumentError: ``n_labels``, ``gt_prob`` or a label is out of its range.
    """
    if n_labels < 2 or not 0 < gt_prob < 1:
        raise ArgumentError(
            f"unary_from_labels: n_labels is {n_labels} and gt_prob is {gt_prob}. "
            "Pass at least 2 labels and a probability in (0, 1)."
        )
    rows = np.asarray(labels).ravel().astype(np.int64) - bool(zero_unsure)
    unsure = rows < 0 if zero_unsure else np.zeros(rows.shape, dtype=bool)
    if rows.size and (rows.min() < -bool(zero_unsure) or rows.max() >= n_labels):
        raise ArgumentError(
            f"unary_from_labels: labels go from {np.min(labels)} to {np.max(labels)} but there are "
            f"{n_labels}, counted from {int(zero_unsure)}. "
            "Number the labels of this image without gaps."
        )
    energies = np.full((n_labels, rows.size), -np.log((1 - gt_prob) / (n_labels - 1)), np.float32)
    energies[rows, np.arange(rows.size)] = -np.log(gt_prob)
    energies[:, unsure] = np.log(n_labels)
    return energies


def compute_unary(labels: NDArray[Any], M: int, GT_PROB: float = 0.5) -> Floats:
    """An older name of :func:`unary_from_labels`, with 0 for unsure."""
    return unary_from_labels(labels, M, GT_PROB)


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> Floats:
    """Position features for ``addPairwiseEnergy``, float32 [dimensions, points].

    Args:
        sdims: Standard deviation along each axis, in the order of ``shape``.
        shape: Size of the data, of any number of axes.
    """
    axes = np.indices(tuple(shape), dtype=np.float32).reshape(len(shape), -1)
    return axes / deviations("sdims", sdims, len(shape))


def create_pairwise_bilateral(
    sdims: Sequence[float], schan: float | Sequence[float], img: NDArray[Any], chdim: int = -1
) -> Floats:
    """Position and value features for ``addPairwiseEnergy``, float32 [dimensions, points].

    Args:
        sdims: Standard deviation along each axis of the data.
        schan: Standard deviation of the values: one number, or one for each channel.
        img: Data of any number of axes.
        chdim: The channel axis of ``img``; -1 if there is none.
    """
    channels = np.asarray(img)[None] if chdim == -1 else np.moveaxis(np.asarray(img), chdim, 0)
    values = channels.reshape(len(channels), -1).astype(np.float32)
    features = values / deviations("schan", schan, len(channels))
    return np.concatenate([create_pairwise_gaussian(sdims, channels.shape[1:]), features])


def deviations(name: str, given: float | Sequence[float], count: int) -> Floats:
    """Standard deviations as a column, float32 [count, 1], from one number or ``count`` of them.

    Args:
        name: Name of the argument, for the error.
        given: One number > 0, or ``count`` of them.
        count: Number of axes.

    Raises:
        ArgumentError: The number of values is another one, or one of them is not positive.
    """
    column = np.array(given, dtype=np.float32).reshape(-1, 1)
    if len(column) not in (1, count) or not (np.isfinite(column) & (column > 0)).all():
        raise ArgumentError(f"{name} is {given}. Pass a number > 0, or {count} of them.")
    return np.broadcast_to(column, (count, 1))
