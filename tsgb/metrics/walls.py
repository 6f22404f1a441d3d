"""Can a method see through walls? A network that provably cannot see part of its images."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tsgb.errors import ShapeError
from tsgb.metrics.localisation import energy_pointing_game

_CELLS = 8  # of the last feature map, on a side
_SEEN = 4  # rows of them that the classifier reads
_CELL = 8  # px
_REACH = 14  # px by which a cell sees beyond its own: two 3 x 3 convolutions at 1, 2 and 4 px
_CLASSES = 5


class WalledNetwork(nn.Sequential):
    """A VGG-like network with random weights that cannot see the lowest 18 of its 64 rows.

    The linear classifier reads every place of an 8 x 8 map with weights of its own; those of the
    lower four rows of the map are zero. The upper four rows do not reach beyond row 45 of the
    image. So no logit depends on the rows from 46 on, and saliency there is false, whatever one
    expects of saliency elsewhere.

    Args:
        random_seed: Seed of the weights; the global random state is left as it was.

    References:
        Taimeskhanov et al., "CAM-Based Methods Can See through Walls", ECML PKDD 2024 (a VGG whose
        classifier has zeros for the lower part).

    Example:
        >>> import torch
        >>> network, images = WalledNetwork(), torch.rand(1, 3, 64, 64)
        >>> changed = torch.where(network.hidden, torch.rand(64, 64), images)
        >>> torch.equal(network(images), network(changed))
        True
    """

    def __init__(self, random_seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(random_seed)
            layers: list[nn.Module] = []
            for before, after in ((3, 16), (16, 32), (32, 64)):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
                layers += [nn.Conv2d(after, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            head = nn.Linear(64 * _CELLS * _CELLS, _CLASSES)
        super().__init__(*layers, nn.Flatten(), head)
        head.weight.data.view(_CLASSES, 64, _CELLS, _CELLS)[:, :, _SEEN:] = 0
        self.requires_grad_(requires_grad=False).eval()

    @property
    def hidden(self) -> Tensor:
        """True on the pixels that the network cannot see, [64, 64]."""
        rows = torch.arange(_CELLS * _CELL) >= _SEEN * _CELL + _REACH
        return rows[:, None].expand(-1, _CELLS * _CELL)

    def share_hidden(self, maps: Tensor) -> Tensor:
        """Share of the absolute saliency behind the wall.

        Args:
            maps: Raw maps of images of 64 x 64 px, [B, h, w]; stretched bilinearly. A map of
                at least 8 x 8 that ends where the network's view ends is not smeared over the
                wall by that.

        Returns:
            One share per map, [B], in [0, 1]; all but 0 is an error of the method. A constant map
            has .281.

        Raises:
            NonFiniteError: A map holds NaN or infinity.
            ShapeError: ``maps`` is not [B, h, w].
        """
        if maps.dim() != 3:
            raise ShapeError(
                f"share_hidden: maps are {tuple(maps.shape)}, expected [B, h, w]. Rows and classes "
                "could not be told apart. Give one class at a time with maps[:, k]."
            )
        large = functional.interpolate(maps[:, None].abs(), self.hidden.shape, mode="bilinear")
        return energy_pointing_game(large[:, 0], self.hidden.expand(len(maps), -1, -1))
