"""Product: the geometric mean of a fine map and a coarse one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tsgb._composition import Composable, base_method
from tsgb._engine.forward import IMAGE, Forward
from tsgb.facts import Facts
from tsgb.method import Method
from tsgb.methods.cam import CAM
from tsgb.methods.tsgb import TSGB


class Product(Method):
    """Weighted geometric mean of two methods' maps: high only where both are.

    A fine map follows outlines and strays to other objects; a coarse one finds the right object
    and spills over its edge. Each map is enlarged bilinearly to the larger height and the larger
    width of the two, clamped at 0 and divided by its maximum, image by image and class by class;
    the product is ``fine^(1 - weight) * coarse^weight``. Values are in [0, 1]. If one of the two
    has no positive value for a class, the product is zero.

    With TSGB as ``fine`` and CAM as ``coarse``, both are read from TSGB's forward pass, whose
    activations are those of the network (with ``batchnorm_eps="published"``, those that TSGB
    explains). Any other pair takes a forward pass for each.

    Args:
        model: Classifier that returns logits and that both methods accept.
        fine: One method, as its class, or as ``functools.partial`` of the class and options. The
            logits are those of its forward pass.
        coarse: The other method, likewise. For a product of three, a partial of this class.
        weight: Exponent of the coarse map, in (0, 1).

    Raises:
        TypeError: ``fine`` or ``coarse`` has its model already, or does not make a method.
        ValueError: ``weight`` is not between 0 and 1.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        ...     torch.nn.Flatten(), torch.nn.Linear(4, 5)).eval()
        >>> Product(model).attribute(torch.rand(2, 3, 9, 9), torch.tensor([[0, 3], [4, -1]])).shape
        torch.Size([2, 2, 9, 9])
    """

    facts = Facts("product", "", "the finer of two", "both of its methods", networks="its base's")

    def __init__(
        self,
        model: nn.Module,
        *,
        fine: Callable[[nn.Module], Method] = TSGB,
        coarse: Callable[[nn.Module], Method] = CAM,
        weight: float = 0.5,
    ) -> None:
        super().__init__(model)
        if not 0 < weight < 1:
            raise ValueError(
                f"{self._name}: weight is {weight}. One of the two maps would not count. Use a "
                "number between 0 and 1, or that method alone."
            )
        self._fine: Composable = base_method(self._name, fine, model, argument="fine")
        self._coarse: Composable = base_method(self._name, coarse, model, argument="coarse")
        self._weight = weight
        # CAM takes no gradient: activations and the classifier's weights are all that it reads.
        self._one_pass = isinstance(self._fine, TSGB) and isinstance(self._coarse, CAM)

    @property
    def layers_read(self) -> tuple[str, ...]:
        """Those of ``fine``, and those of CAM if it is read from the same pass."""
        if not self._one_pass or not self._coarse.layers_read:
            return self._fine.layers_read
        return (*(self._fine.layers_read or [IMAGE]), *self._coarse.layers_read)

    def run(self, images: Tensor, targets: Tensor, layers: Sequence[str]) -> tuple[Forward, Tensor]:
        """The forward pass of ``fine``."""
        return self._fine.run(images, targets, layers)

    def _maps(self, forward: Forward, targets: Tensor) -> Tensor:
        fine = self._fine.maps_from(forward, targets)
        if self._one_pass:
            coarse = self._coarse.maps_from(forward, targets)
        else:
            coarse = self._coarse.attribute(forward.images.detach(), targets)
        size = (max(fine.shape[2], coarse.shape[2]), max(fine.shape[3], coarse.shape[3]))
        return _share(fine, size) ** (1 - self._weight) * _share(coarse, size) ** self._weight


def _share(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The positive part of maps [B, K, h, w] at ``size``, as a share of its maximum."""
    large = functional.interpolate(maps, size, mode="bilinear", align_corners=False).clamp(min=0)
    highest = large.amax((2, 3), keepdim=True)
    return large / highest.clamp(min=torch.finfo(large.dtype).tiny)
