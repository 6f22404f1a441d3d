"""Which torch operation gets which backward rule.

An operation is known by its plain name, whatever the spelling: ``F.relu``, ``torch.relu``,
``Tensor.relu_`` and ``nn.ReLU(inplace=True)`` are all ``relu``. Each function here takes the
arguments that torch's own function takes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from tsgb._box import Pair, Window
from tsgb._rules import AvgPoolRule, ConvRule, GateRule, LinearRule, RatioRule, is_gate
from tsgb.errors import UnsupportedModelError

Rule = Callable[..., Any]


@dataclass(frozen=True)
class RuleSet:
    """How every torch operation of a forward pass sends its gradient back.

    Attributes:
        rules: Operation name -> what runs instead of the operation.
        plain: Operations that keep their own gradient. Any other one is refused as soon as its
            output depends on the image. None: every operation without a rule is plain.
    """

    rules: Mapping[str, Rule]
    plain: frozenset[str] | None = None


def depends_on_image(value: object) -> bool:
    """True for a tensor that the image's relevance can reach."""
    return isinstance(value, Tensor) and value.requires_grad


def refuse(operation: str, problem: str, remedy: str) -> NoReturn:
    """Raise UnsupportedModelError in the house form."""
    raise UnsupportedModelError(f"{operation}: {problem} {remedy}")


def _need_constant(operation: str, **operands: object) -> None:
    for name, operand in operands.items():
        if depends_on_image(operand):
            refuse(
                operation,
                f"its {name} is computed from the image, like its input. How relevance divides "
                "between the two is not defined and the map would be arbitrary.",
                "Use a network with fixed weights, or a method without rules such as GradCAM.",
            )


def _need_maps(operation: str, x: Tensor) -> None:
    if x.dim() != 4:
        refuse(
            operation,
            f"its input has shape {tuple(x.shape)}, expected [B, C, H, W]. Relevance would be "
            "shared between images or channels.",
            "Keep the batch dimension in the forward pass.",
        )


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: str | int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    _need_maps("conv2d", x)
    _need_constant("conv2d", weight=weight, bias=bias)
    kernel, dilation = _pair(weight.shape[-2:]), _pair(dilation)
    if padding == "same":
        x, padding = _pad_same(x, kernel, dilation), 0
    padding = (0, 0) if isinstance(padding, str) else _pair(padding)
    window = Window(kernel, _pair(stride), padding, dilation)
    result: Tensor = ConvRule.apply(x, weight, bias, window, groups)
    return result


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return value, value
    numbers = tuple(int(number) for number in value)
    return (numbers[0], numbers[-1])


def _pad_same(x: Tensor, kernel: Pair, dilation: Pair) -> Tensor:
    rows, columns = (reach * (size - 1) for size, reach in zip(kernel, dilation, strict=True))
    return functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    _need_constant("linear", weight=weight, bias=bias)
    result: Tensor = LinearRule.apply(x, weight, bias)
    return result


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
    _need_constant("batch_norm", weight=weight, bias=bias)
    _need_running_statistics(training)

    def normalise(values: Tensor) -> Tensor:
        return functional.batch_norm(
            values, running_mean, running_var, weight, bias, momentum=momentum, eps=eps
        )

    return _ratio(normalise, x)


def _need_running_statistics(training: bool) -> None:
    if training:
        refuse(
            "batch_norm",
            "it normalises with the statistics of the batch, so the map of an image would depend "
            "on the other images.",
            "Call model.eval() first; a layer with track_running_stats=False cannot be explained.",
        )


def _plain_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    _need_running_statistics(training)
    return functional.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    if training and p > 0:
        refuse(
            "dropout",
            f"it is active (p = {p}), so the map would change from call to call.",
            "Call model.eval() first; in F.dropout pass training=self.training.",
        )
    return x


def avg_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    _need_maps("avg_pool2d", x)
    kernel = _pair(kernel_size)
    window = Window(kernel, _pair(stride or kernel), _pair(padding))
    options: dict[str, Any] = {
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
        "divisor_override": divisor_override,
    }
    if kernel == tuple(x.shape[-2:]) and window.padding == (0, 0):  # global: as a plain mean
        return functional.avg_pool2d(x, kernel, **options)
    result: Tensor = AvgPoolRule.apply(x, window, options)
    return result


def _ratio(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    result: Tensor = RatioRule.apply(x, function)
    return result


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
        clip = _elementwise(function) if conserve and saturates else function
        result: Tensor = clip(x, low, high)
        return result

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
    return functional.threshold(x, threshold, value)


def maximum(x: Tensor, other: Tensor) -> Tensor:
    first, second = (x, other) if depends_on_image(x) else (other, x)
    if depends_on_image(second) or bool(second.any()):
        refuse(
            "maximum",
            "it is supported against zero only, where it is a ReLU.",
            "Use max_pool2d for the larger of two activations, or a method such as GradCAM.",
        )
    return torch.relu(first.expand(torch.broadcast_shapes(first.shape, second.shape)))


def _addition(function: Callable[..., Tensor]) -> Rule:
    """Two activations: plain gradient to both. A constant: its share goes to the activation."""

    def rule(x: Any, other: Any, **kwargs: Any) -> Tensor:
        if depends_on_image(x) and depends_on_image(other):
            return function(x, other, **kwargs)
        if depends_on_image(x):
            wide = _expand_to(x, other)
            return _ratio(lambda values: function(values, other, **kwargs), wide)
        wide = _expand_to(other, x)
        return _ratio(lambda values: function(x, values, **kwargs), wide)

    return rule


def _expand_to(x: Tensor, other: Any) -> Tensor:
    shape = other.shape if isinstance(other, Tensor) else ()
    return x.expand(torch.broadcast_shapes(x.shape, shape))


def mul(x: Any, other: Any) -> Tensor:
    """A constant factor or a gate scales relevance; of two activations neither is the cause."""
    if depends_on_image(x) and depends_on_image(other):
        if is_gate(other):
            other = other.detach()
        elif is_gate(x):
            x = x.detach()
    if depends_on_image(x):
        _need_constant("mul", factor=other)
    return torch.mul(x, other)


def div(x: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    _need_constant("div", divisor=other)
    if rounding_mode is not None:
        refuse("div", f"rounding_mode={rounding_mode!r} has no gradient.", "Divide exactly.")
    return torch.div(x, other)


def _gate(function: Callable[..., Tensor], name: str) -> Rule:
    def rule(x: Tensor, *args: Any) -> Tensor:
        result: Tensor = GateRule.apply(x, lambda values: function(values, *args), name)
        return result

    return rule


GUARDS: Mapping[str, Rule] = {
    "batch_norm": _plain_batch_norm,
    "dropout": dropout,
    "dropout2d": dropout,
    "alpha_dropout": dropout,
    "feature_alpha_dropout": dropout,
}
"""What every method refuses: operations that depend on the batch or on chance."""

PLAIN_AUTOGRAD = RuleSet(GUARDS)
"""Ordinary gradients; any operation is allowed."""

STRUCTURAL = frozenset(
    {"contiguous", "clone", "copy", "cpu", "cuda", "double", "float", "to", "type_as"}
    | {"expand", "expand_as", "flatten", "movedim", "permute", "reshape", "reshape_as", "squeeze"}
    | {"swapaxes", "t", "transpose", "unflatten", "unsqueeze", "view", "view_as", "__get__"}
    | {"cat", "concat", "concatenate", "flip", "repeat", "repeat_interleave", "roll", "stack"}
    | {"chunk", "index_select", "narrow", "select", "split", "split_with_sizes", "unbind"}
    | {"__getitem__", "__setitem__", "fill", "zero"}
    | {"interpolate", "mean", "neg", "pad", "pixel_shuffle", "pixel_unshuffle", "sum"}
    | {"adaptive_avg_pool2d", "adaptive_max_pool2d", "amax", "max_pool2d"}
    | {"leaky_relu", "prelu", "relu"}
)
"""Linear maps without a bias, selections, and the non-linearities with ``y = f'(x) * x``: the
plain gradient conserves relevance."""

_CONSERVING: Mapping[str, Rule] = {
    **GUARDS,
    "conv2d": conv2d,
    "linear": linear,
    "batch_norm": batch_norm,
    "avg_pool2d": avg_pool2d,
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


def _clips(*, conserve: bool) -> dict[str, Rule]:
    clamp = _clipping(torch.clamp, conserve=conserve)
    return {
        "relu6": _elementwise(functional.relu6) if conserve else functional.relu6,
        "hardtanh": _hardtanh(_clipping(functional.hardtanh, conserve=conserve)),
        "clamp": clamp,
        "clamp_min": clamp,
        "clamp_max": lambda x, max: clamp(x, None, max),  # noqa: A006
    }


CONSERVING = RuleSet({**_CONSERVING, **_clips(conserve=True)}, STRUCTURAL)
"""The TSGB rules, relevance conserved also where a unit saturates."""

PLAIN_SATURATION = RuleSet({**_CONSERVING, **_clips(conserve=False)}, STRUCTURAL)
"""The TSGB rules as published: a unit clipped from above passes nothing."""
