"""Grad-CAM++: feature maps weighed by their positive gradients, pixel by pixel."""

import torch
from torch import Tensor

from tsgb.facts import Facts
from tsgb.method import FeatureMapMethod


class GradCAMPlusPlus(FeatureMapMethod):
    """Feature maps summed with a weighted sum of the logit's positive gradients as weights.

    With G the gradient of the logit, the weight of a channel is the sum over its pixels of
    ``alpha * relu(G)``, where ``alpha = G^2 / (2 G^2 + sum(A) G^3)`` and ``sum(A)`` is the sum of
    the channel; 0 where the denominator is 0.

    This closed form is the paper's alpha, made of second and third derivatives of a score, for the
    exponential of the logit as the score and nothing but linear maps and ReLU between the layer
    and the logit. Above smooth activations (SiLU, GELU) it is an approximation. The factor
    exp(logit) that the gradient of that score has is left out: it only scales a map.

    Behind a ReLU no value is negative. An activation of both signs gives a signed map in which a
    channel with ``G * sum(A)`` close to -2 dominates: read behind the activation function.

    Args:
        model: Classifier that returns logits.
        layer: Module to read; None takes the last activation of more than one pixel that is not
            a pooling output (VGG-16: ``features.29``, ResNet: ``layer4``).

    Raises:
        LayerError: The model has no layer of that name, or no feature map at all.

    References:
        Chattopadhyay et al., "Grad-CAM++", WACV 2018, numbered as in arXiv 1710.11063: weights
        (equation 5), alpha (10), its closed form (19, after 12 and 16), map (20, without the ReLU).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        ...     torch.nn.Linear(144, 5)).eval()
        >>> GradCAMPlusPlus(model).attribute(torch.rand(2, 3, 8, 8), torch.tensor([0, 3])).shape
        torch.Size([2, 1, 6, 6])
    """

    facts = Facts("grad_cam_plus_plus", "Chattopadhyay, WACV 2018", "last map")

    def _combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        # Divided by G^2, alpha is 1 / (2 + sum(A) G): the powers of a small G would round to zero.
        positive = gradient.clamp(min=0)
        denominator = 2 + activation.sum((2, 3), keepdim=True) * positive
        shares = torch.where(denominator == 0, 0, positive / denominator)
        weights = shares.sum((2, 3), keepdim=True)
        return (weights * activation).sum(1)
