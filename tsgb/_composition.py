"""Methods that are made of other methods: what they ask of them, and how they are given them."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor, nn

from tsgb._engine.forward import Forward
from tsgb.method import Method


class Composable(Protocol):
    """A method whose forward pass another method may use; every :class:`tsgb.Method` is one.

    ``run`` and ``maps_from`` are called inside of :meth:`tsgb.Method.attribute` of the other
    method, which has chosen the device's settings and checks the maps.
    """

    @property
    def layers_read(self) -> tuple[str, ...]:
        """Layers that its maps are read from; none: the image, or the last feature map."""

    def run(self, images: Tensor, targets: Tensor, layers: Sequence[str]) -> tuple[Forward, Tensor]:
        """A forward pass to read ``layers`` from, and the targets as [B, K]."""

    def maps_from(self, forward: Forward, targets: Tensor) -> Tensor:
        """Raw maps [B, K, h, w] for ``targets`` [B, K] from such a pass."""

    def attribute(self, images: Tensor, targets: Tensor) -> Tensor:
        """Maps from a forward pass of its own."""


def base_method(
    who: str, base: Callable[[nn.Module], Method], model: nn.Module, *, argument: str = "base"
) -> Method:
    """``base(model)``, which must be a saliency method.

    Args:
        who: The method that is made of it, for messages.
        base: Makes the method from a model.
        model: The model that is explained.
        argument: The argument of ``who`` that is ``base``, for messages.

    Raises:
        TypeError: ``base`` is a method that has its model already, or does not make a method.
    """
    remedy = "Pass the class itself, or functools.partial of the class and its options."
    if isinstance(base, Method):
        raise TypeError(
            f"{who}: {argument} is a {type(base).__name__} of some model. It might be of another "
            f"model than the one that is explained. {remedy}"
        )
    method = base(model) if callable(base) else None
    if not isinstance(method, Method):
        raise TypeError(
            f"{who}: {argument} is {base!r}, which does not make a saliency method. {remedy}"
        )
    return method
