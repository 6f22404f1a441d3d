"""HiResCAM: feature maps times their gradient, nothing averaged."""

from torch import Tensor

from tsgb.facts import Facts
from tsgb.method import FeatureMapMethod


class HiResCAM(FeatureMapMethod):
    """Activations times the logit's gradient, summed over channels.

    The map is signed. If nothing but linear layers follows the layer, the map sums to the logit
    without their biases: each value is what its position adds to the logit. If global average
    pooling and one linear layer follow, it is the map of Grad-CAM.

    Args:
        model: Classifier that returns logits.
        layer: Module to read; None takes the last activation of more than one pixel that is not
            a pooling output (VGG-16: ``features.29``, ResNet: ``layer4``).

    Raises:
        LayerError: The model has no layer of that name, or no feature map at all.

    References:
        Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of
        convolutional neural networks", arXiv 2011.08891, 2020 (its defining equation).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        ...     torch.nn.Linear(144, 5)).eval()
        >>> HiResCAM(model).attribute(torch.rand(2, 3, 8, 8), torch.tensor([0, 3])).shape
        torch.Size([2, 1, 6, 6])
    """

    facts = Facts("hires_cam", "Draelos & Carin, arXiv 2020", "last map", signed=True)

    def _combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        return (gradient * activation).sum(1)
