"""TSGB's rules of operations that work value by value: relevance passes them as it is.

Where what comes in has a port, they are skipped on the way back (:mod:`tsgb._ports`).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tsgb._operations import (
    Rule,
    depends_on_image,
    need_constant,
    need_running_statistics,
    refuse,
)
from tsgb._ports import opened, past, port_of, rectified
from tsgb._rules import GateRule, ProportionalAddRule, RatioRule, is_gate


def _ratio(function: Callable[[Tensor], Tensor], x: Tensor, *, shifts: bool = False) -> Tensor:
    """An elementwise operation that passes relevance as it is; ``shifts``: it may move zeros."""
    port = port_of(x)
    if port is None or (shifts and port.masked):
        result: Tensor = RatioRule.apply(opened(x), function)
        return result
    return past(function, x, port, masks=not shifts)


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
    """With the ``eps`` of the authors' code instead of the module's, which changes the output."""
    return batch_norm(x, *args[:6], **{**kwargs, "eps": 1e-5})


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """As batch norm: the image's own statistics count as constants, as gates do."""
    need_constant("group_norm", weight=weight, bias=bias)

    def normalise(values: Tensor) -> Tensor:
        return functional.group_norm(values, num_groups, weight, bias, eps)

    return _ratio(normalise, x, shifts=True)


def _rectifier(function: Callable[..., Tensor]) -> Rule:
    """Rule of a ReLU, whose plain gradient passes relevance as it is."""

    def rule(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if port_of(x) is None:
            return function(x, *args, **kwargs)
        return _ratio(lambda values: function(values, *args, **kwargs), x)

    return rule


def relu(x: Tensor) -> Tensor:
    return rectified(_rectifier(torch.relu)(x))


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
            y = function(opened(x), low, high)
        return rectified(y) if low == 0 else y

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
    return functional.threshold(opened(x), threshold, value)


def maximum(x: Tensor, other: Tensor) -> Tensor:
    first, second = (x, other) if depends_on_image(x) else (other, x)
    if depends_on_image(second) or bool(second.any()):
        refuse(
            "maximum",
            "it is supported against zero only, where it is a ReLU.",
            "Use max_pool2d for the larger of two activations, or a method such as GradCAM.",
        )
    return torch.relu(_expand_to(opened(first), second))


def proportional_addition(x: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """Shares in proportion to the two sides, which is not conserving."""
    if depends_on_image(x) and depends_on_image(other) and alpha == 1:
        result: Tensor = ProportionalAddRule.apply(opened(x), opened(other))
        return result
    return _addition(torch.add)(x, other, alpha=alpha)


def _addition(function: Callable[..., Tensor]) -> Rule:
    """Two activations: plain gradient to both. A constant: its share goes to the activation."""

    def rule(x: Any, other: Any, **kwargs: Any) -> Tensor:
        if depends_on_image(x) and depends_on_image(other):
            return function(opened(x), opened(other), **kwargs)
        if depends_on_image(x):
            wide = _expand_to(x, other)
            return _ratio(lambda values: function(values, other, **kwargs), wide, shifts=True)
        wide = _expand_to(other, x)
        return _ratio(lambda values: function(x, values, **kwargs), wide, shifts=True)

    return rule


def _expand_to(x: Tensor, other: Any) -> Tensor:
    shape = torch.broadcast_shapes(x.shape, other.shape if isinstance(other, Tensor) else ())
    return x if shape == x.shape else opened(x).expand(shape)


def mul(x: Any, other: Any) -> Tensor:
    """A constant factor or a gate passes relevance; of two activations neither is the cause."""
    if depends_on_image(x) and depends_on_image(other):
        if is_gate(other):
            other = other.detach()
        elif is_gate(x):
            x = x.detach()
    if depends_on_image(x):
        need_constant("mul", factor=other)
        if port_of(x) is not None and _expand_to(x, other) is x:
            return _ratio(lambda values: torch.mul(values, other), x)
    return torch.mul(_opened(x), _opened(other))


def _opened(value: Any) -> Any:
    return opened(value) if isinstance(value, Tensor) else value


def div(x: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    need_constant("div", divisor=other)
    if rounding_mode is not None:
        refuse("div", f"rounding_mode={rounding_mode!r} has no gradient.", "Divide exactly.")
    return torch.div(_opened(x), _opened(other))


def _gate(function: Callable[..., Tensor], name: str) -> Rule:
    def rule(x: Tensor, *args: Any) -> Tensor:
        result: Tensor = GateRule.apply(opened(x), lambda values: function(values, *args), name)
        return result

    return rule


def _clipped_relu(x: Tensor) -> Tensor:
    return rectified(_ratio(functional.relu6, x))


def _plain_relu6(x: Tensor) -> Tensor:
    return rectified(functional.relu6(opened(x)))


ELEMENTWISE: Mapping[str, Rule] = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "relu": relu,
    "leaky_relu": _rectifier(functional.leaky_relu),
    "add": _addition(torch.add),
    "sub": _addition(torch.sub),
    "rsub": _addition(torch.rsub),
    "mul": mul,
    "div": div,
    "maximum": maximum,
    "threshold": threshold,
    "sigmoid": _gate(torch.sigmoid, "sigmoid"),
    "hardsigmoid": _gate(functional.hardsigmoid, "hardsigmoid"),
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
