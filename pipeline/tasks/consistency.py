"""Class maps that stay where they are when the image shrinks: a loss without any label of a place.

References:
    Wang et al., "Self-supervised Equivariant Attention Mechanism for Weakly Supervised Semantic
    Segmentation" (SEAM), CVPR 2020: the equivariant regularisation. Here it stands alone, with
    maps of one branch and without a background plane.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import conv2d

_TINY = 1e-5  # keeps a map without positive values at zero


def class_maps(features: Tensor, weight: Tensor) -> Tensor:
    """CAM of every class, clamped at zero and divided by its maximum.

    Args:
        features: Last feature maps, [B, C, h, w].
        weight: Of the linear layer on their means, [K, C].

    Returns:
        float32 [B, K, h, w] in [0, 1].

    Example:
        >>> import torch
        >>> class_maps(torch.tensor([[[[1.0, 4.0]]]]), torch.tensor([[2.0]]))
        tensor([[[[0.2500, 1.0000]]]])
    """
    maps = conv2d(features, weight[:, :, None, None]).float().clamp(min=0)
    return maps / maps.amax((-2, -1), keepdim=True).clamp(min=_TINY)


def inconsistency(large: Tensor, small: Tensor, labels: Tensor) -> Tensor:
    """Mean distance of the maps of two sizes of the same images, over places, classes and images.

    A class that an image does not show counts as 0, so that the number is on the scale of the
    classification loss, which is a mean over all classes too.

    Args:
        large: Class maps [B, K, H, W].
        small: Of the images at half their size, [B, K, h, w]. At a stride of n px their place j is
            that of 2 j in the large ones, pixel 2 n j of the image.
        labels: 1 for the classes that an image shows, [B, K].

    Returns:
        A number in [0, 1].

    Example:
        >>> import torch
        >>> inconsistency(torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 2, 2), torch.ones(1, 2))
        tensor(1.)
    """
    rows, columns = small.shape[-2:]
    same = large[..., ::2, ::2][..., :rows, :columns]
    distances = (same - small[..., : same.shape[-2], : same.shape[-1]]).abs().mean((-2, -1))
    return (distances * labels).mean()
