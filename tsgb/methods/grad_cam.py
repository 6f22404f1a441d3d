"""Grad-CAM: feature maps weighed by their mean gradient."""

from torch import Tensor

from tsgb.facts import Facts
from tsgb.method import FeatureMapMethod


class GradCAM(FeatureMapMethod):
    """Feature maps summed with the spatial mean of the logit's gradient as weights.

    The map is signed and as large as the layer; ``clamp(min=0)`` gives the paper's. Any
    differentiable model will do: all gradients are ordinary ones.

    Args:
        model: Classifier that returns logits.
        layer: Module to read; None takes the last activation of more than one pixel that is not
            a pooling output (VGG-16: ``features.29``, ResNet: ``layer4``).

    Raises:
        LayerError: The model has no layer of that name, or no feature map at all.

    References:
        Selvaraju et al., "Grad-CAM", ICCV 2017 (equations 1 and 2, without the ReLU).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        ...     torch.nn.Linear(144, 5)).eval()
        >>> GradCAM(model).attribute(torch.rand(2, 3, 8, 8), torch.tensor([0, 3])).shape
        torch.Size([2, 1, 6, 6])
    """

    facts = Facts("grad_cam", "Selvaraju, ICCV 2017", "last map", signed=True)

    def _combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        weights = gradient.mean((2, 3), keepdim=True)
        return (weights * activation).sum(1)
