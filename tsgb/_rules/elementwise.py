"""TSGB's rules of operations that work value by value: relevance passes them as it is.

Where their input has a port, the way back skips them (:mod:`tsgb._rules.ports`).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from tsgb._rules.arithmetic import broadcast, plain_gradient, safe_ratio
from tsgb._rules.ports import materialise, skip_through
from tsgb._rules.rule_set import (
    Rule,
    depends_on_image,
    need_constant,
    need_running_statistics,
    refuse,
)
from tsgb._rules.state import SwitchedRule, trace_of
from tsgb.errors import UnsupportedModelError


class RatioRule(Function):
    """``g_x = g_y * y / x``: relevance passes an elementwise operation as it is.

    Serves batch normalisation (its shift included), every non-linearity with ``f(0) = 0``, also
    where it saturates, and the addition of a constant. Where ``x`` is exactly 0, ``g_x`` is 0.

    Above the classifier, like everything there, the operation has its plain gradient: a shift of
    the logits is no evidence, and neither is the classifier's own bias.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        y = function(x)
        ctx.save_for_backward(x, y)
        ctx.state = SwitchedRule()
        ctx.function, ctx.ratio = function, None
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        state: SwitchedRule = ctx.state
        if state.above_head:
            return plain_gradient(ctx.function, x, g), None
        if ctx.ratio is None:
            ctx.ratio = safe_ratio(y, x)
        return g * ctx.ratio, None


class ProportionalAddRule(Function):
    """``g_i = g * x_i / (x_1 + x_2)``: a variant of residual addition in some of the authors' maps.

    It does not conserve relevance.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor) -> Tensor:
        ctx.save_for_backward(x, other)
        ctx.state = SwitchedRule()
        return x + other

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, other = ctx.saved_tensors
        state: SwitchedRule = ctx.state
        if state.above_head:
            return g, g
        share = g * safe_ratio(1.0, x + other)
        return share * x, share * other


class GateRule(Function):
    """A gate weighs activations and takes no relevance of its own.

    The product with an activation treats the gate as a constant, so no relevance arrives here. If
    some does, the output was used in another way, which has no rule.
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


def _ratio(function: Callable[[Tensor], Tensor], x: Tensor, *, shifts: bool = False) -> Tensor:
    """An elementwise operation that passes relevance; ``shifts``: it may map 0 to another value."""
    port = trace_of(x).port
    if port is None or (shifts and port.masked):
        y: Tensor = RatioRule.apply(materialise(x), function)
        return y
    return skip_through(function, x, port, masks=not shifts)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    need_constant("batch_norm", weight=weight, bias=bias)
    need_running_statistics(training)

    def normalise(values: Tensor) -> Tensor:
        return functional.batch_norm(
            values, running_mean, running_var, weight, bias, momentum=momentum, eps=eps
        )

    return _ratio(normalise, x, shifts=True)


def published_batch_norm(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Batch norm with the ``eps`` of the authors' code, not the module's; it changes the output."""
    return batch_norm(x, *args[:6], **{**kwargs, "eps": 1e-5})


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Like batch norm: the image's own statistics count as constants, as gates do."""
    need_constant("group_norm", weight=weight, bias=bias)

    def normalise(values: Tensor) -> Tensor:
        return functional.group_norm(values, num_groups, weight, bias, eps)

    return _ratio(normalise, x, shifts=True)


def _rectifier(function: Callable[..., Tensor]) -> Rule:
    """Rule of a ReLU, whose plain gradient passes relevance as it is."""

    def rule(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if trace_of(x).port is None:
            return function(x, *args, **kwargs)
        return _ratio(lambda values: function(values, *args, **kwargs), x)

    return rule


def _rectified(y: Tensor) -> Tensor:
    """``y``, marked as the output of a ReLU."""
    trace_of(y).rectified = True
    return y


def relu(x: Tensor) -> Tensor:
    return _rectified(_rectifier(torch.relu)(x))


def _elementwise(function: Callable[..., Tensor]) -> Rule:
    """Rule of a non-linearity with ``f(0) = 0``."""

    def rule(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _ratio(lambda values: function(values, *args, **kwargs), x)

    return rule


def _clipping(function: Callable[..., Tensor], *, conserve: bool) -> Rule:
    """Rule of ``clamp`` and ``hardtanh``; without ``conserve`` their plain gradient."""

    def rule(x: Tensor, min: Any = None, max: Any = None) -> Tensor:  # noqa: A002
        low = -math.inf if min is None else min
        high = math.inf if max is None else max
        if isinstance(low, Tensor) or isinstance(high, Tensor) or not low <= 0 <= high:
            refuse(
                "clamp",
                f"the bounds min={min}, max={max} do not enclose 0 as numbers, so an input of 0 "
                "gives something else and its relevance would be lost.",
                "Clip to a range around 0, or use a method without rules such as GradCAM.",
            )
        saturates = low not in (0, -math.inf) or high != math.inf
        if conserve and saturates:
            y = _ratio(lambda values: function(values, low, high), x)
        else:
            y = function(materialise(x), low, high)
        return _rectified(y) if low == 0 else y

    return rule


def _hardtanh(function: Rule) -> Rule:
    def rule(x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Any:
        return function(x, min_val, max_val)

    return rule


def threshold(x: Tensor, threshold: float, value: float) -> Tensor:
    if value != 0 or threshold < 0:
        refuse(
            "threshold",
            f"threshold={threshold}, value={value} does not map 0 to 0, so relevance would be "
            "lost.",
            "Use threshold >= 0 and value = 0.",
        )
    return functional.threshold(materialise(x), threshold, value)


def maximum(x: Tensor, other: Tensor) -> Tensor:
    first, second = (x, other) if depends_on_image(x) else (other, x)
    if depends_on_image(second) or bool(second.any()):
        refuse(
            "maximum",
            "it is supported against zero only, where it is a ReLU.",
            "Use max_pool2d for the larger of two activations, or a method such as GradCAM.",
        )
    return torch.relu(_expand_to(materialise(first), second))


def proportional_addition(x: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """An addition that shares in proportion to its two sides; it does not conserve relevance."""
    if depends_on_image(x) and depends_on_image(other) and alpha == 1:
        total: Tensor = ProportionalAddRule.apply(materialise(x), materialise(other))
        return total
    return _add(x, other, alpha=alpha)


def _addition(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Rule of an addition: both activations get the plain gradient, a constant gets nothing."""

    def rule(x: Any, other: Any, **kwargs: Any) -> Tensor:
        if depends_on_image(x) and depends_on_image(other):
            return function(materialise(x), materialise(other), **kwargs)
        if depends_on_image(x):
            wide = _expand_to(x, other)
            return _ratio(lambda values: function(values, other, **kwargs), wide, shifts=True)
        wide = _expand_to(other, x)
        return _ratio(lambda values: function(x, values, **kwargs), wide, shifts=True)

    return rule


_add = _addition(torch.add)


def _expand_to(x: Tensor, other: Any) -> Tensor:
    if not isinstance(other, Tensor) or broadcast(x, other)[0].shape == x.shape:
        return x
    return broadcast(materialise(x), other)[0]


def mul(x: Any, other: Any) -> Tensor:
    """A constant factor or a gate passes relevance; a product of two activations has no rule."""
    if depends_on_image(x) and depends_on_image(other):
        if trace_of(other).gate:
            other = other.detach()
        elif trace_of(x).gate:
            x = x.detach()
    if depends_on_image(x):
        need_constant("mul", factor=other)
        if trace_of(x).port is not None and _expand_to(x, other) is x:
            return _ratio(lambda values: torch.mul(values, other), x)
    return torch.mul(_materialised(x), _materialised(other))


def _materialised(value: Any) -> Any:
    return materialise(value) if depends_on_image(value) else value


def div(x: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    need_constant("div", divisor=other)
    if rounding_mode is not None:
        refuse("div", f"rounding_mode={rounding_mode!r} has no gradient.", "Divide exactly.")
    return torch.div(_materialised(x), other)


def _gate(function: Callable[..., Tensor], name: str) -> Rule:
    def rule(x: Tensor, *args: Any) -> Tensor:
        y: Tensor = GateRule.apply(materialise(x), lambda values: function(values, *args), name)
        return y

    return rule


def _clipped_relu(x: Tensor) -> Tensor:
    return _rectified(_ratio(functional.relu6, x))


def _plain_relu6(x: Tensor) -> Tensor:
    return _rectified(functional.relu6(materialise(x)))


_GATES: Mapping[str, Callable[..., Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": functional.hardsigmoid,
}

GATES = frozenset(_GATES)
"""Operations whose output may weigh activations."""

ELEMENTWISE: Mapping[str, Rule] = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "relu": relu,
    "leaky_relu": _rectifier(functional.leaky_relu),
    "add": _add,
    "sub": _addition(torch.sub),
    "rsub": _addition(torch.rsub),
    "mul": mul,
    "div": div,
    "maximum": maximum,
    "threshold": threshold,
    **{name: _gate(function, name) for name, function in _GATES.items()},
    "elu": _elementwise(functional.elu),
    "celu": _elementwise(functional.celu),
    "selu": _elementwise(functional.selu),
    "silu": _elementwise(functional.silu),
    "gelu": _elementwise(functional.gelu),
    "mish": _elementwise(functional.mish),
    "hardswish": _elementwise(functional.hardswish),
    "tanh": _elementwise(torch.tanh),
}


def clips(*, conserve: bool) -> dict[str, Rule]:
    """Rules of ReLU6, hardtanh and clamp; with ``conserve`` a clipped unit passes relevance on."""
    clamp = _clipping(torch.clamp, conserve=conserve)
    return {
        "relu6": _clipped_relu if conserve else _plain_relu6,
        "hardtanh": _hardtanh(_clipping(functional.hardtanh, conserve=conserve)),
        "clamp": clamp,
        "clamp_min": clamp,
        "clamp_max": lambda x, max: clamp(x, None, max),  # noqa: A006
    }
