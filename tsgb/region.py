"""A region as target: what speaks for a class in one part of a segmentation network's output."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from tsgb.errors import ShapeError


class RegionLogits(nn.Module):
    """Logits [B, classes] of a segmentation network: the mean of its dense logits over a region.

    With it every method explains a class *in a region*: an object, a pixel, the rim of a mistake.
    The layers of the network keep their names: ``layer="encoder.layer4"`` is what it was.

    The mean is linear, as the resizing of the logits is that many networks end in, so a region's
    logit is a weighted mean of what the last convolution says at its pixels. Three things follow.

    * Methods with ordinary gradients need nothing new.
    * TSGB: above the classifier everything has its plain gradient, which for a linear map without
      bias is the same as dividing relevance in proportion to contributions. The classifier is the
      last convolution, of any kernel size, and TSGB-FC holds at each of its pixels: each weighs
      the evidence in its own window. So pixels are decided one by one, as the network does it, and
      the map of a region is the mean of the maps of its pixels.
    * Excitation backprop and PANE: a pixel of the region is drawn at random, and the class wins
      there; relevance is not divided in proportion to logits, which may be negative.

    A method that reads at the last feature map by default would read the dense logits themselves.
    It asks for a layer instead.

    Args:
        model: Network that returns dense logits [B, classes, h, w] and nothing else.
        regions: Where the logits count, one region [h, w] for all images or one for each image
            [B, h, w]; bool, as large as the dense logits. Methods that send several copies of a
            batch through the network at once (IntegratedGradients) need one for all, or their
            ``batch_size=1``.

    Raises:
        ShapeError: ``regions`` is not bool, has another shape, or is empty for some image.

    Example:
        >>> from tsgb import TSGB
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1))
        >>> region = torch.zeros(8, 8, dtype=torch.bool).index_fill(0, torch.arange(3), True)
        >>> method = TSGB(RegionLogits(network.eval(), region))
        >>> method.attribute(torch.rand(2, 3, 8, 8), torch.tensor([[0, 3], [4, -1]])).shape
        torch.Size([2, 2, 8, 8])
    """

    regions: Tensor

    def __init__(self, model: nn.Module, regions: Tensor) -> None:
        super().__init__()
        _check_regions(regions)
        self.model = model
        self.register_buffer("regions", regions, persistent=False)
        self.training = model.training

    def forward(self, images: Tensor) -> Tensor:
        """[B, classes].

        Raises:
            ShapeError: The network returns something else than dense logits, or they have another
                size than the regions.
        """
        dense = self.model(images)
        _check_dense(dense, self.regions)
        return region_mean(dense, self.regions)

    def __getattr__(self, name: str) -> Any:
        """Attributes that this module does not have are those of the network."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            model = self.__dict__.get("_modules", {}).get("model")
            if model is None:
                raise
            return getattr(model, name)


def region_mean(dense: Tensor, regions: Tensor) -> Tensor:
    """Mean of ``dense`` [B, classes, h, w] over each region: [B, classes].

    One operation of its own, so that a method can tell the choice of a region from a product of
    activations.

    Args:
        dense: Dense logits.
        regions: [h, w] or [B, h, w], bool.

    Example:
        >>> dense = torch.arange(8.0).view(1, 2, 2, 2)
        >>> region_mean(dense, torch.tensor([[True, True], [False, False]]))
        tensor([[0.5000, 4.5000]])
    """
    if has_torch_function((dense, regions)):
        answer: Tensor = handle_torch_function(region_mean, (dense, regions), dense, regions)
        return answer
    weights = regions.to(dense)
    weights = weights / weights.sum((-2, -1), keepdim=True)
    return (dense * weights.expand(len(dense), -1, -1)[:, None]).sum((2, 3))


def _check_regions(regions: Tensor) -> None:
    if (
        not isinstance(regions, Tensor)
        or regions.dtype != torch.bool
        or regions.dim() not in (2, 3)
    ):
        what = (
            f"{tuple(regions.shape)} of {regions.dtype}"
            if isinstance(regions, Tensor)
            else type(regions).__name__
        )
        raise ShapeError(
            f"RegionLogits: regions are {what}, expected bool [h, w] or [B, h, w]. "
            "Compare with a number to get one, such as labels == 15."
        )
    empty = ~regions.flatten(-2).any(-1)
    if empty.any():
        which = (
            "the region" if regions.dim() == 2 else f"the region of image {int(empty.nonzero()[0])}"
        )
        raise ShapeError(
            f"RegionLogits: {which} is empty. A mean over no pixels is not a number. "
            "Leave such images out."
        )


def _check_dense(dense: Any, regions: Tensor) -> None:
    if not isinstance(dense, Tensor) or dense.dim() != 4:
        what = tuple(dense.shape) if isinstance(dense, Tensor) else type(dense).__name__
        raise ShapeError(
            f"RegionLogits: the model returned {what}, expected dense logits [B, classes, h, w]. "
            "There are no pixels to choose. Wrap the model so that it returns them only, such as "
            'model(images)["out"] for torchvision.'
        )
    if dense.shape[-2:] != regions.shape[-2:]:
        raise ShapeError(
            f"RegionLogits: regions are {tuple(regions.shape)}, the dense logits "
            f"{tuple(dense.shape)}. Resize the regions, for example with "
            "torch.nn.functional.interpolate(mode='nearest')."
        )
    if regions.dim() == 3 and len(regions) != len(dense):
        raise ShapeError(
            f"RegionLogits: there are {len(regions)} regions for {len(dense)} images. Pass one for "
            "each image or one [h, w] for all; IntegratedGradients stacks copies of a batch unless "
            "batch_size is 1."
        )
