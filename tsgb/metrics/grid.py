"""The grid pointing game: mosaics of images of different classes, one of which is explained."""

import math

import torch
from torch import Tensor

from tsgb.errors import ShapeError
from tsgb.metrics._checks import check_positive
from tsgb.metrics.localisation import energy_pointing_game


def mosaic(images: Tensor) -> Tensor:
    """One image of n x n images, which lie in reading order.

    Args:
        images: n * n images of one size, [n * n, C, H, W].

    Returns:
        The mosaic, [1, C, n * H, n * W].

    Raises:
        ShapeError: ``images`` is not [n * n, C, H, W].

    Example:
        >>> import torch
        >>> mosaic(torch.arange(4.0).view(4, 1, 1, 1))
        tensor([[[[0., 1.],
                  [2., 3.]]]])
    """
    side = math.isqrt(len(images)) if images.dim() == 4 else 0
    if not side or side**2 != len(images):
        raise ShapeError(
            f"mosaic: images are {tuple(images.shape)}, expected [n * n, C, H, W]. They would not "
            "fill a square. Give 4 or 9 images of one size."
        )
    return torch.cat([torch.cat(list(row), 2) for row in images.split(side)], 1)[None]


def grid_pointing_game(saliency: Tensor, cells: Tensor, side: int = 2) -> Tensor:
    """Share of the positive saliency that lies in the cell of the explained class.

    The maps explain mosaics (:func:`mosaic`) of images of different classes; only one cell of a
    mosaic shows the target. Negative saliency counts as zero; a map without positive saliency
    scores 0, and a constant one ``1 / side**2``.

    Args:
        saliency: One map per mosaic, [B, H, W], H and W multiples of ``side``; stretch coarse
            maps to the mosaic.
        cells: Cell of the target in reading order, from 0, [B].
        side: Images on a side of the mosaic.

    Returns:
        One share per map, [B], in [0, 1]; higher is better.

    Raises:
        NonFiniteError: ``saliency`` holds NaN or infinity.
        ShapeError: ``saliency`` cannot be divided into cells, or ``cells`` is not [B] whole
            numbers.
        ValueError: A cell or ``side`` is out of range.

    References:
        Boehle et al., "Convolutional Dynamic Alignment Networks for Interpretable
        Classifications", CVPR 2021 (localisation metric); Rao et al., "Towards Better
        Understanding Attribution Methods", CVPR 2022 (GridPG: sum of the positive attributions in
        the cell over the sum in all cells).

    Example:
        >>> import torch
        >>> saliency = torch.tensor([[[3.0, 1.0], [0.0, -5.0]]])
        >>> grid_pointing_game(saliency, torch.tensor([0]))
        tensor([0.7500])
    """
    check_positive("grid_pointing_game", "side", side)
    _check(saliency, cells, side)
    inside = cell_of_pixel(saliency, side) == cells.to(saliency.device)[:, None, None]
    return energy_pointing_game(saliency, inside)


def cell_of_pixel(maps: Tensor, side: int) -> Tensor:
    """Number in reading order of the cell of each pixel of maps [..., H, W], [H, W]."""
    rows, columns = (torch.arange(n, device=maps.device) * side // n for n in maps.shape[-2:])
    return rows[:, None] * side + columns


def _check(saliency: Tensor, cells: Tensor, side: int) -> None:
    fits = saliency.dim() == 3 and not any(n % side for n in saliency.shape[1:])
    if not fits or cells.shape != saliency.shape[:1] or cells.dtype != torch.int64:
        raise ShapeError(
            f"grid_pointing_game: saliency is {tuple(saliency.shape)} and cells are "
            f"{tuple(cells.shape)} of {cells.dtype}, expected [B, H, W] with H and W multiples of "
            f"{side}, and [B] of torch.int64. Pixels would lie in no cell. Stretch the maps to "
            "the mosaic with torch.nn.functional.interpolate()."
        )
    if ((cells < 0) | (cells >= side**2)).any():
        raise ValueError(
            f"grid_pointing_game: cells are {cells.tolist()}, and the mosaic has {side**2}. "
            f"No saliency can lie in another. Use 0 to {side**2 - 1}."
        )
