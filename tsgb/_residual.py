"""Short cuts past residual additions, for relevance that is in proportion to activations.

What a residual addition hands back has one value a channel, the same to both sides, down to where
the stage began. A convolution, though, gives every channel of a location the same (times its sign).
Of that, each branch that was added has a part which does not depend on the class: with ``t_i`` what
the i-th branch has in the activation ``x``, ``x = sum_i t_i``, and the sums over channels

    relevance of branch i = relevance of x  *  sum_c sign(x_c) t_ic / sum_c |x_c|

So the result of an addition bears its *addends*: the ``t_i`` and where their relevance goes, which
is the port of a convolution; with groups of channels, the sums are over each of them. A ReLU sets
the same places of all addends to zero. One further addition, or ReLU, takes them over. Anything
else but a convolution (other activations, factors, pools) uses the tensor as it is, with the plain
gradients of its graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function

from tsgb._rules import group_sum, new_port, safe_ratio

_T = TypeVar("_T", bound=Tensor)

MOST = 8
"""Addends of one tensor. The work grows with their square over a stage, what it saves does not."""


@dataclass(frozen=True)
class Addend:
    """One of the branches that were added up in an activation.

    Attributes:
        entry: [B, groups, H, W], where its relevance goes, summed over the channels of each group
            of the convolution behind it.
        values: [B, C, H, W], its part of the activation, without a gradient.
        owned: ``values`` are nobody else's and may be overwritten, as fresh memory costs more than
            what is done with it. In the sum of a tensor and itself they belong to two addends;
            to set the same places to zero twice does no harm.
    """

    entry: Tensor
    values: Tensor
    owned: bool = False


class AddendsRule(Function):
    """Relevance of an activation, shared out in proportion to it, for each of its addends."""

    @staticmethod
    def forward(ctx: Any, fractions: Sequence[Tensor], *_entries: Tensor) -> Tensor:
        ctx.fractions = fractions
        return new_port(fractions[0], 1)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(relevance * fraction for fraction in ctx.fractions)


def addends_of(tensor: Tensor) -> Sequence[Addend]:
    """What was added up in ``tensor``; nothing unless relevance may go past the additions."""
    return getattr(tensor, "_tsgb_addends", ())


def with_addends(tensor: _T, addends: Sequence[Addend]) -> _T:
    """``tensor``, which bears ``addends`` from now on: its values are the sum of theirs."""
    tensor._tsgb_addends = addends  # type: ignore[attr-defined]
    return tensor


def masked(addends: Sequence[Addend], result: Tensor) -> list[Addend]:
    """What is left of ``addends`` in the ReLU of their sum; they are of no use after it."""
    return [_masked(addend, result.detach()) for addend in addends]


def _masked(addend: Addend, result: Tensor) -> Addend:
    values = addend.values if addend.owned else torch.empty_like(addend.values)
    torch.ops.aten.threshold_backward(addend.values, result, 0, grad_input=values)
    return Addend(addend.entry, values, owned=True)


def entry_past_additions(tensor: Tensor, *, positive: bool) -> Tensor | None:
    """Where a convolution sends the relevance of ``tensor``: [B, 1, H, W].

    None if it bears no addends, nor did when it was first asked for: what a convolution has used
    stays when an addition takes the addends over.

    Args:
        tensor: What the convolution is given.
        positive: Nothing of it is negative.
    """
    addends = addends_of(tensor)
    known: Tensor | None = getattr(tensor, "_tsgb_addends_entry", None)
    if known is None and addends:
        fractions = _fractions(addends, None if positive else tensor.detach().sign())
        known = AddendsRule.apply(fractions, *(addend.entry for addend in addends))
        tensor._tsgb_addends_entry = known  # type: ignore[attr-defined]
    return known


def _fractions(addends: Sequence[Addend], sign: Tensor | None) -> list[Tensor]:
    """Of the relevance of each location, the part of each group of channels of each addend."""
    sums = [
        group_sum(addend.values if sign is None else addend.values * sign, addend.entry.shape[1])
        for addend in addends
    ]
    inverse = safe_ratio(1.0, torch.cat(sums, dim=1).sum(1, keepdim=True))
    return [part * inverse for part in sums]
