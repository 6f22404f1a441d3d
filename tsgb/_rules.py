"""Backward rules, one ``autograd.Function`` each.

A rule computes the operation as it is and replaces its gradient. With ``x`` the input, ``y`` the
output and ``g_y`` the modified gradient that arrives, the *relevance* is ``y * g_y`` on the way in
and ``x * g_x`` on the way out; every rule below gives out as much as it takes in, except where
nothing but exact zeros could carry it. Autograd does the rest: views, concatenations, reused
modules, residual additions.

What does not depend on the class (``1 / z`` of a convolution, ``y / x`` of a batch norm) is worked
out in the first backward sweep and kept, so that further classes cost elementwise work only.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from tsgb._box import Window, box_spread, box_sum
from tsgb.errors import UnsupportedModelError

_Linear = Callable[[Tensor, Tensor], Tensor]


def safe_ratio(numerator: Tensor | float, denominator: Tensor) -> Tensor:
    """``numerator / denominator``, and 0 where the denominator is 0.

    Bounded by the largest float to the power 3/4, so that multiplying it by a gradient stays
    finite: only below ``|denominator| ~ 1e-28 * |numerator|`` (float32) is anything cut.
    """
    ratio = (numerator / denominator).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    bound = torch.finfo(ratio.dtype).max ** 0.75
    return ratio.clamp_(-bound, bound)


class RatioRule(Function):
    """``g_x = g_y * y / x``: relevance passes an elementwise operation as it is.

    Serves batch normalisation (its shift included), every non-linearity with ``f(0) = 0``, also
    where it saturates, and the addition of a constant. Where ``x`` is exactly 0, ``g_x`` is 0.

    Above the classifier, as everything there, the operation has its plain gradient: a shift of the
    logits is no evidence, as the classifier's own bias is none.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        y = function(x)
        ctx.save_for_backward(x, y)
        ctx.function, ctx.ratio, ctx.above_head = function, None, False
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        if ctx.above_head:
            return plain_gradient(ctx.function, x, g), None
        if ctx.ratio is None:
            ctx.ratio = safe_ratio(y, x)
        return g * ctx.ratio, None


def plain_gradient(function: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> Tensor:
    """The ordinary gradient of ``function`` at ``x`` for ``g`` at its output."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(function(leaf), leaf, g)[0]


class SealedRule(Function):
    """An elementwise operation that relevance goes past, through the port of its input.

    Nothing is kept; who needs a gradient here opens the port first (:class:`OpenRule`).
    """

    @staticmethod
    def forward(_ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(x)

    @staticmethod
    def backward(_ctx: Any, *_gradients: Tensor) -> NoReturn:
        raise RuntimeError("SealedRule: a gradient arrived where relevance has a port.")


class OpenRule(Function):
    """Relevance that arrives at values with a port goes into the port.

    The same as :class:`RatioRule` for every operation since the convolution behind the port,
    followed by what that convolution would do: ``g * x`` is summed over the channels of each group.
    If the convolution is the classifier, which has to know the channels, it is given its input and
    the plain gradient of its output, that of ``steps``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        port: Tensor,
        output: Tensor | None,
        features: Tensor | None,
        steps: Sequence[Callable[[Tensor], Tensor]],
    ) -> Tensor:
        ctx.x, ctx.y, ctx.steps = x, None if output is None else output.detach(), steps
        ctx.groups, ctx.features = port.shape[1], features
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor | None, Tensor | None, None, None]:
        convolution, _ = ctx.next_functions[1]
        if ctx.features is None or convolution.head_kappa is None:
            return None, group_sum(g * ctx.x, ctx.groups), None, None, None
        convolution.features = ctx.features
        g_y = plain_gradient(lambda y: reduce(_applied, ctx.steps, y), ctx.y, g)
        return None, None, g_y, None, None


def _applied(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return function(x)


class MaxPoolRule(Function):
    """Relevance of a maximum goes to where it was, and on to the port of the input.

    Of what arrives at the port of the output, each channel has a share in proportion to its
    maximum. Where windows do not overlap, that makes one factor for each input location, the same
    for all classes.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, port: Tensor, window: Window, ceil_mode: bool
    ) -> tuple[Tensor, Tensor]:
        y, places = functional.max_pool2d(x, *window, ceil_mode=ceil_mode, return_indices=True)
        ctx.save_for_backward(y, places)
        ctx.set_materialize_grads(False)
        ctx.window, ctx.groups, ctx.size = window, port.shape[1], x.shape[-2:]
        ctx.factor = ctx.inverse = None
        return y, new_port(y, port.shape[1])

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
            parts.append(_pool_port(ctx, relevance * ctx.inverse, y, places))
        return None, sum_or_none(parts), None, None


def _pool_port(ctx: Any, share: Tensor, y: Tensor, places: Tensor) -> Tensor:
    """Each input location's part of ``share`` [B, groups, H', W'], relevance per unit of |y|."""
    (rows, columns), stride, padding, dilation = ctx.window
    if (stride, padding, dilation) != ((rows, columns), (0, 0), (1, 1)):
        return _to_places(ctx, to_channels(share, y.shape[1]) * y.abs(), places)
    if ctx.factor is None:
        ctx.factor = _to_places(ctx, y.abs(), places)
    spread = share.repeat_interleave(rows, -2).repeat_interleave(columns, -1)
    height, width = ctx.size
    missing = (max(width - spread.shape[-1], 0), max(height - spread.shape[-2], 0))
    if any(missing):
        spread = functional.pad(spread, (0, missing[0], 0, missing[1]))
    return spread[..., :height, :width] * ctx.factor


def _to_places(ctx: Any, values: Tensor, places: Tensor) -> Tensor:
    """Sum of ``values`` [B, C, H', W'] at their places, over the channels of each group."""
    batch = values.shape[0]
    target = values.new_zeros(batch, ctx.groups, ctx.size.numel())
    flat = values.reshape(batch, ctx.groups, -1)
    target.scatter_add_(2, places.reshape(batch, ctx.groups, -1), flat)
    return target.unflatten(2, ctx.size)


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
        ctx.function, ctx.window, ctx.shares, ctx.above_head = pool, window, None, False
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        x, y = ctx.saved_tensors
        if ctx.above_head:
            return plain_gradient(ctx.function, x, g), None, None
        if ctx.shares is None:
            active = x.ne(0).to(x.dtype)
            count = box_sum(active, ctx.window, y.shape[-2:])
            ctx.shares = safe_ratio(y, count), safe_ratio(1.0, x)
        per_input, inverse = ctx.shares
        return box_spread(g * per_input, ctx.window, x.shape[-2:]) * inverse, None, None


class LinearRule(Function):
    """Plain gradient without one for the weights; TSGB-FC if the layer is the classifier."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.head_kappa, ctx.can_be_head = None, True
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return linear_gradient(ctx, g), None, None


class ProportionalAddRule(Function):
    """``g_i = g * x_i / (x_1 + x_2)``: a variant of residual addition in some of the authors' maps.

    It does not conserve relevance.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor) -> Tensor:
        ctx.save_for_backward(x, other)
        ctx.above_head = False
        return x + other

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, other = ctx.saved_tensors
        if ctx.above_head:
            return g, g
        share = g * safe_ratio(1.0, x + other)
        return share * x, share * other


class GateRule(Function):
    """A gate weighs activations but takes no relevance of its own.

    The product with an activation treats the gate as a constant, so nothing arrives here; where
    something does, the gate was no gate.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], name: str) -> Tensor:
        ctx.name = name
        return function(x)

    @staticmethod
    def backward(ctx: Any, _g: Tensor) -> tuple[Tensor, None, None]:
        raise UnsupportedModelError(
            f"{ctx.name}: its output is used other than as a factor on activations. It does not "
            "map 0 to 0, so relevance could not be passed on and would be lost. If the model ends "
            "in it, return the logits instead; otherwise use a method without rules such as "
            "GradCAM.",
            anonymous=True,
        )


def linear_gradient(node: Any, g: Tensor) -> Tensor:
    """Gradient of the input of a :class:`LinearRule` for ``g`` at its output.

    Args:
        node: The rule's autograd node.
        g: [..., B, classes]; unlike autograd's it may have more dimensions than the output.

    Returns:
        [..., B, F].
    """
    x, weight = node.saved_tensors
    if node.head_kappa is None:
        return g @ weight
    return classifier_gradient(x, weight, g, node.head_kappa)


def is_gate(tensor: Tensor) -> bool:
    """True if ``tensor`` is the output of a gate, reshaped, scaled or shifted at most."""
    node: Any = tensor.grad_fn
    while node is not None and not hasattr(node, "can_be_head"):
        if isinstance(node, GateRule._backward_cls):
            return True
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        node = parents[0] if len(parents) == 1 else None
    return False


def classifier_gradient(x: Tensor, weight: Tensor, g: Tensor, kappa: float) -> Tensor:
    """TSGB-FC: the evidence against a class is re-scaled to balance the evidence for it.

    With ``P`` the sum of a class's positive contributions ``x_i * w_i``, ``Q`` that of its
    negative ones and ``B = kappa * P / |Q|``, a positive contribution keeps its weight and a
    negative one has it multiplied by ``B``, so the class hands down ``(1 - kappa) * P``. For
    ``x >= 0`` this is the published form in ``W+`` and ``W-``. ``B`` is 0 where ``Q`` is.

    Args:
        x: [..., F], input of the classifier.
        weight: [classes, F]; the bias is ignored.
        g: [..., classes], what arrives at the logits. Rows of zeros cost nothing.
        kappa: 0 keeps the positive evidence only, 1 makes the two sides cancel.

    Returns:
        [..., F].
    """
    rows = g.flatten(0, -2).ne(0).any(0).nonzero().squeeze(1)
    return balanced_gradient(x, weight[rows], g[..., rows], kappa, functional.linear, torch.matmul)


def balanced_gradient(
    x: Tensor, weight: Tensor, g: Tensor, kappa: float, apply: _Linear, transpose: _Linear
) -> Tensor:
    """:func:`classifier_gradient` of any linear layer, given as ``apply`` and its transpose.

    Args:
        x: Input of the layer.
        weight: Its weight.
        g: What arrives at its output.
        kappa: As there.
        apply: Output of an input and a weight.
        transpose: Gradient of the input of a gradient of the output and a weight.
    """
    w_plus, w_minus = weight.clamp(min=0), weight.clamp(max=0)
    x_plus, x_minus = x.clamp(min=0), x.clamp(max=0)
    supporting = apply(x_plus, w_plus) + apply(x_minus, w_minus)
    opposing = apply(x_plus, w_minus) + apply(x_minus, w_plus)
    balanced = g * safe_ratio(kappa * supporting, opposing.abs())
    where_positive = transpose(g, w_plus) + transpose(balanced, w_minus)
    where_negative = transpose(g, w_minus) + transpose(balanced, w_plus)
    return torch.where(x < 0, where_negative, where_positive)


def group_sum(x: Tensor, groups: int) -> Tensor:
    """Sum over the channels of each group: [B, C, H, W] -> [B, groups, H, W]."""
    if groups == 1:
        return x.sum(1, keepdim=True)
    if groups == x.shape[1]:
        return x
    return x.unflatten(1, (groups, -1)).sum(2)


def new_port(y: Tensor, groups: int) -> Tensor:
    """A port for ``y``; its value is of no use and takes no memory."""
    return y.new_zeros(()).expand(y.shape[0], groups, *y.shape[-2:])


def sum_or_none(parts: list[Tensor]) -> Tensor | None:
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def to_channels(x: Tensor, channels: int) -> Tensor:
    """One map a group -> something that broadcasts over ``channels`` channels."""
    if x.shape[1] in (1, channels):
        return x
    return x.repeat_interleave(channels // x.shape[1], dim=1)
