"""TSGB's rules of max-pooling and average pooling."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from tsgb._rules.arithmetic import group_sum, plain_gradient, safe_ratio, to_channels
from tsgb._rules.ports import enter, materialise, new_entry, with_pool_port
from tsgb._rules.rule_set import need_maps, pair
from tsgb._rules.state import Port, SwitchedRule, trace_of
from tsgb._rules.window_sums import Pair, Window, box_spread, box_sum


class MaxPoolRule(Function):
    """Relevance of a maximum goes to where it was, and on to the port of the input.

    What arrives at the port of the output is divided among channels in proportion to their maxima.
    Where windows do not overlap, that makes one factor for each input location, the same for all
    classes.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, entry: Tensor, window: Window, ceil_mode: bool
    ) -> tuple[Tensor, Tensor]:
        y, places = functional.max_pool2d(x, *window, ceil_mode=ceil_mode, return_indices=True)
        ctx.save_for_backward(y, places)
        ctx.set_materialize_grads(False)
        ctx.window, ctx.groups, ctx.size = window, entry.shape[1], x.shape[-2:]
        ctx.factor = ctx.inverse = None
        return y, new_entry(y, entry.shape[1])

    @staticmethod
    def backward(
        ctx: Any, g: Tensor | None, relevance: Tensor | None
    ) -> tuple[None, Tensor | None, None, None]:
        y, places = ctx.saved_tensors
        parts = []
        if g is not None:
            parts.append(_to_places(ctx, g * y, places))
        if relevance is not None:
            if ctx.inverse is None:
                ctx.inverse = safe_ratio(1.0, group_sum(y.abs(), ctx.groups))
            parts.append(_shared_back(ctx, relevance * ctx.inverse, y, places))
        return None, sum(parts[1:], parts[0]) if parts else None, None, None


def _shared_back(ctx: Any, share: Tensor, y: Tensor, places: Tensor) -> Tensor:
    """What each input location gets of ``share`` [B, groups, H', W'], relevance per unit of |y|."""
    (rows, columns), stride, padding, dilation = ctx.window
    if (stride, padding, dilation) != ((rows, columns), (0, 0), (1, 1)):
        return _to_places(ctx, to_channels(share, y.shape[1]) * y.abs(), places)
    if ctx.factor is None:
        ctx.factor = _to_places(ctx, y.abs(), places)
    factor: Tensor = ctx.factor
    spread = share.repeat_interleave(rows, -2).repeat_interleave(columns, -1)
    height, width = ctx.size
    missing = (max(width - spread.shape[-1], 0), max(height - spread.shape[-2], 0))
    if any(missing):
        spread = functional.pad(spread, (0, missing[0], 0, missing[1]))
    return spread[..., :height, :width] * factor


def _to_places(ctx: Any, values: Tensor, places: Tensor) -> Tensor:
    """Sum of ``values`` [B, C, H', W'] at their places, over the channels of each group."""
    batch = values.shape[0]
    target = values.new_zeros(batch, ctx.groups, ctx.size.numel())
    flat = values.reshape(batch, ctx.groups, -1)
    target.scatter_add_(2, places.reshape(batch, ctx.groups, -1), flat)
    return torch.unflatten(target, 2, ctx.size)


def max_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The rule of ``torch.nn.functional.max_pool2d``: past it through ports, or its own gradient.

    Its own gradient where its input has no port, where the classifier may be behind that port, and
    where the places of the maxima are asked for.
    """
    port = trace_of(x).port
    if return_indices or port is None or port.candidate is not None:
        options: dict[str, Any] = {"ceil_mode": ceil_mode, "return_indices": return_indices}
        return functional.max_pool2d(
            materialise(x), kernel_size, stride, padding, dilation, **options
        )
    kernel = pair(kernel_size)
    window = Window(kernel, pair(stride or kernel), pair(padding), pair(dilation))
    y, own = MaxPoolRule.apply(x.detach(), enter(x, port), window, ceil_mode)
    return with_pool_port(y, Port(own))


class AvgPoolRule(Function):
    """The relevance of each window is spread evenly over its non-zero inputs.

    Published is an even spread over all inputs (Cheng et al., TSGB), which loses the share of an
    input that is exactly 0; the two are the same where no input is.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window, options: dict[str, Any]) -> Tensor:
        def pool(values: Tensor) -> Tensor:
            return functional.avg_pool2d(values, *window[:3], **options)

        y = pool(x)
        ctx.save_for_backward(x, y)
        ctx.state = SwitchedRule()
        ctx.function, ctx.window, ctx.shares = pool, window, None
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        x, y = ctx.saved_tensors
        state: SwitchedRule = ctx.state
        if state.above_head:
            return plain_gradient(ctx.function, x, g), None, None
        if ctx.shares is None:
            active = x.ne(0).to(x.dtype)
            count = box_sum(active, ctx.window, y.shape[-2:])
            ctx.shares = safe_ratio(y, count), safe_ratio(1.0, x)
        per_input, inverse = ctx.shares
        return box_spread(g * per_input, ctx.window, x.shape[-2:]) * inverse, None, None


def avg_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The rule of ``torch.nn.functional.avg_pool2d``; a global one is a mean, with its gradient."""
    need_maps("avg_pool2d", x)
    x, kernel = materialise(x), pair(kernel_size)
    window = Window(kernel, pair(stride or kernel), pair(padding))
    options: dict[str, Any] = {
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
        "divisor_override": divisor_override,
    }
    if kernel == tuple(x.shape[-2:]) and window.padding == (0, 0):
        return functional.avg_pool2d(x, kernel, **options)
    y: Tensor = AvgPoolRule.apply(x, window, options)
    return y
