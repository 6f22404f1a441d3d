"""TSGB-FC, the rule of the classifier, and the rule of linear layers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from tsgb._rules.arithmetic import safe_ratio
from tsgb._rules.ports import materialise
from tsgb._rules.rule_set import need_constant
from tsgb._rules.state import LinearLayer

_Linear = Callable[[Tensor, Tensor], Tensor]


class LinearRule(Function):
    """Plain gradient without one for the weights; TSGB-FC if the layer is the classifier."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.state = LinearLayer("a linear layer")
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return linear_gradient(ctx, g), None, None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The rule of ``torch.nn.functional.linear``."""
    need_constant("linear", weight=weight, bias=bias)
    y: Tensor = LinearRule.apply(materialise(x), weight, bias)
    return y


def linear_gradient(node: Any, g: Tensor) -> Tensor:
    """Gradient of the input of a :class:`LinearRule` for ``g`` at its output.

    Args:
        node: The rule's autograd node.
        g: [..., B, classes]; unlike autograd's it may have more dimensions than the output.

    Returns:
        [..., B, F].
    """
    x, weight = input_and_weight(node)
    layer: LinearLayer = node.state
    if layer.kappa is None:
        return g @ weight
    return classifier_gradient(x, weight, g, layer.kappa)


def input_and_weight(node: Any) -> tuple[Tensor, Tensor]:
    """The input [..., F] and the weight [classes, F] of the layer with this autograd node."""
    x, weight = node.saved_tensors
    return x, weight


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
