"""Gradient and InputXGradient: how the logit reacts to each pixel."""

from copy import copy
from typing import Self

from torch import Tensor

from tsgb.facts import Facts
from tsgb.method import GradientMethod


class LargestGradient(GradientMethod):
    """A method whose map is the largest absolute gradient over the channels."""

    _keep_channels = False

    def per_channel(self) -> Self:
        """The same method with the signed gradient of every channel: maps [B, K, C, h, w].

        Example:
            >>> import torch
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5)).eval()
            >>> signed = Gradient(model).per_channel()
            >>> signed.attribute(torch.rand(1, 3, 4, 4), torch.tensor([2])).shape
            torch.Size([1, 1, 3, 4, 4])
        """
        twin = copy(self)
        twin._keep_channels = True
        return twin

    def _combine(self, _activation: Tensor, gradient: Tensor) -> Tensor:
        return gradient if self._keep_channels else largest(gradient, 1)


def largest(gradient: Tensor, channels: int) -> Tensor:
    """Largest absolute value along the dimension ``channels``."""
    return gradient.abs().amax(channels)


class Gradient(LargestGradient):
    """Largest absolute gradient of the logit over the channels of a pixel.

    It is never negative: it shows where a small change matters, not whether it speaks for the
    class. Any differentiable model will do.

    Args:
        model: Classifier that returns logits.
        layer: Module to read the gradient at; None reads at the image.

    Raises:
        LayerError: The model has no layer of that name.

    References:
        Simonyan et al., "Deep Inside Convolutional Networks: Visualising Image Classification
        Models and Saliency Maps", ICLR Workshop 2014 (section 3.1).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5)).eval()
        >>> Gradient(model).attribute(torch.rand(2, 3, 4, 4), torch.tensor([[0, 3], [4, -1]])).shape
        torch.Size([2, 2, 4, 4])
    """

    facts = Facts("gradient", "Simonyan, ICLRW 2014")


class InputXGradient(GradientMethod):
    """Gradient of the logit times the pixel, summed over channels; signed.

    A first-order estimate of what the logit would lose if the pixel became 0, which in a normalised
    image is the mean colour. In a network of ReLUs and max pooling without biases the map sums to
    the logit. Any differentiable model will do.

    Args:
        model: Classifier that returns logits.
        layer: Module to read activation and gradient at; None reads at the image.

    Raises:
        LayerError: The model has no layer of that name.

    References:
        Shrikumar et al., "Not Just a Black Box: Learning Important Features Through Propagating
        Activation Differences", arXiv 1605.01713, 2016 (gradient * input).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5)).eval()
        >>> InputXGradient(model).attribute(torch.rand(2, 3, 4, 4), torch.tensor([0, 3])).shape
        torch.Size([2, 1, 4, 4])
    """

    facts = Facts("input_x_gradient", "Shrikumar, arXiv 2016", signed=True)

    def _combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        return (activation * gradient).sum(1)
