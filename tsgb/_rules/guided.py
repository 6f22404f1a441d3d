"""Guided backprop and the deconvnet: which gradients pass a ReLU.

Operations that are linear, that select (max pooling) or that are fixed in evaluation mode (batch
norm, dropout) keep their own gradient. A non-linearity other than ReLU is refused: the papers have
no rule for it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from tsgb._rules.rule_set import GUARDS, STRUCTURAL, Rule, RuleSet, depends_on_image, refuse

_OTHERWISE = "or use a method without rules such as Gradient."


class GuidedRule(Function):
    """``g_x = max(g_y, 0)`` where the unit is active, ``0 < x < top``; 0 elsewhere.

    A unit clipped from above passes nothing, as in its own gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < top))
        return x.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (active,) = ctx.saved_tensors
        return g.clamp(min=0) * active, None


class DeconvnetRule(Function):
    """``g_x = max(g_y, 0)`` for every input, also where the unit is inactive or clipped."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor, top: float) -> Tensor:
        return x.clamp(0, top)

    @staticmethod
    def backward(_ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g.clamp(min=0), None


def _rectifiers(rectify: Callable[[Tensor, float], Tensor]) -> dict[str, Rule]:
    """Every spelling of a ReLU with or without an upper bound."""

    def relu(x: Tensor) -> Tensor:
        return rectify(x, math.inf)

    def relu6(x: Tensor) -> Tensor:
        return rectify(x, 6.0)

    def clamp(x: Tensor, min: Any = None, max: Any = None) -> Tensor:  # noqa: A002
        return rectify(x, _upper_bound("clamp", min, max))

    def hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
        return rectify(x, _upper_bound("hardtanh", min_val, max_val))

    return {"relu": relu, "relu6": relu6, "clamp": clamp, "clamp_min": clamp, "hardtanh": hardtanh}


def _upper_bound(operation: str, low: Any, high: Any) -> float:
    high = math.inf if high is None else high
    numbers = not isinstance(low, Tensor) and not isinstance(high, Tensor)
    if not numbers or low != 0 or high <= 0:
        refuse(
            operation,
            f"the bounds {low} and {high} make it something other than a ReLU, for which there is "
            "no rule. Its plain gradient would be used silently and the map would be wrong.",
            f"Clip from 0 upwards as ReLU and ReLU6 do, {_OTHERWISE}",
        )
    return float(high)


def _product(function: Callable[..., Tensor], name: str) -> Rule:
    """Rule of an operation that is linear if only one of its arguments depends on the image."""

    def rule(*args: Any, **kwargs: Any) -> Tensor:
        if sum(map(depends_on_image, (*args, *kwargs.values()))) > 1:
            refuse(
                name,
                "two of its arguments are computed from the image. Their product is a "
                "non-linearity without a rule and the map would be wrong.",
                f"Use a network with fixed weights and without gates, {_OTHERWISE}",
            )
        return function(*args, **kwargs)

    return rule


def _div(x: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    if depends_on_image(other) or rounding_mode is not None:
        refuse(
            "div",
            "it rounds, or its divisor is computed from the image. That is a non-linearity without "
            "a rule and the map would be wrong.",
            f"Divide by a constant, {_OTHERWISE}",
        )
    return torch.div(x, other)


def _comparison(name: str) -> Rule:
    """Rule of an operation that takes signs: ``x * (x > 0)`` is a ReLU not to be recognised."""

    def rule(*_args: Any, **_kwargs: Any) -> NoReturn:
        refuse(
            name,
            "it takes the sign of an activation. A factor made of it would act as a ReLU and "
            "silently keep its plain gradient.",
            f"Write it as relu or clamp(min=0), {_OTHERWISE}",
        )

    return rule


_COMMON: Mapping[str, Rule] = {
    **GUARDS,
    "conv2d": _product(functional.conv2d, "conv2d"),
    "linear": _product(functional.linear, "linear"),
    "mul": _product(torch.mul, "mul"),
    "div": _div,
    **{name: _comparison(name) for name in ("ge", "gt", "heaviside", "le", "lt", "sign")},
}

_PLAIN = (STRUCTURAL | {"add", "avg_pool2d", "rsub", "sub"}) - {"leaky_relu", "prelu", "relu"}

GUIDED = RuleSet({**_COMMON, **_rectifiers(GuidedRule.apply)}, _PLAIN)
"""Positive gradients pass where the unit is active."""

DECONVNET = RuleSet({**_COMMON, **_rectifiers(DeconvnetRule.apply)}, _PLAIN)
"""Positive gradients pass everywhere."""
