"""CAM: feature maps weighed by the classifier's own weights."""

from typing import NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from tsgb._engine.forward import Forward
from tsgb._engine.head import check_nothing_hidden, find_head
from tsgb._rules.classifier import classifier_tensors, conv2d_as_linear, linear
from tsgb._rules.rule_set import GUARDS, RuleSet
from tsgb.errors import UnsupportedModelError
from tsgb.facts import Facts
from tsgb.method import Method


class CAM(Method):
    """Feature maps summed with the classifier's weights of the target.

    The map is signed and as large as the layer; its spatial mean is the logit without the bias (its
    sum, where the network sums over the pixels). All K classes cost one forward pass and no
    backward sweep.

    Args:
        model: Network whose classifier is one Linear layer or one 1 x 1 convolution, with a global
            mean or sum right before or after it. Anything else is refused, because the weights
            would not belong to the channels of the layer.
        layer: Module whose output is averaged; None takes what the classifier receives, or if that
            is averaged already, the last activation of more than one pixel that is not a pooling
            output, which is the right one in such a network.

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

    _rule_set = RuleSet({**GUARDS, "linear": linear, "conv2d": conv2d_as_linear})

    def _maps(self, forward: Forward, targets: Tensor) -> Tensor:
        activation, weight = self._averaged(forward)
        rows = weight[targets.clamp(min=0)] * (targets >= 0)[..., None]
        return torch.einsum("bkc,bchw->bkhw", rows, activation)

    def _averaged(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """The map that is averaged, [B, C, h, w], and the classifier's weights, [classes, C]."""
        activation = self._layer_or_last_map(forward).detach()
        node = find_head(forward, self._name)
        features, weight, bias = classifier_tensors(node)
        pixels = features.flatten(2) if features.dim() > 2 else features[..., None]
        if node is not forward.logits.grad_fn:
            self._check_logits(forward, functional.conv2d(pixels[..., None], weight, bias))
        is_map = features.dim() == 4 and pixels.shape[2] > 1
        if is_map and self._layer is None:
            return features, weight.flatten(1)
        if pixels.shape[2] == 1:
            self._check_pooled(forward, pixels[..., 0], activation)
        elif not _same(pixels, activation.flatten(2)):
            self._refuse(
                forward,
                f"the classifier receives {tuple(features.shape)}, which is not the output of the "
                f"layer that is read, {tuple(activation.shape)}",
            )
        return activation, weight.flatten(1)

    def _check_logits(self, forward: Forward, outputs: Tensor) -> None:
        """Refuse logits that are not the mean or the sum of ``outputs`` [B, classes, h, w]."""
        logits, pixels = forward.logits, outputs.shape[2:].numel()
        mean = outputs.mean((2, 3))
        slack = 1e-4 * outputs.abs().max()
        if any(_near(logits / n, mean, slack) for n in (1, pixels)):
            return
        self._refuse(
            forward,
            "the logits are not the output of a Linear layer or a 1 x 1 convolution, nor its mean "
            "or sum over the pixels (an activation function or a maximum after the classifier is "
            "not linear)",
        )

    def _check_pooled(self, forward: Forward, features: Tensor, activation: Tensor) -> None:
        """Refuse ``features`` [B, C] that are not the mean or the sum of ``activation``."""
        what = "which is neither the spatial mean nor the sum"
        if any(_same(features, pool(activation, (2, 3))) for pool in (torch.mean, torch.sum)):
            return
        if _same(features, activation.amax((2, 3))):
            what = "which is the spatial maximum, neither the mean nor the sum,"
        check_nothing_hidden(forward.logits, self._name)
        self._refuse(
            forward,
            f"the classifier receives {tuple(features.shape)}, {what} of the layer that is read, "
            f"{tuple(activation.shape)}",
        )

    def _refuse(self, forward: Forward, problem: str) -> NoReturn:
        self._check_finite(("logits", forward.logits))  # NaN is equal to nothing
        raise UnsupportedModelError(
            f"{self._name}: {problem}. The weights of the classes would not belong to the "
            "channels of the feature map. Read the layer that is averaged, or use GradCAM."
        )


def _same(values: Tensor, expected: Tensor) -> bool:
    return values.shape == expected.shape and _near(values, expected, 1e-8)


def _near(values: Tensor, expected: Tensor, slack: Tensor | float) -> bool:
    return bool(((values - expected).abs() <= slack + 1e-3 * expected.abs()).all())
