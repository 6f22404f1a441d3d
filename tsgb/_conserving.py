"""The rules of TSGB: every operation hands on as much relevance as it receives.

Here are those of the operations that mix values, convolutions and pools, and the whole table.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional

from tsgb._box import Pair, Window
from tsgb._conv_rule import ConvRule, is_pointwise
from tsgb._elementwise import (
    ELEMENTWISE,
    clips,
    proportional_addition,
    published_batch_norm,
)
from tsgb._operations import (
    GUARDS,
    STRUCTURAL,
    Rule,
    RuleSet,
    need_constant,
    need_maps,
    pair,
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
    with_pool_port,
    with_port,
)
from tsgb._rules import (
    AvgPoolRule,
    LinearRule,
    MaxPoolRule,
    group_sum,
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


_MIXING: Mapping[str, Rule] = {
    "linear": linear,
    "avg_pool2d": avg_pool2d,
    "max_pool2d": max_pool2d,
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
    rules = {**GUARDS, **ELEMENTWISE, **clips(conserve=saturation == "conserve"), **_MIXING}
    rules["conv2d"] = partial(_conv2d, grouped=grouped, head_shape=head_shape)
    below = dict(GUARDS)
    if skip == "proportional":
        rules["add"] = proportional_addition
    if batchnorm_eps == "published":
        rules["batch_norm"] = below["batch_norm"] = published_batch_norm
    return RuleSet(rules, STRUCTURAL, below, batched=True, ports=True)
