"""TSGB-Conv, the backward rule of convolutions, and what it becomes if one is the classifier."""

from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.autograd import Function
from torch.nn import functional

from tsgb._box import (
    Window,
    box_spread,
    box_sum,
    correlate,
    correlate_back,
    window_elements,
)
from tsgb._operations import pair
from tsgb._rules import balanced_gradient, group_sum, new_port, safe_ratio, to_channels


class ConvRule(Function):
    """TSGB-Conv: relevance is shared among a window's inputs in proportion to ``|x|``.

    Per group of channels, with ``s = sum_c |x_c|``, ``z`` the window sums of ``s`` and ``r`` the
    relevance ``sum_o g_o * y_o`` of the outputs (``y`` includes the bias): ``u`` is the transposed
    window sum of ``r / z`` and ``g_x = sign(x) * u``. Weights do not appear. The published
    ``eps = 1e-10`` under the fraction is left out; a window of zeros gives 0 instead.

    ``r`` arrives at the port that is left beside the output. It leaves through the port of ``x``
    where there is one, as the sum of ``|x_c| * u`` over the channels of each of that port's groups.
    It is shared inside each of ``shared_groups`` groups of channels, which are the convolution's
    own ``groups`` or 1. Of the input just ``s`` is kept, unless its signs are needed, so that most
    activations of a network can be freed during the forward pass.

    If the layer is the classifier, :func:`tsgb._rules.balanced_gradient` applies at each location
    of the output; see :class:`tsgb._rules.OpenRule`. A 1 x 1 convolution is ``ready`` for that,
    unless its port divides relevance by size; another has to be asked for, by the ``head_shape`` of
    its weight.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        port: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        window: Window,
        groups: int,
        shared_groups: int,
        rectified: bool,
        ready: bool,
    ) -> tuple[Tensor, Tensor]:
        y = functional.conv2d(
            x, weight, bias, window.stride, window.padding, window.dilation, groups
        )
        ctx.can_be_head, ctx.head_kappa = groups == 1, None
        ctx.head_shape = None if ready else weight.shape
        signs = x if port is None and not rectified else None
        ctx.save_for_backward(signs, weight if ctx.can_be_head else None)
        ctx.set_materialize_grads(False)
        ctx.window, ctx.groups, ctx.size = window, shared_groups, x.shape
        ctx.port_groups = None if port is None else port.shape[1]
        fine = _common_groups(shared_groups, ctx.port_groups or 1, x.shape[1])
        ctx.absolute = group_sum(x if rectified else x.abs(), fine)
        ctx.inverse = None
        return y, new_port(y, shared_groups)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, relevance: Tensor | None) -> tuple[Any, ...]:
        answer: tuple[Tensor | None, Tensor | None] = (None, None)
        if g is not None:
            answer = _convolutional_head(ctx, g)
        elif relevance is not None:
            answer = _share_out(ctx, relevance)
        return *answer, None, None, None, None, None, None, None


class PassageRule(Function):
    """A grouped convolution between two ungrouped ones, for relevance summed over all channels.

    Of the relevance of a location after it, each group has a part in proportion to ``t``, the
    group's sum of ``|x|`` at the input of the next convolution, and each element of the window a
    part of that in proportion to ``s``, the sum before it, of which ``z`` is in the window: the
    *rates* ``t_G / z_G`` times ``s_G / sum(t)``. Summed over the groups that makes one number for
    each element, the same for all classes. These numbers are worked out for several classes, or in
    the second sweep; one class alone is cheaper without.
    """

    @staticmethod
    def forward(ctx: Any, _entry: Tensor, before: Tensor, after: Tensor, window: Window) -> Tensor:
        ctx.before, ctx.after, ctx.window, ctx.size = before, after, window, before.shape[-2:]
        ctx.rates = ctx.parts = ctx.inverse = None
        return new_port(after, 1)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None, None]:
        first = ctx.rates is None
        if first:
            ctx.inverse = safe_ratio(1.0, group_sum(ctx.after, 1))
            ctx.rates, ctx.after = _rates(ctx.before, ctx.after, ctx.window), None
        share = relevance * ctx.inverse
        if first and not is_batchedtensor(relevance):
            spread = box_spread(share * ctx.rates, ctx.window, ctx.size)
            return group_sum(spread * ctx.before, 1), None, None, None
        if ctx.parts is None:
            ctx.parts, ctx.before = _parts(ctx.before, ctx.rates, ctx.window), None
        parts = (share * ctx.parts).flatten(2)
        kernel, stride, padding, dilation = ctx.window
        spread = functional.fold(parts, ctx.size, kernel, dilation, padding, stride)
        return spread, None, None, None


def _rates(before: Tensor, after: Tensor, window: Window) -> Tensor:
    return safe_ratio(after, box_sum(before, window, pair(after.shape[-2:])))


def _parts(before: Tensor, rates: Tensor, window: Window) -> Tensor:
    """Of each location's relevance, what each element of its window has: [B, elements, H', W']."""
    views = window_elements(before, window, pair(rates.shape[-2:]))
    product = torch.empty_like(rates)  # fresh memory costs more than what is done with it
    sums = [group_sum(torch.mul(view, rates, out=product), 1) for view in views]
    return torch.cat(sums, dim=1)


def is_pointwise(window: Window) -> bool:
    """True for a 1 x 1 convolution of every pixel."""
    return (window.kernel, window.stride, window.padding) == ((1, 1), (1, 1), (0, 0))


def _share_out(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """What goes to the input, or to its port, of ``relevance`` [B, groups, H', W']."""
    _, channels, *size = ctx.size
    if ctx.inverse is None:
        sums = group_sum(ctx.absolute, ctx.groups)
        ctx.inverse = safe_ratio(1.0, box_sum(sums, ctx.window, pair(relevance.shape[-2:])))
    share = box_spread(relevance * ctx.inverse, ctx.window, pair(size))
    if ctx.port_groups is not None:
        fine_share = to_channels(share, ctx.absolute.shape[1])
        return None, group_sum(fine_share * ctx.absolute, ctx.port_groups)
    x, _ = ctx.saved_tensors
    share = to_channels(share, channels)
    return (share.expand(ctx.size) if x is None else x.sign() * share), None


def _common_groups(first: int, second: int, channels: int) -> int:
    """The coarsest groups that are parts of both divisions of the channels."""
    coarse, fine = sorted((first, second))
    return fine if fine % coarse == 0 else channels


def _convolutional_head(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """TSGB-FC at each location, from the features that :class:`tsgb._rules.OpenRule` left."""
    _, weight = ctx.saved_tensors
    features, window = ctx.features, ctx.window
    rows = g.ne(0).any(3).any(2).any(0).nonzero().squeeze(1)
    gradient = balanced_gradient(
        features,
        weight[rows],
        g[:, rows],
        ctx.head_kappa,
        lambda x, weight: correlate(x, weight, window, pair(g.shape[-2:])),
        lambda g, weight: correlate_back(g, weight, window, pair(features.shape[-2:])),
    )
    if ctx.port_groups is None:
        return gradient, None
    return None, group_sum(features * gradient, ctx.port_groups)
