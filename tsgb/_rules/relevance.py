"""Backward rules that carry relevance itself: excitation backprop and PANE.

The rules of TSGB carry a gradient ``g``, with ``x * g`` as relevance. Here what arrives as the
gradient of an output *is* the relevance of that output, and a rule hands it to the inputs. So
views, concatenations and max-pooling keep their own gradient, which moves values and does not scale
them, while a mean, a factor or an addition needs a rule. Relevance starts as 1 at the target logit.

How an operation that mixes inputs divides relevance among them is in :mod:`tsgb._rules.shares`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from tsgb._rules.arithmetic import broadcast
from tsgb._rules.rule_set import GUARDS, Rule, RuleSet, depends_on_image, need_constant, refuse
from tsgb._rules.shares import Divide, Excitation, Operation, Shares
from tsgb._rules.state import WeightedLayer, set_state, state_of


@dataclass(slots=True)
class Chain:
    """Which relevance a sweep carries; set before the sweep, read by the rules.

    Attributes:
        signed: Relevance changes its sign on the way through a negative weight.
    """

    signed: bool = False


@dataclass(slots=True, kw_only=True)
class SharingLayer(WeightedLayer):
    """State of the autograd node of a convolution or linear layer; changed before the first sweep.

    Attributes:
        divide: How it divides relevance.
        weight_dim: Dimensions of its weight, as many as its output has.
        signs: What the weight of each output channel is multiplied by, [channels].
    """

    divide: Divide
    weight_dim: int
    signs: Tensor | None = None


@dataclass(slots=True)
class FoldedNorm:
    """State of the autograd node of a batch norm that counts as part of the layer before it."""


class ShareRule(Function):
    """Relevance of each output goes to the inputs that it is made of; the bias gets none."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        operation: Operation,
        divide: Divide,
        chain: Chain,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.operation, ctx.divide, ctx.chain, ctx.shares = operation, divide, chain, None
        if weight.dim() > 0:
            kind = "a linear layer or convolution"
            ctx.state = SharingLayer(kind, divide=divide, weight_dim=weight.dim())
        return operation(x, weight) if bias is None else operation(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():  # the rules keep graphs of their own
            if ctx.shares is None:
                ctx.shares = _shares(ctx)
            received: Tensor = ctx.shares(relevance, ctx.chain.signed)
        return received.detach(), None, None, None, None, None


def _shares(node: Any) -> Shares:
    x, weight = (tensor.detach() for tensor in node.saved_tensors)
    layer = state_of(node, SharingLayer)
    if layer is None:
        shares: Shares = node.divide(x, weight, node.operation)
        return shares
    if layer.signs is not None:
        weight = weight * layer.signs.view(-1, *[1] * (weight.dim() - 1))
    return layer.divide(x, weight, node.operation)


class PassRule(Function):
    """Relevance passes an operation that makes each output of one input.

    ``signs`` multiply relevance in the signed chain, their absolute values in the other one; None
    stands for an operation that is never decreasing.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        output: Callable[[Tensor], Tensor],
        chain: Chain,
        signs: Tensor | None = None,
    ) -> Tensor:
        ctx.chain, ctx.signs = chain, signs
        return output(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None, None]:
        if ctx.signs is not None:
            relevance = relevance * (ctx.signs if ctx.chain.signed else ctx.signs.abs())
        return relevance, None, None, None


class RelevanceRules:
    """The rules of all operations, for one way to divide relevance among inputs.

    Batch norm in evaluation mode makes each output of one input, so relevance passes; in the signed
    chain it is multiplied by the sign of the scale, as if it were folded into the convolution.
    """

    def __init__(self, divide: Divide, chain: Chain) -> None:
        self._divide = divide
        self._chain = chain

    def rule_set(self) -> RuleSet:
        """Rules for convolutional networks with ReLU; any other operation is refused."""
        mixing = (functional.avg_pool2d, functional.adaptive_avg_pool2d, torch.mean, torch.sum)
        clipping = (functional.relu6, functional.hardtanh, torch.clamp, torch.clamp_min)
        rules: dict[str, Rule] = {
            "conv2d": self._conv2d,
            "linear": self._linear,
            "batch_norm": self._batch_norm,
            "add": self._add,
            "sub": _subtract,
            "mul": self._scaling(torch.mul),
            "div": self._scaling(torch.div),
        }
        rules |= {function.__name__: self._mixing(function) for function in mixing}
        rules |= {function.__name__: self._clipping(function) for function in clipping}
        return RuleSet({**GUARDS, **rules}, ROUTING)

    def _share(self, x: Tensor, weight: Tensor, bias: Any, operation: Operation) -> Tensor:
        y: Tensor = ShareRule.apply(x, weight, bias, operation, self._divide, self._chain)
        return y

    def _pass(
        self, x: Tensor, output: Callable[[Tensor], Tensor], signs: Tensor | None = None
    ) -> Tensor:
        y: Tensor = PassRule.apply(x, output, self._chain, signs)
        return y

    def _conv2d(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        need_constant("conv2d", weight=weight, bias=bias)

        def operation(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)

        return self._share(x, weight, bias, operation)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        need_constant("linear", weight=weight, bias=bias)
        return self._share(x, weight, bias, functional.linear)

    def _mixing(self, function: Callable[..., Tensor]) -> Rule:
        """Rule of a linear operation whose weights are all positive."""

        def rule(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            def operation(x: Tensor, weight: Tensor) -> Tensor:
                return function(x, *args, **kwargs) * weight

            return self._share(x, x.new_ones(()), None, operation)

        return rule

    def _add(self, x: Any, other: Any, *, alpha: float = 1) -> Tensor:
        if not (depends_on_image(x) and depends_on_image(other)):
            return torch.add(x, other, alpha=alpha)  # the constant takes no relevance
        if alpha != 1:
            refuse("add", f"alpha={alpha} is not supported.", "Multiply by it before adding.")
        both = torch.stack(broadcast(x, other))
        total: Tensor = self._mixing(torch.sum)(both, 0)
        return total

    def _batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        need_constant("batch_norm", weight=weight)
        normalise = GUARDS["batch_norm"]
        signs = self._signs_of_norm(x, x.new_ones(x.shape[1]) if weight is None else weight)
        return self._pass(
            x, lambda v: normalise(v, running_mean, running_var, weight, *args, **kwargs), signs
        )

    def _signs_of_norm(self, x: Tensor, scale: Tensor) -> Tensor | None:
        return scale.sign().view(-1, *[1] * (x.dim() - 2))

    def _scaling(self, function: Callable[..., Tensor]) -> Rule:
        """Rule of a product with, or a quotient by, a positive constant."""

        def rule(x: Any, other: Any) -> Tensor:
            if function is torch.mul and not depends_on_image(x):
                x, other = other, x
            need_constant(function.__name__, factor=other)
            factor = torch.as_tensor(other)
            if not depends_on_image(x) or not (factor > 0).all():
                refuse(
                    function.__name__,
                    "its factor is not positive everywhere. What speaks for a unit would speak "
                    "against it and the map would be wrong.",
                    "Write it as batch norm or convolution, or use a method without rules such as "
                    "GradCAM.",
                )
            wide, _ = broadcast(x, factor)
            return self._pass(wide, lambda values: function(values, other))

        return rule

    def _clipping(self, function: Callable[..., Tensor]) -> Rule:
        """Rule of a ReLU with an upper bound; where that is reached, relevance still passes."""

        def rule(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            probe = torch.tensor([-1e30, -1.0, 0.0])
            numbers = not any(isinstance(v, Tensor) for v in (*args, *kwargs.values()))
            if not numbers or function(probe, *args, **kwargs).any():
                refuse(
                    function.__name__,
                    "its output is not 0 for all inputs below 0, or its bounds are tensors, so it "
                    "is no ReLU. It is not defined what a negative activation hands on.",
                    "Use clamp(min=0), ReLU or ReLU6, or a method without rules such as GradCAM.",
                )
            return torch.relu(self._pass(x, lambda values: function(values, *args, **kwargs)))

        return rule


class ExcitationRules(RelevanceRules):
    """The rules of excitation backprop.

    Batch norm passes all of a unit's probability to its one input, also where its scale is
    negative. After a convolution or linear layer it counts as part of that layer: where its scale
    is negative, the layer's negative weights excite the unit.
    """

    def __init__(self) -> None:
        super().__init__(Excitation, Chain())

    def _batch_norm(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = super()._batch_norm(x, *args, **kwargs)
        if y.grad_fn is not None:
            set_state(y.grad_fn, FoldedNorm())
        return y

    def _signs_of_norm(self, x: Tensor, scale: Tensor) -> Tensor | None:
        layer = state_of(x.grad_fn, SharingLayer)
        if layer is None or layer.weight_dim != x.dim():
            return None  # x is not the output of a layer with these channels
        if layer.signs is not None and not torch.equal(layer.signs, scale.sign()):
            refuse(
                "batch_norm",
                "the same activation is normalised by another layer with other signs. Whether its "
                "positive or its negative weights excite is ambiguous.",
                "Use a method without rules such as GradCAM.",
            )
        layer.signs = scale.sign()
        return None


def _subtract(x: Any, other: Any, *, alpha: float = 1) -> Tensor:
    if depends_on_image(other):
        refuse(
            "sub",
            "an activation is subtracted. What speaks for it speaks against the result and the "
            "map would be wrong.",
            "Use a network that only adds, or a method without rules such as GradCAM.",
        )
    return torch.sub(x, other, alpha=alpha)


ROUTING = frozenset(
    {"contiguous", "clone", "cpu", "cuda", "double", "float", "to", "type_as"}
    | {"expand", "expand_as", "flatten", "movedim", "permute", "reshape", "reshape_as", "squeeze"}
    | {"swapaxes", "t", "transpose", "unflatten", "unsqueeze", "view", "view_as", "__get__"}
    | {"cat", "concat", "concatenate", "flip", "repeat", "repeat_interleave", "roll", "stack"}
    | {"chunk", "index_select", "narrow", "select", "split", "split_with_sizes", "unbind"}
    | {"__getitem__", "pad", "pixel_shuffle", "pixel_unshuffle"}
    | {"adaptive_max_pool2d", "amax", "max_pool2d", "region_mean", "relu"}
)
"""Operations whose own gradient moves values and does not scale them, and the mean over a region,
where relevance starts."""
