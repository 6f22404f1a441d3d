"""Gradual extrapolation: a coarse map sharpened with the activations of the same forward pass."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from tsgb._composition import Composable, base_method
from tsgb._engine.forward import IMAGE, Forward
from tsgb.errors import ShapeError, check_choice
from tsgb.facts import Facts
from tsgb.method import Method
from tsgb.methods.grad_cam import GradCAM

Statistics = Literal["image", "batch"]


def extrapolate(
    maps: Tensor,
    excitations: Sequence[Tensor],
    *,
    statistics: Statistics = "image",
    rectify: bool = False,
) -> Tensor:
    """Maps as large as the largest excitation, sharpened by the excitations on the way there.

    The excitations are used from the deepest to the shallowest. One that is larger than the map
    enlarges it to its own size, bilinearly, and multiplies it by the excitation's sum over
    channels, as a share of its largest value. So every size is used once, with the last excitation
    that has it. The result is raw: the published standardisation saturates the strongest values and
    is left to the drawing.

    An excitation without a positive value changes the size only.

    Args:
        maps: [B, K, h, w] of any method, raw.
        excitations: [B, C, H, W] each, in the order of the forward pass: the image or the input of
            the first pool, then the outputs of max-pools and strided convolutions.
        statistics: The largest value is that of each image ("image"), or of the whole batch, as
            published ("batch"), which lets a map depend on its neighbours.
        rectify: Leave out negative activations. They exist because a strided convolution is read
            before its activation function, as published, and can turn the sign of a map.

    Raises:
        ShapeError: Maps or an excitation are not 4-dimensional or not of the same batch.
        ValueError: ``statistics`` is unknown.

    References:
        Szandala, "Enhancing Deep Neural Network Saliency Visualizations With Gradual
        Extrapolation", IEEE Access 9, 2021, after the author's later code.

    Example:
        >>> import torch
        >>> coarse = torch.tensor([[[[1.0]]]])
        >>> excitation = torch.tensor([[[[1.0, 4.0], [0.0, 2.0]]]])
        >>> extrapolate(coarse, [excitation])
        tensor([[[[0.2500, 1.0000],
                  [0.0000, 0.5000]]]])
    """
    check_choice("extrapolate", "statistics", statistics, Statistics)
    for excitation in reversed(excitations):
        _check_shapes(maps, excitation)
        height, width = excitation.shape[-2:]
        if maps.shape[-2] >= height and maps.shape[-1] >= width:
            continue
        maps = functional.interpolate(maps, (height, width), mode="bilinear", align_corners=False)
        maps = maps * _weights(excitation.clamp(min=0) if rectify else excitation, statistics)
    return maps


class GradualExtrapolation(Method):
    """Another method's maps, sharpened by :func:`extrapolate` with the same forward pass.

    They are raw, signed as the other method's are, and as large as the first excitation: the image
    if the network begins with a strided convolution, else the input of its first pool, or the first
    of ``layers``.

    Args:
        model: Classifier that returns logits and that the other method accepts.
        base: The other method, as its class, or as ``functools.partial`` of the class and options.
        statistics: See :func:`extrapolate`.
        rectify: See :func:`extrapolate`. Without it, a network that begins with a strided
            convolution multiplies its map by the normalised image, which turns the sign where the
            image is dark.
        layers: Modules whose outputs are the excitations, in the order of the forward pass, for
            networks that shrink by average pooling (DenseNet). Without names the published ones are
            used.

    Raises:
        LayerError: The model has no layer of that name.
        TypeError: ``base`` is a method that has its model already, or does not make a method.
        ValueError: ``statistics`` is unknown.

    References:
        Szandala, IEEE Access 9, 2021, after the author's later code.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        ...     torch.nn.Flatten(), torch.nn.Linear(4, 5)).eval()
        >>> GradualExtrapolation(model).attribute(torch.rand(1, 3, 9, 9), torch.tensor([2])).shape
        torch.Size([1, 1, 9, 9])
    """

    facts = Facts(
        "gradual_extrapolation", "Szandala, Access 2021", "first pool", "its base's",
        signed=None, networks="its base's",
    )  # fmt: skip

    def __init__(
        self,
        model: nn.Module,
        *,
        base: Callable[[nn.Module], Method] = GradCAM,
        statistics: Statistics = "image",
        rectify: bool = False,
        layers: Sequence[str] = (),
    ) -> None:
        super().__init__(model)
        check_choice("extrapolate", "statistics", statistics, Statistics)
        if layers:
            self._check_layers(layers)
        self._layers = tuple(layers)
        self._base: Composable = base_method(self._name, base, model)
        self._statistics: Statistics = statistics
        self._rectify = rectify

    @property
    def layers_read(self) -> tuple[str, ...]:
        """Those of the other method, and the layers that are named as excitations."""
        if not self._layers:
            return self._base.layers_read
        return (*(self._base.layers_read or [IMAGE]), *self._layers)

    def run(self, images: Tensor, targets: Tensor, layers: Sequence[str]) -> tuple[Forward, Tensor]:
        """The forward pass of the other method."""
        return self._base.run(images, targets, layers)

    def _maps(self, forward: Forward, targets: Tensor) -> Tensor:
        named = [forward.activations[layer].detach() for layer in self._layers]
        return extrapolate(
            self._base.maps_from(forward, targets),
            named or forward.excitations,
            statistics=self._statistics,
            rectify=self._rectify,
        )


def _weights(excitation: Tensor, statistics: Statistics) -> Tensor:
    """The excitation's sum over channels, as a share of its largest value: [B, 1, H, W]."""
    axes = (1, 2, 3) if statistics == "image" else (0, 1, 2, 3)
    largest = excitation.amax(axes, keepdim=True)
    weights = excitation.sum(1, keepdim=True) / largest.clamp(min=0)
    return weights.where(largest > 0, 1.0)


def _check_shapes(maps: Tensor, excitation: Tensor) -> None:
    if maps.dim() != 4 or excitation.dim() != 4 or len(maps) != len(excitation):
        raise ShapeError(
            f"extrapolate: maps have shape {tuple(maps.shape)}, an excitation "
            f"{tuple(excitation.shape)}. Maps would be weighed with other images. "
            "Pass [B, K, h, w] and [B, C, H, W] of the same batch."
        )
