"""How relevance is divided among the inputs of a linear operation.

Such an operation is ``y_j = sum_i C_ji`` with ``C_ji = w_ji * x_i`` and without the bias. A method
is one way to divide the relevance ``R_j`` of an output among the ``C_ji``. The shares do not depend
on the class: they are worked out in the first sweep and kept.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

Operation = Callable[..., Tensor]
"""Output of a linear operation from its input, its weight and perhaps a bias."""

Divide = Callable[[Tensor, Tensor, Operation], "Shares"]
"""Makes the shares of an operation: a class below, or a partial of one."""


class Shares(ABC):
    """How relevance of the outputs of a linear operation is divided among its inputs.

    Args:
        x: Input of the operation, not part of any graph.
        weight: Its weight.
        operation: The operation; called without the bias.
    """

    @abstractmethod
    def __init__(self, x: Tensor, weight: Tensor, operation: Operation) -> None: ...

    @abstractmethod
    def __call__(self, relevance: Tensor, signed: bool) -> Tensor:
        """Relevance of the inputs; what arrives where nothing contributes is dropped."""


class Excitation(Shares):
    """In proportion to the excitatory contributions ``max(x_i, 0) * max(w_ji, 0)``."""

    def __init__(self, x: Tensor, weight: Tensor, operation: Operation) -> None:
        self._inputs = x.clamp(min=0).requires_grad_()
        self._total = operation(self._inputs, weight.clamp(min=0))

    def __call__(self, relevance: Tensor, signed: bool) -> Tensor:  # noqa: ARG002 no weight < 0
        start = quotient(relevance, self._total)
        return self._inputs.detach() * _transposed([self._total], [self._inputs], [start])[0]


class Contrast(Shares):
    """Excitation of a unit minus that of its dual, whose weights are the negated ones."""

    def __init__(self, x: Tensor, weight: Tensor, operation: Operation) -> None:
        self._unit = Excitation(x, weight, operation)
        self._dual = Excitation(x, -weight, operation)

    def __call__(self, relevance: Tensor, signed: bool) -> Tensor:
        return self._unit(relevance, signed) - self._dual(relevance, signed)


class JointShares(Shares):
    """In proportion to ``|C_ji|``; in the signed chain multiplied by the sign of ``w_ji``."""

    def __init__(self, x: Tensor, weight: Tensor, operation: Operation) -> None:
        self._sizes = x.abs().requires_grad_()
        self._total = operation(self._sizes, weight.abs())
        self._weight, self._operation = weight, operation

    def __call__(self, relevance: Tensor, signed: bool) -> Tensor:
        start = quotient(relevance, self._total)
        way = self._signed_way if signed else self._total
        return self._sizes.detach() * _transposed([way], [self._sizes], [start])[0]

    @cached_property
    def _signed_way(self) -> Tensor:
        return self._operation(self._sizes, self._weight)


class SeparateShares(Shares):
    """Positive and negative ``C_ji`` get one half each, divided in proportion to size.

    A side without contributions leaves everything to the other one. In the signed chain a share is
    multiplied by the sign of ``w_ji``.
    """

    def __init__(self, x: Tensor, weight: Tensor, operation: Operation) -> None:
        above, below = x.clamp(min=0), x.clamp(max=0).neg()
        w_above, w_below = weight.clamp(min=0), weight.clamp(max=0).neg()
        self._inputs = [above.requires_grad_(), below.requires_grad_()]
        positive = operation(above, w_above) + operation(below, w_below)
        negative = operation(above, w_below) + operation(below, w_above)
        self._sides = [positive, negative]
        self._count = sum((side.detach() > 0).to(x.dtype) for side in self._sides)

    def __call__(self, relevance: Tensor, signed: bool) -> Tensor:
        sign = -1.0 if signed else 1.0
        starts = [quotient(relevance, side * self._count) for side in self._sides]
        starts[1] = sign * starts[1]
        to_above, to_below = _transposed(self._sides, self._inputs, starts)
        above, below = (inputs.detach() for inputs in self._inputs)
        return above * to_above + sign * below * to_below


def quotient(relevance: Tensor, total: Tensor) -> Tensor:
    """``relevance / total``, and 0 where ``total`` is 0 or so small that the quotient overflows."""
    total = total.detach()
    return torch.where(total > torch.finfo(total.dtype).tiny ** 0.75, relevance / total, 0)


def _transposed(
    outputs: list[Tensor], inputs: list[Tensor], starts: list[Tensor]
) -> tuple[Tensor, ...]:
    """The transpose of the linear map from ``inputs`` to ``outputs``, applied to ``starts``."""
    return torch.autograd.grad(outputs, inputs, starts, retain_graph=True)
