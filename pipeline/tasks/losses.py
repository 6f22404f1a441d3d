"""What label images teach: losses over the pixels of a batch that are not void."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.errors import ConfigError

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits [B, L, H, W] and labels [B, H, W] to one number; 0 where all pixels are void."""

_EXPONENT = 0.7  # of the generalised cross-entropy, as in its paper


def build_loss(name: str, hard_share: float) -> Loss:
    """The loss of a name.

    Args:
        name: ``cross_entropy``, ``balanced``, ``bootstrapped`` or ``generalised``.
        hard_share: Of the pixels, for ``bootstrapped``.

    Raises:
        ConfigError: Another name, or a share that is not in (0, 1].
    """
    losses: dict[str, Loss] = {
        "cross_entropy": cross_entropy,
        "balanced": balanced_cross_entropy,
        "bootstrapped": partial(bootstrapped_cross_entropy, share=hard_share),
        "generalised": generalised_cross_entropy,
    }
    if name not in losses:
        raise ConfigError(
            f"segmenter.loss: {name!r} is unknown. There would be nothing to learn from. "
            f"Choose one of {', '.join(losses)}."
        )
    if not 0 < hard_share <= 1:
        raise ConfigError(
            f"segmenter.hard_share: {hard_share}. It is the share of the pixels that teach. "
            "Choose a number above 0, at most 1."
        )
    return losses[name]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that are not void.

    Example:
        >>> logits, labels = torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 255]]])
        >>> cross_entropy(logits, labels)
        tensor(0.6931)
    """
    total = functional.cross_entropy(logits, labels.long(), ignore_index=VOID, reduction="sum")
    return total / (labels != VOID).sum().clamp(min=1)  # a batch may be nothing but void


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Half the mean over foreground pixels plus half the mean over background pixels.

    A batch without the one or the other has only its half of the sum.

    References:
        Lee, Kim, Yoon, "Anti-Adversarially Manipulated Attributions for Weakly and Semi-Supervised
        Semantic Segmentation", CVPR 2021 (balanced cross-entropy for the final network).
    """
    pixels = _by_pixel(logits, labels)
    background = labels == BACKGROUND
    foreground = ~background & (labels != VOID)
    return (_mean_where(foreground, pixels) + _mean_where(background, pixels)) / 2


def bootstrapped_cross_entropy(logits: Tensor, labels: Tensor, *, share: float) -> Tensor:
    """Mean over the pixels with the greatest loss: ``share`` of those that are not void.

    What is wrong in a label image is hard too, so this trusts the labels more than the mean does.

    References:
        Wu, Shen, van den Hengel, "Bridging Category-level and Instance-level Semantic Image
        Segmentation", arXiv 1605.06885, section 3.1 (online bootstrapping).
    """
    pixels = _by_pixel(logits, labels)[labels != VOID]
    count = math.ceil(share * len(pixels))
    return pixels.topk(count).values.sum() / max(count, 1)


def generalised_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``(1 - p^q) / q`` with p the probability of the label and q = 0.7.

    Its gradient is that of the cross-entropy times ``p^q``: each pixel is weighted by how far the
    network agrees with its label, so that wrong labels teach little.

    References:
        Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with
        Noisy Labels", NeurIPS 2018, equation 6.
    """
    agreement = (-_EXPONENT * _by_pixel(logits, labels)).exp()
    return _mean_where(labels != VOID, (1 - agreement) / _EXPONENT)


def _by_pixel(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every pixel [B, H, W], 0 where it is void."""
    return functional.cross_entropy(logits, labels.long(), ignore_index=VOID, reduction="none")


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp(min=1)
