"""Excitation backprop: the probability that a unit wins, passed down from the class."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from torch.autograd.graph import Node

from tsgb._engine.forward import Forward
from tsgb._engine.head import ancestors, find_head
from tsgb._rules.relevance import ExcitationRules, FoldedNorm, SharingLayer
from tsgb._rules.shares import Contrast
from tsgb._rules.state import state_of
from tsgb.errors import LayerError, UnsupportedModelError
from tsgb.facts import Facts
from tsgb.method import GradientMethod


class ExcitationBackprop(GradientMethod):
    """Marginal winning probability of each location, summed over the channels.

    The target wins with probability 1. A unit that wins passes its probability to its inputs in
    proportion to what they excite it with, ``max(x_i, 0) * max(w_ji, 0)``; biases and inhibitory
    weights take no part. So the map is non-negative and sums to 1, less what reaches units that
    nothing excites. Those are active by their bias alone: few in most networks, but many where
    convolutions are depthwise, so that little may be left at the image of a MobileNetV2.

    Average pooling and residual additions divide in proportion to the activations, max-pooling
    goes to its largest input, ReLU passes; a unit at the upper bound of ReLU6 does, too. Batch
    norm passes everything to its one input and, after a convolution, counts as part of it: a
    channel with a negative scale is excited by the negative weights.

    The method is made for activations that are never negative. A negative one excites nothing and
    gets nothing, and at the image that is every value below the mean that the normalisation
    subtracts. Read at a middle layer, as the authors do (``layer=``; VGG-16: ``features.23``,
    ResNet: ``layer3``).

    Args:
        model: Classifier made of convolutions, batch norms, ReLU or ReLU6, pooling, additions and
            linear layers, returning logits. Anything else above the layer that is read is
            refused.
        layer: Module to read; None reads at the image.

    Raises:
        LayerError: The model has no layer of that name.
        UnsupportedModelError: The model is TorchScript or wrapped for several devices.

    References:
        Zhang et al., "Top-Down Neural Attention by Excitation Backprop", ECCV 2016; IJCV 126,
        2018 (section "Excitation Backprop").

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        ...     torch.nn.Linear(144, 5)).eval()
        >>> maps = ExcitationBackprop(model, layer="1").attribute(
        ...     torch.rand(2, 3, 8, 8), torch.tensor([0, -1]))
        >>> maps.sum((2, 3)).round(decimals=2).flatten()
        tensor([1., 0.])
    """

    facts = Facts("excitation_backprop", "Zhang, ECCV 2016", networks="ReLU")

    _rule_set = ExcitationRules().rule_set()

    def _all_maps(
        self, forward: Forward, targets: Tensor, activations: Sequence[Tensor]
    ) -> list[Tensor]:
        self._check_folding(forward.logits)
        return super()._all_maps(forward, targets, activations)

    def _check_folding(self, logits: Tensor) -> None:
        """Refuse a layer that a negative scale is folded into, if anything else uses its output."""
        for node in ancestors(logits):
            parents = [parent for parent, _ in node.next_functions]
            if state_of(node, FoldedNorm) is None and any(map(_is_negated, parents)):
                raise UnsupportedModelError(
                    f"{self._name}: an activation goes into a batch norm with negative scales and "
                    "is used without it, too. Whether its positive or its negative weights excite "
                    "it is ambiguous and the map would be wrong. Use a method without rules such "
                    "as GradCAM."
                )

    def _combine(self, activation: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG002
        return gradient.sum(1)  # carries probabilities


class ContrastiveExcitationBackprop(ExcitationBackprop):
    """Excitation backprop of the target minus that of its dual unit.

    The dual has the target's weights in the classifier, negated: it is excited by what inhibits
    the target. Evidence that excites both cancels, and so does evidence for most other classes. The
    map is signed and sums to 0; clamp it at 0 for the paper's. A target (or dual) that nothing
    excites is left out.

    The two are subtracted at the classifier's input, where each sums to 1, and the difference is
    passed down in one backward sweep: below that, every step is linear in the probabilities. That
    is the contrast layer of the usual settings (VGG-16: ``classifier.4``, ResNet: ``avgpool``);
    another one cannot be chosen. The rest is as in :class:`ExcitationBackprop`.

    Args:
        model: As for :class:`ExcitationBackprop`, ending in one Linear layer or convolution.
        layer: Module to read, below the classifier; None reads at the image.

    Raises:
        LayerError: The model has no layer of that name, or it is not below the classifier.
        UnsupportedModelError: The model is TorchScript, wrapped for several devices, or has no
            single classifier layer.

    References:
        Zhang et al., "Top-Down Neural Attention by Excitation Backprop", ECCV 2016; IJCV 126,
        2018 (section "Contrastive Top-Down Attention").

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        ...     torch.nn.Linear(144, 5)).eval()
        >>> ContrastiveExcitationBackprop(model, layer="1").attribute(
        ...     torch.rand(2, 3, 8, 8), torch.tensor([0, 3])).shape
        torch.Size([2, 1, 6, 6])
    """

    facts = Facts(
        "contrastive_excitation_backprop", "Zhang, ECCV 2016",
        signed=True, networks="ReLU, one head",
    )  # fmt: skip

    _rule_set = replace(ExcitationBackprop._rule_set, needs_head=True)

    def _all_maps(
        self, forward: Forward, targets: Tensor, activations: Sequence[Tensor]
    ) -> list[Tensor]:
        head = find_head(forward, self._name)
        layer = state_of(head, SharingLayer)
        if layer is not None:
            layer.divide = Contrast
        for activation in activations:
            if head in ancestors(activation):
                raise LayerError(
                    f"{self._name}: the layer with output {tuple(activation.shape)} is not below "
                    "the classifier. The target has not met its dual there and the map would be "
                    "one without contrast. Choose an earlier layer."
                )
        return super()._all_maps(forward, targets, activations)


def _is_negated(node: Node | None) -> bool:
    """True for a layer that a negative scale is folded into."""
    layer = state_of(node, SharingLayer)
    return layer is not None and layer.signs is not None and bool(layer.signs.lt(0).any())
