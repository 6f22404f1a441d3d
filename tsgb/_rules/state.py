"""The state of a forward pass: one record for each activation, one for each rule's autograd node.

Both hang on objects of torch that have no place for them. They are reached through
:func:`trace_of`, :func:`find_trace` and :func:`state_of` only, so that a misspelt name is a type
error and not a wrong map.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor
from torch.autograd.graph import Node

from tsgb._rules.window_sums import Window

SpatialDims = tuple[int, ...]
"""Where the pixels of an activation are; see :mod:`tsgb._engine.spatial_dims`."""

_State = TypeVar("_State")


@dataclass(frozen=True)
class Candidate:
    """What is kept of a convolution that may turn out to be the classifier.

    Attributes:
        features: Its input, [B, C, H, W].
        output: Its output; None where that is the tensor that has the port.
        steps: The elementwise operations on the output since.
    """

    features: Tensor
    output: Tensor | None = None
    steps: Sequence[Callable[[Tensor], Tensor]] = ()


@dataclass(frozen=True)
class Passage:
    """What :class:`tsgb._rules.convolution.PassageRule` needs to know of a grouped convolution.

    Attributes:
        entry: [B, 1, H, W], of the port of its input.
        sums: ``|x|`` of its input, summed over the channels of each group: [B, groups, H, W].
        window: Its geometry.
        groups: Groups of channels that share relevance among themselves.
    """

    entry: Tensor
    sums: Tensor
    window: Window
    groups: int


@dataclass(frozen=True)
class Port:
    """Where the relevance of a tensor may go, summed over channels; see :mod:`tsgb._rules.ports`.

    Attributes:
        entry: [B, groups, H, W], an output of the convolution (or max-pool) behind the port.
        candidate: What is needed if that convolution is the classifier.
        masked: An operation since may have made zeros, as a ReLU does. Those take no relevance, so
            an operation that makes something else of zeros must not use the port.
        passage: The way past that convolution too, if it is a grouped one.
    """

    entry: Tensor
    candidate: Candidate | None = None
    masked: bool = False
    passage: Passage | None = None


@dataclass(slots=True)
class Trace:
    """What is known of one activation.

    Attributes:
        run: Identifies the forward pass that made it.
        node: Its autograd node then. If it has another one now, an operation that could not be seen
            has overwritten it.
        spatial_dims: Where its rows and columns are; None if it has no positions.
        rectified: The output of a ReLU: never negative, and its zeros pass nothing back.
        gate: The output of a gate (sigmoid), perhaps reshaped, scaled or shifted.
        port: Where its relevance may go.
        pool_port: The port of a max-pool's output, which only convolutions may use.
        materialised: The same values with a gradient that leads into the port.
        bypassed: Some of its relevance goes past it, through a port.
        used: An operation that was not recorded has used it.
    """

    run: object | None = None
    node: Node | None = None
    spatial_dims: SpatialDims | None = None
    rectified: bool = False
    gate: bool = False
    port: Port | None = None
    pool_port: Port | None = None
    materialised: Tensor | None = None
    bypassed: bool = False
    used: bool = False


def find_trace(tensor: Tensor) -> Trace | None:
    """The record of ``tensor``; None for a weight, a constant, or what was never seen."""
    trace: Trace | None = getattr(tensor, "_tsgb_trace", None)
    return trace


def trace_of(tensor: Tensor) -> Trace:
    """The record of an activation, made on first use; never ask for that of a weight."""
    trace: Trace | None = getattr(tensor, "_tsgb_trace", None)
    return set_trace(tensor, Trace()) if trace is None else trace


def set_trace(tensor: Tensor, trace: Trace) -> Trace:
    """Give ``tensor`` this record, and return it."""
    tensor._tsgb_trace = trace  # type: ignore[attr-defined]
    return trace


@dataclass(slots=True)
class WeightedLayer:
    """State of the autograd node of a convolution or linear layer; one of them is the classifier.

    Attributes:
        kind: What to call it in a message.
        can_be_head: It may be the classifier.
        prepared: It has kept what the classifier needs.
    """

    kind: str
    can_be_head: bool = True
    prepared: bool = True


@dataclass(slots=True)
class BalancedLayer(WeightedLayer):
    """State of such a node under the rules of TSGB.

    Attributes:
        kappa: Weight of the evidence against the class; None unless this is the classifier.
        features: Input of a convolution that is the classifier, [B, C, H, W].
    """

    kappa: float | None = None
    features: Tensor | None = None


@dataclass(slots=True)
class LinearLayer(BalancedLayer):
    """State of the node of a linear layer, which saves its input and its weight."""


@dataclass(slots=True)
class SwitchedRule:
    """State of the node of a rule that gives way to the plain gradient above the classifier."""

    above_head: bool = False


def set_state(node: Any, state: object) -> None:
    """Give an autograd node its state."""
    node.state = state


def state_of(node: object, kind: type[_State]) -> _State | None:
    """The state of an autograd node if it is of that kind, else None."""
    state = getattr(node, "state", None)
    return state if isinstance(state, kind) else None
