"""GGM: Grad-CAM rectified by a global guidance map."""

from typing import Literal

import torch
from torch import Tensor, nn

from tsgb.errors import check_choice
from tsgb.method import FeatureMapMethod

Guidance = Literal["relu", "raw", "min_max"]
Normalisation = Literal["max", "none"]
BaseReLU = Literal["before", "after"]


class GGM(FeatureMapMethod):
    """The Grad-CAM map times a guidance map of activations times gradients.

    Reconstructed from the abstract: neither the paper's equations nor any code of its authors
    could be consulted, and what the abstract leaves open is an option. With A the activation and
    G the logit's gradient, ``base = sum_c mean(G_c) A_c`` (Grad-CAM), ``guidance = sum_c G_c A_c``
    (HiResCAM) and the map is ``relu(base) * relu(guidance) / max(guidance)``. It is as large as
    the layer, and neither resized nor scaled to [0, 1].

    On a network that ends in global average pooling and one linear layer (ResNet, DenseNet,
    MobileNet), base and guidance at the last layer are the same map: what comes out is the square
    of Grad-CAM, which ranks its pixels as Grad-CAM does. Only a head with weights of its own for
    every position (VGG) or an earlier layer brings anything new.

    Args:
        model: Classifier that returns logits.
        layer: Module to read; None takes the last activation of more than one pixel that is not
            a pooling output (VGG-16: ``features.29``, ResNet: ``layer4``).
        guidance: Negative guidance is set to 0 ("relu") or kept ("raw"), or each guidance map is
            shifted and scaled to [0, 1] ("min_max"; a constant one becomes 0).
        normalisation: Each guidance map is divided by its largest absolute value ("max") or not
            ("none"). This changes the scale of a map only.
        base_relu: Negative values are cut off in the Grad-CAM map ("before") or in the product
            ("after"). The same unless the guidance is "raw": "before" then gives a signed map,
            and in "after" two negative factors make a positive value.

    Raises:
        LayerError: The model has no such layer, or no feature map at all.
        ValueError: An option has none of the values above.

    References:
        Fahim et al., "Rethinking gradient weights' influence over saliency map estimation",
        Sensors 22(17), 6516, 2022 (abstract).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        ...     torch.nn.Linear(144, 5)).eval()
        >>> GGM(model).attribute(torch.rand(2, 3, 8, 8), torch.tensor([0, 3])).shape
        torch.Size([2, 1, 6, 6])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        layer: str | None = None,
        guidance: Guidance = "relu",
        normalisation: Normalisation = "max",
        base_relu: BaseReLU = "before",
    ) -> None:
        super().__init__(model, layer=layer)
        check_choice("GGM", "guidance", guidance, Guidance)
        check_choice("GGM", "normalisation", normalisation, Normalisation)
        check_choice("GGM", "base_relu", base_relu, BaseReLU)
        self._guidance = guidance
        self._normalisation = normalisation
        self._base_relu = base_relu

    def _combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        base = (gradient.mean((2, 3), keepdim=True) * activation).sum(1)
        guidance = self._prepared((gradient * activation).sum(1))
        if self._base_relu == "before":
            return base.clamp(min=0) * guidance
        return (base * guidance).clamp(min=0)

    def _prepared(self, guidance: Tensor) -> Tensor:
        if self._guidance == "relu":
            guidance = guidance.clamp(min=0)
        elif self._guidance == "min_max":
            guidance = guidance - guidance.amin((1, 2), keepdim=True)
        if self._guidance == "min_max" or self._normalisation == "max":
            guidance = _divided_by_largest(guidance)
        return guidance


def _divided_by_largest(maps: Tensor) -> Tensor:
    """Each of the maps [B, h, w] divided by its largest absolute value; a zero map stays zero."""
    largest = maps.abs().amax((1, 2), keepdim=True)
    return maps / torch.where(largest == 0, 1, largest)
