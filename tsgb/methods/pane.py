"""PANE: positive and negative excitation, passed down in two chains."""

import threading
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tsgb._excitation import Chain, JointShares, RelevanceRules, SeparateShares
from tsgb._forward import Forward, class_gradients
from tsgb.method import Method

Kind = Literal["combined", "positive", "negative"]
Normaliser = Literal["joint", "separate"]

_SWEEPING = threading.Lock()  # a method's chain is one for all threads


class PANE(Method):
    """Positive excitation P minus negative excitation N of each location, summed over channels.

    Reconstructed from the abstract: neither the paper's equations nor any code of its authors
    could be consulted. What was chosen here: input i contributes ``C_ji = w_ji * x_i`` to output
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
            linear layers, returning logits. Anything else is refused.
        layer: Module to read; None reads at the image.
        kind: P - N ("combined"), P ("positive") or N ("negative").
        normaliser: ``D_j`` is the sum of all ``|C_ji|`` ("joint"); or T+ and T- have their own,
            such that each hands on one half of what arrives, or all if the other has nothing to
            hand it to ("separate"). Both conserve the sum of P + N, less what arrives where
            nothing contributes.

    Raises:
        LayerError: The model has no such layer.
        UnsupportedModelError: The model is TorchScript or wrapped for several devices.
        ValueError: ``kind`` or ``normaliser`` is unknown.

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

    def __init__(
        self,
        model: nn.Module,
        *,
        layer: str | None = None,
        kind: Kind = "combined",
        normaliser: Normaliser = "joint",
    ) -> None:
        super().__init__(model, layer=layer)
        _check_choice("kind", kind, get_args(Kind))
        _check_choice("normaliser", normaliser, get_args(Normaliser))
        self._kind = kind
        self._chain = Chain()
        shares = JointShares if normaliser == "joint" else SeparateShares
        self._rule_set = RelevanceRules(shares, self._chain).rule_set()

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
        layers = () if self._layer is None else (self._layer,)
        with self._settings(images.device):
            forward, columns = self._run(images, targets, layers)
            positive, negative = self._both(forward, columns)
            return self._finished(positive), self._finished(negative)

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


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"PANE: {name} is {value!r}. There is no such form of the map. "
            f"Use one of {', '.join(choices)}."
        )
