"""PANE: positive and negative excitation, passed down in two chains."""

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function

from tsgb._engine.forward import Forward
from tsgb._engine.sweeps import class_gradients
from tsgb._rules.arithmetic import broadcast
from tsgb._rules.relevance import Chain, RelevanceRules, ShareRule
from tsgb._rules.rule_set import GUARDS, RuleSet, depends_on_image, need_constant
from tsgb._rules.shares import JointShares, Operation, SeparateShares
from tsgb.errors import check_choice
from tsgb.facts import Facts
from tsgb.method import Method

Kind = Literal["combined", "positive", "negative"]
Normaliser = Literal["joint", "separate"]
Bias = Literal["left_out", "input"]
Skip = Literal["proportional", "equal"]

_SWEEPING = threading.Lock()  # a method's chain is one for all threads


class PANE(Method):
    """Positive excitation P minus negative excitation N of each location, summed over channels.

    Reconstructed from the abstract: neither the paper's equations nor any code of its authors
    could be consulted. The choices made here: input i contributes ``C_ji = w_ji * x_i`` to output
    j, without the bias. Excitation in j goes to i as ``T+ = max(C_ji, 0) / D_j`` along the same
    chain and as ``T- = max(-C_ji, 0) / D_j`` along the other one:

        P_i = sum_j  T+_ji P_j + T-_ji N_j        N_i = sum_j  T+_ji N_j + T-_ji P_j

    starting with P = 1 and N = 0 at the target. Average pooling and residual additions are linear
    operations like any other, max-pooling goes to its largest input, ReLU passes where it is
    active, also at the upper bound of ReLU6, and batch norm passes straight or, where its scale is
    negative, crossed. The chains also cross below a hidden activation that is negative: there P
    says that it helps by being low, so its inputs help by pulling it down. With that, a network
    whose unit is negated, weights in and weights out, has the same maps.

    The sum P + N and the difference P - N each pass down on their own, so a map costs one backward
    sweep ("combined") or two. The sum is at most 1; the difference shrinks from layer to layer. In
    a deep network it is tiny at the image, yet exact, where P and N subtracted would leave nothing.

    Args:
        model: Classifier made of convolutions, batch norms, ReLU or ReLU6, pooling, additions and
            linear layers, returning logits. Anything else above the layer that is read is
            refused.
        layer: Module to read; None reads at the image.
        kind: P - N ("combined"), P ("positive") or N ("negative").
        normaliser: ``D_j`` is the sum of all ``|C_ji|`` ("joint"); or T+ and T- have their own,
            such that each hands on one half of what arrives, or all if there are no contributions
            to the other ("separate"). Both conserve the sum of P + N, less what arrives where
            nothing contributes.
        bias: Takes no part ("left_out"), or contributes as one more input whose share is dropped
            ("input"). Then batch norm is a layer of its own, whose shift is its bias.
        skip: The two sides of a residual addition share in proportion to what they contribute
            ("proportional"), or get one half each ("equal").

    Raises:
        LayerError: The model has no layer of that name.
        UnsupportedModelError: The model is TorchScript or wrapped for several devices.
        ValueError: An option has none of the values above.

    References:
        Ying et al., "Understanding Convolutional Neural Networks From Excitations", IEEE TNNLS,
        2024 (abstract).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        ...     torch.nn.Linear(144, 5)).eval()
        >>> PANE(model).attribute(torch.rand(2, 3, 8, 8), torch.tensor([[0, 3], [4, -1]])).shape
        torch.Size([2, 2, 8, 8])
    """

    facts = Facts("pane", "Ying, TNNLS 2024 (abstract)", signed=True, networks="ReLU")

    def __init__(
        self,
        model: nn.Module,
        *,
        layer: str | None = None,
        kind: Kind = "combined",
        normaliser: Normaliser = "joint",
        bias: Bias = "left_out",
        skip: Skip = "proportional",
    ) -> None:
        super().__init__(model, layer=layer)
        check_choice("PANE", "kind", kind, Kind)
        check_choice("PANE", "normaliser", normaliser, Normaliser)
        check_choice("PANE", "bias", bias, Bias)
        check_choice("PANE", "skip", skip, Skip)
        self._kind = kind
        self._chain = Chain()
        self._rules = partial(_Rules, normaliser, bias, skip, self._chain)

    @property
    def _rule_set(self) -> RuleSet:
        return self._rules().rule_set()

    def chains(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The two chains P and N, each as :meth:`attribute` gives its maps; neither is negative.

        Args:
            images: As for :meth:`attribute`.
            targets: As for :meth:`attribute`.

        Returns:
            P and N, each [B, K, h, w], from one forward pass.

        Raises:
            TSGBError: As :meth:`attribute`.

        Example:
            >>> import torch
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)).eval()
            >>> P, N = PANE(model).chains(torch.randn(1, 1, 2, 2), torch.tensor([0]))
            >>> round((P + N).sum().item(), 4)
            1.0
        """
        with self._settings(images):
            forward, columns = self.run(images, targets, self.layers_read)
            positive, negative = self._finished(forward, *self._both(forward, columns))
            return positive, negative

    def _maps(self, forward: Forward, targets: Tensor) -> Tensor:
        if self._kind == "combined":
            return self._sweeps(forward, targets, signed=True)
        positive, negative = self._both(forward, targets)
        return positive if self._kind == "positive" else negative

    def _both(self, forward: Forward, targets: Tensor) -> tuple[Tensor, Tensor]:
        difference = self._sweeps(forward, targets, signed=True)
        total = self._sweeps(forward, targets, signed=False)
        positive, negative = (total + difference) / 2, (total - difference) / 2
        return positive.clamp(min=0), negative.clamp(min=0)  # they are, up to rounding

    def _sweeps(self, forward: Forward, targets: Tensor, *, signed: bool) -> Tensor:
        """P - N (``signed``) or P + N for each target."""
        activation = self._read_out(forward)
        signs = activation.detach().sign() if signed else torch.ones_like(activation)
        with _SWEEPING:
            self._chain.signed = signed
            sweeps = class_gradients(forward, activation, targets)
            return torch.stack([(signs * sweep).sum(1) for sweep in sweeps], dim=1)


class _JointWithBias(JointShares):
    """The bias counts as an input; its share is dropped."""

    def __init__(self, x: Tensor, weight: Tensor, operation: Operation, bias: Tensor) -> None:
        super().__init__(x, weight, operation)
        self._total = self._total + bias.abs()


class _SeparateWithBias(SeparateShares):
    """The bias counts as an input on the side of its sign; its share is dropped."""

    def __init__(self, x: Tensor, weight: Tensor, operation: Operation, bias: Tensor) -> None:
        super().__init__(x, weight, operation)
        parts = (bias.clamp(min=0), bias.clamp(max=0).neg())
        self._sides = [side + part for side, part in zip(self._sides, parts, strict=True)]
        self._count = sum((side.detach() > 0).to(x.dtype) for side in self._sides)


_SHARES: Mapping[Normaliser, type[JointShares | SeparateShares]] = {
    "joint": JointShares,
    "separate": SeparateShares,
}
_WITH_BIAS: Mapping[Normaliser, type[_JointWithBias | _SeparateWithBias]] = {
    "joint": _JointWithBias,
    "separate": _SeparateWithBias,
}


class _HalvesRule(Function):
    """An addition whose two sides get one half of what arrives, in either chain."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor, other: Tensor) -> Tensor:
        return x + other

    @staticmethod
    def backward(_ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor]:
        return relevance / 2, relevance / 2


class _Rules(RelevanceRules):
    """The rules of PANE, with a choice where the abstract does not decide."""

    def __init__(self, normaliser: Normaliser, bias: Bias, skip: Skip, chain: Chain) -> None:
        super().__init__(_SHARES[normaliser], chain)
        self._with_bias = _WITH_BIAS[normaliser] if bias == "input" else None
        self._skip = skip

    def _share(self, x: Tensor, weight: Tensor, bias: Any, operation: Operation) -> Tensor:
        if self._with_bias is None or bias is None:
            return super()._share(x, weight, bias, operation)
        features_last = operation is torch.nn.functional.linear
        columns = bias if features_last else bias.view(-1, *[1] * (x.dim() - 2))
        divide = partial(self._with_bias, bias=columns)
        result: Tensor = ShareRule.apply(x, weight, bias, operation, divide, self._chain)
        return result

    def _add(self, x: Any, other: Any, *, alpha: float = 1) -> Tensor:
        halves = self._skip == "equal" and depends_on_image(x) and depends_on_image(other)
        if not halves or alpha != 1:
            return super()._add(x, other, alpha=alpha)
        total: Tensor = _HalvesRule.apply(*broadcast(x, other))
        return total

    def _batch_norm(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self._with_bias is None:
            return super()._batch_norm(x, *args, **kwargs)
        ends = torch.stack([x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])])
        shift, sum_of_both = GUARDS["batch_norm"](ends, *args, **kwargs)
        need_constant("batch_norm", scale=sum_of_both)

        def operation(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
            if shift is not None:
                y: Tensor = GUARDS["batch_norm"](x, *args, **kwargs)  # equal to the model's
                return y
            return x * scale.view(-1, *[1] * (x.dim() - 2))

        return self._share(x, sum_of_both - shift, shift, operation)
