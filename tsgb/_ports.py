"""Short cuts for relevance between one convolution and the next.

Whatever lies between two convolutions and works elementwise (batch norm, activations, factors)
passes relevance on as it is, and a convolution asks only for the sum of it over the channels of a
group. So a convolution leaves a *port* beside its output: a tensor [B, groups, H, W] whose gradient
is that sum. The next convolution answers with one value a location instead of one a channel, and
what lies between them is skipped, for every class.

A port is an attribute of the tensor that it belongs to. Elementwise operations carry it over. A
max-pool ends it and leaves one of its own, which only a convolution can take, since there relevance
is in proportion to the activation.
"""

from typing import TypeVar

from torch import Tensor

from tsgb.errors import LayerError

_T = TypeVar("_T", bound=Tensor)


def port_of(tensor: Tensor) -> Tensor | None:
    """The port that relevance of ``tensor`` may take, or None."""
    return getattr(tensor, "_tsgb_port", None)


def take_port(tensor: Tensor) -> Tensor | None:
    """The same for an operation that will use it."""
    port = port_of(tensor)
    if port is not None:
        tensor._tsgb_port_taken = True  # type: ignore[attr-defined]
    return port


def take_port_for_shares(tensor: Tensor, groups: int) -> Tensor | None:
    """The port for a convolution, which shares relevance in proportion inside each of its groups.

    That of a max-pool serves only groups that are unions of its own.
    """
    pooled: Tensor | None = getattr(tensor, "_tsgb_pool_port", None)
    if pooled is None or pooled.shape[1] % groups:
        return take_port(tensor)
    tensor._tsgb_port_taken = True  # type: ignore[attr-defined]
    return pooled


def with_port(tensor: _T, port: Tensor | None) -> _T:
    """``tensor`` with a port of its own."""
    tensor._tsgb_port = port  # type: ignore[attr-defined]
    return tensor


def with_pool_port(tensor: _T, port: Tensor | None) -> _T:
    """The output of a max-pool with a port of its own."""
    tensor._tsgb_pool_port = port  # type: ignore[attr-defined]
    return tensor


def close_port(tensor: object, layer: str, who: str) -> None:
    """Make relevance pass through ``tensor`` itself, since a map will be read there.

    Raises:
        LayerError: An operation inside of the layer has taken the port already.
    """
    if not isinstance(tensor, Tensor):
        return
    if getattr(tensor, "_tsgb_port_taken", False):
        raise LayerError(
            f"{who}: the output of layer {layer!r} was used inside of the layer before it was "
            "returned. Some relevance would go past the map that is read. Choose a layer that "
            "returns something new."
        )
    with_pool_port(with_port(tensor, None), None)


def is_rectified(tensor: Tensor) -> bool:
    """True for the output of a ReLU: never negative, and zeros pass nothing back."""
    return getattr(tensor, "_tsgb_rectified", False)


def rectified(tensor: _T) -> _T:
    """``tensor``, marked as the output of a ReLU."""
    tensor._tsgb_rectified = True  # type: ignore[attr-defined]
    return tensor
