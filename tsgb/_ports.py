"""Short cuts for relevance between one convolution and the next.

Whatever lies between two convolutions and works elementwise (batch norm, activations, factors)
passes relevance on as it is, and a convolution asks only for the sum of it over the channels of a
group. So a convolution leaves a *port* beside its output: a tensor [B, groups, H, W] whose gradient
is that sum. The next convolution answers with one value a location instead of one a channel. What
lies between them is skipped in every backward sweep, and nothing of it has to be kept.

A port is an attribute of the tensor that it belongs to. Elementwise operations carry it over. Any
other operation opens it: it works on a copy whose gradient leads into the port. A max-pool ends it
and leaves one of its own, which only a convolution can take, since there relevance is in proportion
to the activation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from tsgb._box import Window
from tsgb._conv_rule import PassageRule
from tsgb._rules import OpenRule, SealedRule, group_sum
from tsgb.errors import LayerError

_T = TypeVar("_T", bound=Tensor)


@dataclass(frozen=True)
class Port:
    """Where relevance of a tensor may go.

    Attributes:
        entry: [B, groups, H, W], an output of the convolution behind the port.
        features: Input of that convolution if it may turn out to be the classifier.
        output: Its output, likewise; None where that is the tensor itself.
        steps: What has been done to the output since, likewise.
        masked: Whether that may have made zeros, as a ReLU does. They take no relevance, so an
            operation that makes something else of zeros has to open the port.
        passage: How to go past that convolution too, if it is a grouped one.
    """

    entry: Tensor
    features: Tensor | None = None
    output: Tensor | None = None
    steps: Sequence[Callable[[Tensor], Tensor]] = ()
    masked: bool = False
    passage: "Passage | None" = None


@dataclass(frozen=True)
class Passage:
    """What :class:`tsgb._conv_rule.PassageRule` needs of a grouped convolution.

    Attributes:
        entry: [B, 1, H, W], of the port of its input.
        sums: Of ``|x|`` over the channels of each group at its input, [B, groups, H, W].
        window: Its geometry.
        groups: Of channels; relevance is shared inside each.
    """

    entry: Tensor
    sums: Tensor
    window: Window
    groups: int


def port_of(tensor: Tensor) -> Port | None:
    """The port that relevance of ``tensor`` may take, or None."""
    return getattr(tensor, "_tsgb_port", None)


def has_port(tensor: Tensor) -> bool:
    """True if relevance of ``tensor`` may go past it, through its port or that of a max-pool."""
    return port_of(tensor) is not None or getattr(tensor, "_tsgb_pool_port", None) is not None


def with_port(tensor: _T, port: Port | None) -> _T:
    """``tensor`` with a port of its own."""
    tensor._tsgb_port = port  # type: ignore[attr-defined]
    return tensor


def with_pool_port(tensor: _T, port: Port | None) -> _T:
    """The output of a max-pool with a port of its own."""
    tensor._tsgb_pool_port = port  # type: ignore[attr-defined]
    return tensor


def without_short_cuts(tensor: _T) -> _T:
    """``tensor``, which has no port of its own, and whose relevance will not go past it."""
    return with_pool_port(tensor, None)


def past(
    function: Callable[[Tensor], Tensor], tensor: Tensor, port: Port, *, masks: bool
) -> Tensor:
    """An elementwise operation on ``tensor``; relevance will go past it."""
    _take(tensor, port)
    port = replace(port, masked=port.masked or masks)
    if port.features is not None:
        output = tensor if port.output is None else port.output
        port = replace(port, output=output, steps=(*port.steps, function))
    return with_port(SealedRule.apply(tensor, function), port)


def divides_by_size(tensor: Tensor, groups: int) -> bool:
    """True if the port for a convolution divides what it is given among channels by ``|x|``.

    That of a max-pool does so, and one that leads past a grouped convolution. It is right for
    whatever shares relevance in proportion to ``|x|``, and wrong for the classifier.
    """
    if _pool_port_for(tensor, groups) is not None:
        return True
    port = port_of(tensor)
    return groups == 1 and port is not None and port.passage is not None


def _pool_port_for(tensor: Tensor, groups: int) -> Port | None:
    """The port of a max-pool, which serves only groups that are unions of its own."""
    pooled: Port | None = getattr(tensor, "_tsgb_pool_port", None)
    return pooled if pooled is not None and pooled.entry.shape[1] % groups == 0 else None


def entry_for_shares(tensor: Tensor, groups: int) -> Tensor | None:
    """Entry of the port for a convolution, which shares relevance inside each of its groups."""
    pooled = _pool_port_for(tensor, groups)
    if pooled is not None:
        return _take(tensor, pooled)
    port = port_of(tensor)
    if port is None:
        return None
    if port.passage is None or groups > 1:
        return _take(tensor, port)
    _take(tensor, port)
    passage, after = port.passage, tensor.detach()
    after = group_sum(after if is_rectified(tensor) else after.abs(), passage.groups)
    entry: Tensor = PassageRule.apply(passage.entry, passage.sums, after, passage.window)
    return entry


def entry_for_classifier(tensor: Tensor) -> Tensor | None:
    """Entry of the port for a convolution that knows what each channel is to have."""
    port = port_of(tensor)
    return None if port is None else _take(tensor, port)


def entry_for_maxima(tensor: Tensor) -> Tensor | None:
    """Entry of the port for a max-pool; None if the classifier may be behind it."""
    port = port_of(tensor)
    return None if port is None or port.features is not None else _take(tensor, port)


def _take(tensor: Tensor, port: Port) -> Tensor:
    """Entry of ``port``, by which relevance may go past ``tensor`` from now on."""
    tensor._tsgb_port_taken = True  # type: ignore[attr-defined]
    return port.entry


def opened(tensor: Tensor) -> Tensor:
    """``tensor``, or if it has a port the same values with a gradient that leads into it."""
    port = port_of(tensor)
    if port is None:
        return tensor
    known: Tensor | None = getattr(tensor, "_tsgb_opened", None)
    if known is None:
        output = tensor if port.output is None and port.features is not None else port.output
        known = OpenRule.apply(tensor.detach(), port.entry, output, port.features, port.steps)
        known = rectified(known) if is_rectified(tensor) else known
        tensor._tsgb_opened = known  # type: ignore[attr-defined]
    return known


def check_unused(tensor: Tensor, layer: str, who: str) -> None:
    """Raise unless all relevance can be made to pass through ``tensor``, the output of a layer.

    Raises:
        LayerError: An operation has taken a way past it already.
    """
    if getattr(tensor, "_tsgb_port_taken", False):
        raise LayerError(
            f"{who}: the output of layer {layer!r} was used before the layer returned it. "
            "Some relevance would go past the map that is read. Choose a layer that "
            "returns something new."
        )


def is_rectified(tensor: Tensor) -> bool:
    """True for the output of a ReLU: never negative, and zeros pass nothing back."""
    return getattr(tensor, "_tsgb_rectified", False)


def rectified(tensor: _T) -> _T:
    """``tensor``, marked as the output of a ReLU."""
    tensor._tsgb_rectified = True  # type: ignore[attr-defined]
    return tensor
