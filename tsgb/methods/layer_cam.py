"""LayerCAM: every pixel of a feature map weighed by its own positive gradient."""

from torch import Tensor

from tsgb.facts import Facts
from tsgb.method import FeatureMapMethod


class LayerCAM(FeatureMapMethod):
    """Activations times the positive part of the logit's gradient, summed over channels.

    Evidence against the class is left out, so behind a ReLU no value is negative; ``clamp(min=0)``
    gives the paper's map for an activation of both signs. Weighing pixel by pixel makes sense at
    early layers too; fusing and scaling the maps of several layers is left to the caller.

    Args:
        model: Classifier that returns logits.
        layer: Module to read; None takes the last activation of more than one pixel that is not
            a pooling output (VGG-16: ``features.29``, ResNet: ``layer4``).

    Raises:
        LayerError: The model has no layer of that name, or no feature map at all.

    References:
        Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization",
        IEEE TIP 30, 2021 (equations 6 to 8, without the outer ReLU).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        ...     torch.nn.Linear(144, 5)).eval()
        >>> LayerCAM(model, layer="1").attribute(torch.rand(2, 3, 8, 8), torch.tensor([0, 3])).shape
        torch.Size([2, 1, 6, 6])
    """

    facts = Facts("layer_cam", "Jiang, TIP 2021", "last map")

    def _combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        return (gradient.clamp(min=0) * activation).sum(1)
