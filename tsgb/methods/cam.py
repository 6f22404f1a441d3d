"""CAM: feature maps weighed by the classifier's own weights."""

from typing import NoReturn

import torch
from torch import Tensor

from tsgb._engine.forward import Forward
from tsgb._engine.head import check_nothing_hidden, find_head
from tsgb._rules.classifier import input_and_weight, linear
from tsgb._rules.rule_set import GUARDS, RuleSet
from tsgb._rules.state import LinearLayer, state_of
from tsgb.errors import UnsupportedModelError
from tsgb.facts import Facts
from tsgb.method import Method


class CAM(Method):
    """Feature maps summed with the weights of the target's row of the last Linear layer.

    The map is signed and as large as the layer; its spatial mean is the logit without the bias.
    All K classes cost one forward pass and no backward sweep.

    Args:
        model: Classifier that ends in a global mean and one Linear layer. Anything else is
            refused, because the weights would not belong to the channels of the layer.
        layer: Module that is averaged; None takes the last activation of more than one pixel that
            is not a pooling output, which is the right one in such a network.

    Raises:
        LayerError: The model has no layer of that name, or no feature map at all.

    References:
        Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016
        (equation 2).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        ...     torch.nn.Linear(4, 5)).eval()
        >>> CAM(model).attribute(torch.rand(2, 3, 8, 8), torch.tensor([[0, 3], [4, -1]])).shape
        torch.Size([2, 2, 6, 6])
    """

    facts = Facts("cam", "Zhou, CVPR 2016", "last map", "1 + 0", signed=True, networks="GAP")

    _rule_set = RuleSet({**GUARDS, "linear": linear})

    def _read_out(self, forward: Forward) -> Tensor:
        return self._layer_or_last_map(forward)

    def _maps(self, forward: Forward, targets: Tensor) -> Tensor:
        activation = self._read_out(forward).detach()
        weight = self._class_weights(forward, activation)
        rows = weight[targets.clamp(min=0)] * (targets >= 0)[..., None]
        return torch.einsum("bkc,bchw->bkhw", rows, activation)

    def _class_weights(self, forward: Forward, activation: Tensor) -> Tensor:
        """[classes, C], after making sure that the classifier sees the mean of ``activation``."""
        node = find_head(forward, self._name)
        if node is not forward.logits.grad_fn or state_of(node, LinearLayer) is None:
            self._refuse("the logits are not the output of a Linear layer")
        features, weight = input_and_weight(node)
        means = activation.mean((2, 3))
        if features.shape != means.shape or not torch.allclose(features, means, rtol=1e-3):
            check_nothing_hidden(forward.logits, self._name)
            self._refuse(
                f"the Linear layer receives {tuple(features.shape)}, which is not the spatial "
                f"mean of the layer that is read, {tuple(activation.shape)}"
            )
        return weight

    def _refuse(self, problem: str) -> NoReturn:
        raise UnsupportedModelError(
            f"{self._name}: {problem}. The weights of the classes would not belong to the "
            "channels of the feature map. Read the layer that is averaged, or use GradCAM."
        )
