"""Small pieces of arithmetic that several rules share."""

from collections.abc import Callable

import torch
from torch import Tensor


def safe_ratio(numerator: Tensor | float, denominator: Tensor) -> Tensor:
    """``numerator / denominator``, and 0 where the denominator is 0.

    Bounded by the largest float to the power 3/4, so that multiplying it by a gradient stays
    finite: only below ``|denominator| ~ 1e-28 * |numerator|`` (float32) is anything cut.
    """
    ratio = (numerator / denominator).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    bound = torch.finfo(ratio.dtype).max ** 0.75
    return ratio.clamp_(-bound, bound)


def plain_gradient(function: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> Tensor:
    """The ordinary gradient of ``function`` at ``x`` for ``g`` at its output."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(function(leaf), leaf, g)[0]


def group_sum(x: Tensor, groups: int) -> Tensor:
    """Sum over the channels of each group: [B, C, H, W] -> [B, groups, H, W]."""
    if groups == 1:
        return x.sum(1, keepdim=True)
    if groups == x.shape[1]:
        return x
    return torch.unflatten(x, 1, (groups, -1)).sum(2)


def to_channels(x: Tensor, channels: int) -> Tensor:
    """One map a group -> something that broadcasts over ``channels`` channels."""
    if x.shape[1] in (1, channels):
        return x
    return x.repeat_interleave(channels // x.shape[1], dim=1)


def broadcast(x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The two, expanded to the shape that an elementwise operation on them has."""
    x, other = torch.broadcast_tensors(x, other)
    return x, other
