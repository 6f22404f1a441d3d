"""TSGB: target-selective gradient backprop."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from tsgb._engine.forward import Forward
from tsgb._engine.head import find_head, likely_head_shapes
from tsgb._rules.convolution import Grouped
from tsgb._rules.rule_set import RuleSet
from tsgb._rules.state import BalancedLayer, state_of
from tsgb._rules.tsgb_rules import BatchNormEps, Saturation, Skip, tsgb_rules
from tsgb.errors import check_choice
from tsgb.facts import Facts
from tsgb.method import GradientMethod


class TSGB(GradientMethod):
    """Signed relevance of every pixel for a class, conserved from the classifier down.

    The classifier weighs the evidence for the class against the evidence against it (TSGB-FC);
    every convolution below hands relevance to its inputs in proportion to their size and does not
    use its weights (TSGB-Conv). The map is ``sum_c x_c * g_c`` at the read-out. For masks clamp it
    at 0.

    Where the paper's code would lose relevance or divide by zero, the nearest conserving rule is
    used: a grouped convolution shares inside each group; batch norm has the module's own ``eps``; a
    clipped unit (ReLU6) passes relevance on; an added constant leaves its share to what it is added
    to; gates (sigmoid) and the statistics of a group norm count as constants.

    The classifier is the last Linear layer, or the last convolution, which decides at each of its
    pixels. A convolution is expected to be the classifier if it has as many output channels as the
    last module with weights; if the classifier is another convolution, a call takes two forward
    passes. Operations after the classifier have their plain gradient.

    Two parts of the relevance are lost. Only zeros could carry the first: little in most networks,
    but with depthwise convolutions the answer of a batch norm to an empty window, 60 to 80 % of the
    total on a trained MobileNetV2. Handing it to the other channels of the window was tried and put
    less relevance on the objects. The second is the bias of linear layers before the classifier,
    which have their plain gradient.

    Args:
        model: Classifier made of convolutions, batch norms, elementwise activations, pooling and
            linear layers, returning logits. Anything else above the layer that is read is
            refused.
        kappa: Weight of the evidence against the class: at 1 (published) it cancels the evidence
            for it and the map sums to 0; at 0 it is left out.
        layer: Module to read the map at; None reads at the image. A middle layer (stride 16)
            gives smoother maps for masks.
        saturation: What a unit clipped by ReLU6, hardtanh or clamp passes on: its relevance
            ("conserve") or nothing, as published ("plain").
        grouped: A grouped convolution shares relevance inside each group ("per_group") or among
            all channels, as in the authors' later code ("slim").
        skip: What the two sides of a residual addition receive: the same gradient, as published
            ("plain"), or ``g * x_i / (x_1 + x_2)``, as in some of the authors' maps
            ("proportional"), which does not conserve relevance.
        batchnorm_eps: The module's ("module"), or 1e-5 everywhere, as in the authors' code
            ("published"), which changes the logits of networks with another one, such as GoogLeNet.

    Raises:
        LayerError: The model has no layer of that name.
        UnsupportedModelError: The model is TorchScript or wrapped for several devices.
        ValueError: ``kappa`` is negative, or an option unknown.

    References:
        Cheng et al., "TSGB: Target-Selective Gradient Backprop for Probing CNN Visual Saliency",
        IEEE TIP 31, 2022 (TSGB-FC and TSGB-Conv, after the authors' code).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        ...     torch.nn.Linear(144, 5)).eval()
        >>> TSGB(model).attribute(torch.rand(2, 3, 8, 8), torch.tensor([[0, 3], [4, -1]])).shape
        torch.Size([2, 2, 8, 8])
    """

    facts = Facts("tsgb", "Cheng, TIP 2022", signed=True, networks="CNN")

    def __init__(
        self,
        model: nn.Module,
        *,
        kappa: float = 1.0,
        layer: str | None = None,
        saturation: Saturation = "conserve",
        grouped: Grouped = "per_group",
        skip: Skip = "plain",
        batchnorm_eps: BatchNormEps = "module",
    ) -> None:
        super().__init__(model, layer=layer)
        if not 0 <= kappa <= 1:
            raise ValueError(
                f"TSGB: kappa is {kappa}. The two sides of the evidence would not be "
                "balanced. Use a number from 0 to 1."
            )
        check_choice("TSGB", "saturation", saturation, Saturation)
        check_choice("TSGB", "grouped", grouped, Grouped)
        check_choice("TSGB", "skip", skip, Skip)
        check_choice("TSGB", "batchnorm_eps", batchnorm_eps, BatchNormEps)
        self._kappa = kappa
        heads = likely_head_shapes(self._model)
        self._rules = partial(tsgb_rules, saturation, grouped, skip, batchnorm_eps, heads)

    @property
    def _rule_set(self) -> RuleSet:
        return self._rules()

    def _all_maps(
        self, forward: Forward, targets: Tensor, activations: Sequence[Tensor]
    ) -> list[Tensor]:
        layer = state_of(find_head(forward, self._name), BalancedLayer)
        if layer is not None:
            layer.kappa = self._kappa
        return super()._all_maps(forward, targets, activations)

    def _read_out(self, forward: Forward) -> Tensor:
        return forward.relevance if self._layer is None else super()._read_out(forward)

    def _combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        return (activation * gradient).sum(1)
