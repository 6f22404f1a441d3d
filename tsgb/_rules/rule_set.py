"""What a rule set is, what every method refuses, and what needs no rule.

An operation has one plain name, however it is spelt: ``F.relu``, ``torch.relu``, ``Tensor.relu_``
and ``nn.ReLU(inplace=True)`` are all ``relu``. Each rule takes the arguments of torch's function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from torch import Tensor
from torch.nn import functional

from tsgb._rules.window_sums import Pair
from tsgb.errors import UnsupportedModelError

Rule = Callable[..., Any]


@dataclass(frozen=True)
class RuleSet:
    """How every torch operation of a forward pass sends its gradient back.

    Attributes:
        rules: Operation name -> what runs instead of the operation.
        plain: Operations that keep their own gradient. Any other one is refused as soon as its
            output depends on the image. None: every operation without a rule is plain.
        below: The rules below the first layer that is read, where nothing is recorded and any
            operation is allowed.
        gates: Operations whose output may weigh activations; see ``Trace.gate``.
        needs_head: The method needs to know which layer is the classifier.
        ports: The rules know ports (:mod:`tsgb._rules.ports`); the image has one where it is read.
        vmappable: The rules work for several classes at once, under ``torch.func.vmap``.
        fallback: Rules for the same maps that record more, for a second forward pass.
    """

    rules: Mapping[str, Rule]
    plain: frozenset[str] | None = None
    below: Mapping[str, Rule] = field(default_factory=lambda: GUARDS)
    gates: frozenset[str] = frozenset()
    needs_head: bool = False
    ports: bool = False
    vmappable: bool = False
    fallback: "RuleSet | None" = None


def depends_on_image(value: object) -> bool:
    """True for a tensor that is computed from the image."""
    return isinstance(value, Tensor) and value.requires_grad


def refuse(operation: str, problem: str, remedy: str) -> NoReturn:
    """Raise UnsupportedModelError; the method's name is put in front of the message."""
    raise UnsupportedModelError(f"{operation}: {problem} {remedy}", anonymous=True)


def need_constant(operation: str, **operands: object) -> None:
    """Refuse an operation one of whose ``operands`` is computed from the image."""
    for name, operand in operands.items():
        if depends_on_image(operand):
            refuse(
                operation,
                f"its {name} is computed from the image, like its input. How relevance divides "
                "between the two is not defined and the map would be arbitrary.",
                "Use a network with fixed weights, or a method without rules such as GradCAM.",
            )


def need_maps(operation: str, x: Tensor) -> None:
    """Refuse an input that is not [B, C, H, W]."""
    if x.dim() != 4:
        refuse(
            operation,
            f"its input has shape {tuple(x.shape)}, expected [B, C, H, W]. Relevance would be "
            "shared between images or channels.",
            "Keep the batch dimension in the forward pass.",
        )


def pair(value: Any) -> Pair:
    """(rows, columns) of a number or of one or two numbers."""
    if isinstance(value, int):
        return value, value
    numbers = tuple(int(number) for number in value)
    return (numbers[0], numbers[-1])


def need_running_statistics(training: bool) -> None:
    """Refuse batch norm with the statistics of the batch."""
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
    need_running_statistics(training)
    return functional.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)


def _inactive_dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    if training and p > 0:
        refuse(
            "dropout",
            f"it is active (p = {p}), so the map would change from call to call.",
            "Call model.eval() first; in F.dropout pass training=self.training.",
        )
    return x


GUARDS: Mapping[str, Rule] = {
    "batch_norm": _plain_batch_norm,
    "dropout": _inactive_dropout,
    "dropout2d": _inactive_dropout,
    "alpha_dropout": _inactive_dropout,
    "feature_alpha_dropout": _inactive_dropout,
}
"""Rules by which every method refuses operations that depend on the batch or on chance."""

PLAIN_AUTOGRAD = RuleSet(GUARDS)
"""Ordinary gradients; any operation is allowed."""

STRUCTURAL = frozenset(
    {"contiguous", "clone", "copy", "cpu", "cuda", "double", "float", "to", "type_as"}
    | {"expand", "expand_as", "flatten", "movedim", "permute", "reshape", "reshape_as", "squeeze"}
    | {"swapaxes", "t", "transpose", "unflatten", "unsqueeze", "view", "view_as", "__get__"}
    | {"cat", "concat", "concatenate", "flip", "repeat", "repeat_interleave", "roll", "stack"}
    | {"chunk", "index_select", "narrow", "select", "split", "split_with_sizes", "unbind"}
    | {"__getitem__", "__setitem__", "fill", "zero"}
    | {"interpolate", "mean", "neg", "pad", "pixel_shuffle", "pixel_unshuffle", "region_mean"}
    | {"sum"}
    | {"adaptive_avg_pool2d", "adaptive_max_pool2d", "amax"}
    | {"leaky_relu", "max_pool2d", "prelu", "relu"}
)
"""Operations whose plain gradient conserves relevance: linear maps without a bias, selections, and
the non-linearities with ``y = f'(x) * x``."""
