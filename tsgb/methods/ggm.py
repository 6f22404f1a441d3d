"""GGM: Grad-CAM rectified by a global guidance map."""

from typing import Literal

import torch
from torch import Tensor, nn

from tsgb.errors import check_choice
from tsgb.facts import Facts
from tsgb.method import FeatureMapMethod

Guidance = Literal["relu", "raw", "min_max", "channel"]
Normalisation = Literal["max", "none"]
BaseReLU = Literal["before", "after"]


class GGM(FeatureMapMethod):
    """The Grad-CAM map times a guidance map of activations times gradients.

    Reconstructed from the abstract: neither the paper's equations nor any code of its authors
    could be consulted, and where the abstract does not decide there is an option. With A the
    activation and G the logit's gradient, ``base = sum_c mean(G_c) A_c`` (Grad-CAM),
    ``guidance = sum_c G_c A_c`` (HiResCAM) and the map is
    ``relu(base) * relu(guidance) / max(guidance)``. It is as large as the layer, and neither
    resized nor scaled to [0, 1].

    On a network that ends in global average pooling and one linear layer (ResNet, DenseNet,
    MobileNet), base and guidance at the last layer are the same map: the result is the square of
    Grad-CAM, which ranks its pixels as Grad-CAM does. The two differ for a head with weights of its
    own for every position (VGG), at an earlier layer, and with guidance by channel.

    Args:
        model: Classifier that returns logits.
        layer: Module to read; None takes the last activation of more than one pixel that is not
            a pooling output (VGG-16: ``features.29``, ResNet: ``layer4``).
        guidance: Negative guidance is set to 0 ("relu") or kept ("raw"), or each guidance map is
            shifted and scaled to [0, 1] ("min_max"; a constant one becomes 0). Or there is no map
            but one number for each channel, ``w_c = sum(G_c A_c)``, which takes the place of
            Grad-CAM's weight: ``relu(sum_c w_c A_c)`` ("channel").
        normalisation: The guidance of each class is divided by its largest absolute value ("max")
            or not ("none"). This changes the scale of a map only.
        base_relu: Negative values are cut off in the Grad-CAM map ("before") or in the product
            ("after"). The same unless the guidance is "raw": "before" then gives a signed map,
            and in "after" two negative factors make a positive value.

    Raises:
        LayerError: The model has no layer of that name, or no feature map at all.
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

    facts = Facts("ggm", "Fahim, Sensors 2022 (abstract)", "last map")

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
        evidence = gradient * activation
        if self._guidance == "channel":
            weights = self._scaled(evidence.sum((2, 3), keepdim=True))
            return (weights * activation).sum(1).clamp(min=0)
        base = (gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True)
        guidance = self._scaled(self._shifted(evidence.sum(1, keepdim=True)))
        if self._base_relu == "before":
            return (base.clamp(min=0) * guidance)[:, 0]
        return (base * guidance).clamp(min=0)[:, 0]

    def _shifted(self, guidance: Tensor) -> Tensor:
        if self._guidance == "relu":
            return guidance.clamp(min=0)
        if self._guidance == "min_max":
            return guidance - guidance.amin((2, 3), keepdim=True)
        return guidance

    def _scaled(self, guidance: Tensor) -> Tensor:
        """Divided by the largest absolute value of each image; zeros stay zeros."""
        if self._guidance != "min_max" and self._normalisation == "none":
            return guidance
        largest = guidance.abs().amax((1, 2, 3), keepdim=True)
        return guidance / torch.where(largest == 0, 1, largest)
