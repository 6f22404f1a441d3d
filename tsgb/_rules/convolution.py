"""TSGB-Conv, the rule of convolutions, and what it becomes where one is the classifier."""

from collections.abc import Container
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from tsgb._rules.arithmetic import group_sum, safe_ratio, to_channels
from tsgb._rules.classifier import balanced_gradient, classes_reached
from tsgb._rules.ports import enter, materialise, new_entry, with_port
from tsgb._rules.rule_set import need_constant, need_maps, pair
from tsgb._rules.state import BalancedLayer, Candidate, Passage, Port, Trace, trace_of
from tsgb._rules.window_sums import (
    Pair,
    Window,
    box_spread,
    box_sum,
    correlate,
    correlate_back,
    window_elements,
)
from tsgb._torch_internals import is_batched

Grouped = Literal["per_group", "slim"]


class ConvRule(Function):
    """TSGB-Conv: relevance is shared among a window's inputs in proportion to ``|x|``.

    Per group of channels, with ``s = sum_c |x_c|``, ``z`` the window sums of ``s`` and ``r`` the
    relevance ``sum_o g_o * y_o`` of the outputs (``y`` includes the bias): ``u`` is the transposed
    window sum of ``r / z`` and ``g_x = sign(x) * u``. Weights do not appear. The published
    ``eps = 1e-10`` under the fraction is left out; a window of zeros gives 0 instead.

    ``r`` arrives at the port that is left beside the output. It leaves through the port of ``x``
    where there is one, as the sum of ``|x_c| * u`` over the channels of each of that port's groups.
    It is shared inside each of ``shared_groups`` groups of channels, which are the convolution's
    own ``groups`` or 1. Only ``s`` is kept of the input, unless its signs are needed, so that most
    activations of a network can be freed during the forward pass.

    If the layer is the classifier, for which it has to be ``prepared``,
    :func:`tsgb._rules.classifier.balanced_gradient` applies at each location of the output; its
    input comes from :class:`tsgb._rules.ports.MaterialiseRule`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        entry: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        window: Window,
        groups: int,
        shared_groups: int,
        rectified: bool,
        prepared: bool,
    ) -> tuple[Tensor, Tensor]:
        y = functional.conv2d(
            x, weight, bias, window.stride, window.padding, window.dilation, groups
        )
        kind = "a convolution" if groups == 1 else "a convolution with groups"
        ctx.state = BalancedLayer(kind, can_be_head=groups == 1, prepared=prepared)
        signs = x if entry is None and not rectified else None
        ctx.save_for_backward(signs, *((weight, bias) if prepared else (None, None)))
        ctx.set_materialize_grads(False)
        ctx.window, ctx.groups, ctx.size = window, shared_groups, x.shape
        ctx.entry_groups = None if entry is None else entry.shape[1]
        fine = _common_groups(shared_groups, ctx.entry_groups or 1, x.shape[1])
        ctx.absolute = group_sum(x if rectified else x.abs(), fine)
        ctx.inverse = None
        return y, new_entry(y, shared_groups)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, relevance: Tensor | None) -> tuple[Any, ...]:
        answer: tuple[Tensor | None, Tensor | None] = (None, None)
        if g is not None:
            answer = _balance(ctx, g)
        elif relevance is not None:
            answer = _share_out(ctx, relevance)
        return *answer, None, None, None, None, None, None, None


def _common_groups(first: int, second: int, channels: int) -> int:
    """The coarsest groups that are parts of both divisions of the channels."""
    coarse, fine = sorted((first, second))
    return fine if fine % coarse == 0 else channels


def _share_out(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """What ``relevance`` [B, groups, H', W'] gives to the input, or to its port."""
    _, channels, *size = ctx.size
    if ctx.inverse is None:
        sums = group_sum(ctx.absolute, ctx.groups)
        ctx.inverse = safe_ratio(1.0, box_sum(sums, ctx.window, pair(relevance.shape[-2:])))
    share = box_spread(relevance * ctx.inverse, ctx.window, pair(size))
    if ctx.entry_groups is not None:
        fine_share = to_channels(share, ctx.absolute.shape[1])
        return None, group_sum(fine_share * ctx.absolute, ctx.entry_groups)
    x, _, _ = ctx.saved_tensors
    share = to_channels(share, channels)
    return (share.expand(ctx.size) if x is None else x.sign() * share), None


def _balance(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """TSGB-FC at each location of the output."""
    layer: BalancedLayer = ctx.state
    features, kappa, window = layer.features, layer.kappa, ctx.window
    if features is None or kappa is None:
        raise RuntimeError("ConvRule: a gradient arrived at the output of a hidden convolution.")
    size = pair(features.shape[-2:])
    rows = classes_reached(g.movedim(1, -1))
    _, weight, _ = ctx.saved_tensors
    gradient = balanced_gradient(
        features,
        weight[rows],
        g[:, rows],
        kappa,
        lambda x, weight: correlate(x, weight, window, pair(g.shape[-2:])),
        lambda g, weight: correlate_back(g, weight, window, size),
    )
    if ctx.entry_groups is None:
        return gradient, None
    return None, group_sum(features * gradient, ctx.entry_groups)


class PassageRule(Function):
    """A grouped convolution between two ungrouped ones, for relevance summed over all channels.

    A location after it hands its relevance to the groups in proportion to ``t``, each group's sum
    of ``|x|`` at the input of the next convolution, and a group hands its part to the elements of
    its window in proportion to ``s``, the sum before it: the *rates* ``t_G / z_G``, with ``z`` the
    window sums of ``s``, times ``s_G / sum(t)``. Summed over the groups that makes one number for
    each element, the same for all classes. These numbers are worked out for several classes, or in
    the second sweep; one class alone costs less without them.
    """

    @staticmethod
    def forward(ctx: Any, _entry: Tensor, before: Tensor, after: Tensor, window: Window) -> Tensor:
        ctx.before, ctx.after, ctx.window, ctx.size = before, after, window, before.shape[-2:]
        ctx.rates = ctx.parts = ctx.inverse = None
        return new_entry(after, 1)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None, None]:
        first = ctx.rates is None
        if first:
            ctx.inverse = safe_ratio(1.0, group_sum(ctx.after, 1))
            ctx.rates, ctx.after = _rates(ctx.before, ctx.after, ctx.window), None
        share = relevance * ctx.inverse
        if first and not is_batched(relevance):
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
    """Share of a location's relevance that each window element gets: [B, elements, H', W']."""
    views = window_elements(before, window, pair(rates.shape[-2:]))
    product = torch.empty_like(rates)  # fresh memory costs more than what is done with it
    sums = [group_sum(torch.mul(view, rates, out=product), 1) for view in views]
    return torch.cat(sums, dim=1)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: str | int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    *,
    grouped: Grouped = "per_group",
    heads: Container[torch.Size] | None = None,
) -> Tensor:
    """The rule of ``torch.nn.functional.conv2d``.

    Args:
        x: As there, like the next six.
        weight: As there.
        bias: As there.
        stride: As there.
        padding: As there.
        dilation: As there.
        groups: As there.
        grouped: A grouped convolution shares relevance inside each group ("per_group") or among all
            channels ("slim").
        heads: Shapes of weights with which it is prepared to be the classifier; None: all shapes.
    """
    need_maps("conv2d", x)
    need_constant("conv2d", weight=weight, bias=bias)
    kernel, dilation = pair(weight.shape[-2:]), pair(dilation)
    if padding == "same":
        x, padding = _pad_same(materialise(x), kernel, dilation), 0
    padding = (0, 0) if isinstance(padding, str) else pair(padding)
    window = Window(kernel, pair(stride), padding, dilation)
    shared = groups if grouped == "per_group" else 1
    prepared = groups == 1 and (heads is None or weight.shape in heads)
    trace = trace_of(x)
    entry = _entry_for_classifier(x, trace) if prepared else _entry_for_shares(x, trace, shared)
    values = x if entry is None else x.detach()
    y: Tensor
    own: Tensor
    y, own = ConvRule.apply(
        values, entry, weight, bias, window, groups, shared, trace.rectified, prepared
    )
    candidate = Candidate(values.detach()) if prepared else None
    passage = None
    if shared > 1 and entry is not None and entry.shape[1] == 1:
        sums = group_sum(values if trace.rectified else values.abs(), shared)
        passage = Passage(entry, sums, window, shared)
    return with_port(y, Port(own, candidate, passage=passage))


def _pad_same(x: Tensor, kernel: Pair, dilation: Pair) -> Tensor:
    rows, columns = (reach * (size - 1) for size, reach in zip(kernel, dilation, strict=True))
    return functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def _entry_for_classifier(x: Tensor, trace: Trace) -> Tensor | None:
    """Entry of the port of ``x`` for relevance that the weights have divided among channels."""
    return None if trace.port is None else enter(x, trace.port)


def _entry_for_shares(x: Tensor, trace: Trace, groups: int) -> Tensor | None:
    """Entry of a port of ``x`` for relevance that is in proportion to ``|x|`` in each group."""
    pooled = trace.pool_port
    if pooled is not None and pooled.entry.shape[1] % groups == 0:  # unions of the pool's groups
        return enter(x, pooled)
    if trace.port is None:
        return None
    entry, passage = enter(x, trace.port), trace.port.passage
    if passage is None or groups > 1:
        return entry
    after = group_sum(x.detach() if trace.rectified else x.detach().abs(), passage.groups)
    past: Tensor = PassageRule.apply(passage.entry, passage.sums, after, passage.window)
    return past
