"""The rules of TSGB: every operation hands on as much relevance as it receives."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from tsgb._box import Pair, Window
from tsgb._conv_rule import ConvRule, is_pointwise
from tsgb._operations import (
    GUARDS,
    STRUCTURAL,
    Rule,
    RuleSet,
    depends_on_image,
    need_constant,
    need_maps,
    need_running_statistics,
    pair,
    refuse,
)
from tsgb._ports import (
    Passage,
    Port,
    divides_by_size,
    entry_for_classifier,
    entry_for_maxima,
    entry_for_shares,
    is_rectified,
    opened,
    past,
    port_of,
    rectified,
    with_pool_port,
    with_port,
)
from tsgb._rules import (
    AvgPoolRule,
    GateRule,
    LinearRule,
    MaxPoolRule,
    ProportionalAddRule,
    RatioRule,
    group_sum,
    is_gate,
)

Saturation = Literal["conserve", "plain"]
Grouped = Literal["per_group", "slim"]
Skip = Literal["plain", "proportional"]
BatchNormEps = Literal["module", "published"]


def _conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: str | int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    *,
    grouped: Grouped = "per_group",
    head_shape: Sequence[int] | None = None,
) -> Tensor:
    need_maps("conv2d", x)
    need_constant("conv2d", weight=weight, bias=bias)
    kernel, dilation = pair(weight.shape[-2:]), pair(dilation)
    if padding == "same":
        x, padding = _pad_same(opened(x), kernel, dilation), 0
    padding = (0, 0) if isinstance(padding, str) else pair(padding)
    window = Window(kernel, pair(stride), padding, dilation)
    shared = groups if grouped == "per_group" else 1
    asked_for = groups == 1 and weight.shape == head_shape
    ready = asked_for or (is_pointwise(window) and not divides_by_size(x, shared))
    entry = entry_for_classifier(x) if asked_for else entry_for_shares(x, shared)
    values = x if entry is None else x.detach()
    y, own = ConvRule.apply(
        values, entry, weight, bias, window, groups, shared, is_rectified(x), ready
    )
    features = values.detach() if groups == 1 and ready else None
    passage = None
    if shared > 1 and entry is not None and entry.shape[1] == 1:
        sums = group_sum(values if is_rectified(x) else values.abs(), shared)
        passage = Passage(entry, sums, window, shared)
    return with_port(y, Port(own, features, passage=passage))


def _pad_same(x: Tensor, kernel: Pair, dilation: Pair) -> Tensor:
    rows, columns = (reach * (size - 1) for size, reach in zip(kernel, dilation, strict=True))
    return functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    need_constant("linear", weight=weight, bias=bias)
    result: Tensor = LinearRule.apply(opened(x), weight, bias)
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
    need_constant("batch_norm", weight=weight, bias=bias)
    need_running_statistics(training)

    def normalise(values: Tensor) -> Tensor:
        return functional.batch_norm(
            values, running_mean, running_var, weight, bias, momentum=momentum, eps=eps
        )

    return _ratio(normalise, x, shifts=True)


def _published_batch_norm(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
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


def avg_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    need_maps("avg_pool2d", x)
    kernel = pair(kernel_size)
    window = Window(kernel, pair(stride or kernel), pair(padding))
    options: dict[str, Any] = {
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
        "divisor_override": divisor_override,
    }
    if kernel == tuple(x.shape[-2:]) and window.padding == (0, 0):  # global: as a plain mean
        return functional.avg_pool2d(opened(x), kernel, **options)
    result: Tensor = AvgPoolRule.apply(opened(x), window, options)
    return result


def _ratio(function: Callable[[Tensor], Tensor], x: Tensor, *, shifts: bool = False) -> Tensor:
    """An elementwise operation that passes relevance as it is; ``shifts``: it may move zeros."""
    port = port_of(x)
    if port is None or (shifts and port.masked):
        result: Tensor = RatioRule.apply(opened(x), function)
        return result
    return past(function, x, port, masks=not shifts)


def _rectifier(function: Callable[..., Tensor]) -> Rule:
    """Rule of a ReLU, whose plain gradient passes relevance as it is."""

    def rule(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if port_of(x) is None:
            return function(x, *args, **kwargs)
        return _ratio(lambda values: function(values, *args, **kwargs), x)

    return rule


def relu(x: Tensor) -> Tensor:
    return rectified(_rectifier(torch.relu)(x))


def max_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    entry = None if return_indices else entry_for_maxima(x)
    if entry is None:
        options: dict[str, Any] = {"ceil_mode": ceil_mode, "return_indices": return_indices}
        return functional.max_pool2d(opened(x), kernel_size, stride, padding, dilation, **options)
    kernel = pair(kernel_size)
    window = Window(kernel, pair(stride or kernel), pair(padding), pair(dilation))
    y, own = MaxPoolRule.apply(x.detach(), entry, window, ceil_mode)
    return with_pool_port(y, Port(own))


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
            return _ratio(lambda values: function(values, low, high), x)
        return function(opened(x), low, high)

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


def _proportional_addition(x: Any, other: Any, *, alpha: float = 1) -> Tensor:
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


_CONSERVING: Mapping[str, Rule] = {
    **GUARDS,
    "conv2d": _conv2d,
    "linear": linear,
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "avg_pool2d": avg_pool2d,
    "max_pool2d": max_pool2d,
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


def _clipped_relu(x: Tensor) -> Tensor:
    return rectified(_ratio(functional.relu6, x))


def _plain_relu6(x: Tensor) -> Tensor:
    return rectified(functional.relu6(opened(x)))


def _clips(*, conserve: bool) -> dict[str, Rule]:
    clamp = _clipping(torch.clamp, conserve=conserve)
    return {
        "relu6": _clipped_relu if conserve else _plain_relu6,
        "hardtanh": _hardtanh(_clipping(functional.hardtanh, conserve=conserve)),
        "clamp": clamp,
        "clamp_min": clamp,
        "clamp_max": lambda x, max: clamp(x, None, max),  # noqa: A006
    }


def conserving(
    saturation: Saturation = "conserve",
    grouped: Grouped = "per_group",
    skip: Skip = "plain",
    batchnorm_eps: BatchNormEps = "module",
    head_shape: Sequence[int] | None = None,
) -> RuleSet:
    """The TSGB rules; see :class:`tsgb.TSGB` for the choices.

    A convolution that is not ready to be the classifier, as one larger than 1 x 1, can be it if its
    weight has the shape ``head_shape``: what it needs for that is kept only if it is asked for.
    """
    rules = {**_CONSERVING, **_clips(conserve=saturation == "conserve")}
    rules["conv2d"] = partial(_conv2d, grouped=grouped, head_shape=head_shape)
    if skip == "proportional":
        rules["add"] = _proportional_addition
    if batchnorm_eps == "published":
        rules["batch_norm"] = _published_batch_norm
    return RuleSet(rules, STRUCTURAL)
