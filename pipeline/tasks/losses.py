"""Losses of the segmenter, over the pixels of the whole step that are not void.

``segmenter.loss`` names in ``_target_`` a callable of logits float [B, L, H, W] and labels int64
[B, H, W]; losses of segmentation-models-pytorch work too, with ``ignore_index=255``. In a run of
several processes those are taken of each process's images, and averaged.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.base.ranks import here, mean
from pipeline.data.catalogue import BACKGROUND, VOID

Loss = Callable[[Tensor, Tensor], Tensor]


class CrossEntropy(nn.Module):
    """Mean cross-entropy over the pixels that are not void; 0 if all of them are.

    Example:
        >>> logits, labels = torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 255]]])
        >>> CrossEntropy()(logits, labels)
        tensor(0.6931)
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits [B, L, H, W] and labels int64 [B, H, W]."""
        total = cross_entropy(logits, labels, ignore_index=VOID, reduction="sum")
        return total / of_step((labels != VOID).sum())


class BalancedCrossEntropy(nn.Module):
    """Half the mean over foreground pixels plus half the mean over background pixels.

    If a batch has no foreground or no background, that half is 0.

    References:
        Lee, Kim, Yoon, "Anti-Adversarially Manipulated Attributions for Weakly and Semi-Supervised
        Semantic Segmentation", CVPR 2021 (balanced cross-entropy for the final network).
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits [B, L, H, W] and labels int64 [B, H, W]."""
        pixels = cross_entropy(logits, labels, ignore_index=VOID, reduction="none")
        background = labels == BACKGROUND
        foreground = ~background & (labels != VOID)
        return (_mean_where(foreground, pixels) + _mean_where(background, pixels)) / 2


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    return torch.where(chosen, values, 0).sum() / of_step(chosen.sum())


def of_step(count: Tensor) -> Tensor:
    """What a sum over the share of a process is divided by to become a mean over the whole step.

    The mean count of the processes, since their gradients are averaged; at least one for all
    processes together.
    """
    return mean(count).clamp(min=1 / here().size)
