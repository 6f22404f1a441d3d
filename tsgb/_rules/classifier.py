"""TSGB-FC, the rule of the classifier, and the rule of linear layers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from tsgb._rules.arithmetic import safe_ratio
from tsgb._rules.ports import materialise
from tsgb._rules.rule_set import need_constant, pair, refuse
from tsgb._rules.state import BalancedLayer, LinearLayer
from tsgb._rules.window_sums import Window

_Linear = Callable[[Tensor, Tensor], Tensor]

_POINTWISE = Window((1, 1), (1, 1), (0, 0), (1, 1))


class LinearRule(Function):
    """Plain gradient without one for the weights; TSGB-FC if the layer is the classifier."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
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


class PointwiseRule(Function):
    """A 1 x 1 convolution: plain gradient, and what a classifier needs is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.state = LinearLayer("a 1 x 1 convolution")
        ctx.window = _POINTWISE
        return functional.conv2d(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        _, weight, _ = ctx.saved_tensors
        return functional.conv_transpose2d(g, weight), None, None


def conv2d_as_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution with its own gradient, of which one of 1 x 1 may be the classifier."""
    need_constant("conv2d", weight=weight, bias=bias)
    unpadded = padding in ("same", "valid") or pair(padding) == (0, 0)  # 1 x 1 needs no padding
    pointwise = weight.shape[2:].numel() == 1 and pair(stride) == (1, 1) and unpadded
    if pointwise and groups == 1 and x.dim() == 4:
        y: Tensor = PointwiseRule.apply(x, weight, bias)
        return y
    return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)


def linear_gradient(node: Any, g: Tensor) -> Tensor:
    """Gradient of the input of a :class:`LinearRule` for ``g`` at its output.

    Args:
        node: The rule's autograd node.
        g: [..., B, classes]; unlike autograd's it may have more dimensions than the output.

    Returns:
        [..., B, F].
    """
    x, weight, _ = node.saved_tensors
    layer: LinearLayer = node.state
    if layer.kappa is None:
        plain: Tensor = g @ weight
        return plain
    return classifier_gradient(x, weight, g, layer.kappa)


def classifier_tensors(node: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Input, weight and bias of the layer with this autograd node, as of a 1 x 1 convolution.

    [B, F, ...], [classes, F, 1, 1] and [classes]. The input is a map if it has four dimensions; of
    a Linear layer it may also be a vector or tokens.

    Args:
        node: Of a Linear layer, of a 1 x 1 convolution, or of a convolution under the rules of
            TSGB after a sweep.

    Raises:
        UnsupportedModelError: It is another convolution.
    """
    x, weight, bias = node.saved_tensors
    layer: BalancedLayer = node.state
    if layer.features is not None:
        x = layer.features
    if weight.dim() == 2:
        x, weight = x.movedim(-1, 1), weight[..., None, None]
    elif node.window != _POINTWISE:
        refuse(
            "conv2d",
            f"the classifier has windows of {' x '.join(map(str, node.window.kernel))} with stride "
            f"{node.window.stride[0]}; its output is no sum over the channels of single pixels.",
            "Use GradCAM in place of CAM.",
        )
    return x.detach(), weight.detach(), bias


def classifier_gradient(x: Tensor, weight: Tensor, g: Tensor, kappa: float) -> Tensor:
    """TSGB-FC: the evidence against a class is re-scaled to balance the evidence for it.

    With ``P`` the sum of a class's positive contributions ``x_i * w_i``, ``Q`` that of its
    negative ones and ``B = kappa * P / |Q|``, a positive contribution keeps its weight and a
    negative one has it multiplied by ``B``, so the class hands down ``(1 - kappa) * P``. For
    ``x >= 0`` this is the published form in ``W+`` and ``W-``. ``B`` is 0 where ``Q`` is.

    Args:
        x: [..., F], input of the classifier.
        weight: [classes, F]; the bias is ignored.
        g: [..., classes], what arrives at the logits. Rows of zeros cost nothing on a CPU.
        kappa: 0 keeps the positive evidence only, 1 makes the two sides cancel.

    Returns:
        [..., F].
    """
    rows = classes_reached(g)
    return balanced_gradient(x, weight[rows], g[..., rows], kappa, functional.linear, torch.matmul)


def classes_reached(g: Tensor) -> Tensor | slice:
    """The classes, on the last axis, that anything arrives at; on a GPU all of them.

    Their number would have to be waited for there, and the others cost less.

    Example:
        >>> classes_reached(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]))
        tensor([1, 2])
    """
    if g.device.type != "cpu":
        return slice(None)
    return g.flatten(0, -2).ne(0).any(0).nonzero().squeeze(1)


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
