"""Short cuts for relevance between one convolution and the next.

An elementwise operation between two convolutions (batch norm, activation, factor) passes relevance
on as it is, and a convolution needs only its sum over the channels of a group. So a convolution
leaves a *port* beside its output: a tensor [B, groups, H, W] whose gradient is that sum. The next
convolution answers with one value a location instead of one a channel. Every backward sweep skips
what lies between the two, and nothing of it has to be kept.

The port is in the tensor's record (:class:`tsgb._rules.state.Trace`). Elementwise operations hand
it on. Every other operation works on a materialised copy, whose gradient leads into the port. A
max-pool ends it and leaves one of its own, which only a convolution can use, since there relevance
is in proportion to the activation.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any, NoReturn, TypeVar

from torch import Tensor
from torch.autograd import Function

from tsgb._rules.arithmetic import group_sum, plain_gradient
from tsgb._rules.state import BalancedLayer, Candidate, Port, set_trace, state_of, trace_of
from tsgb.errors import LayerError

_T = TypeVar("_T", bound=Tensor)


class SealedRule(Function):
    """An elementwise operation that relevance goes past, through the port of its input.

    It keeps no tensors: code that needs a gradient here must be given a materialised copy.
    """

    @staticmethod
    def forward(_ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(x)

    @staticmethod
    def backward(_ctx: Any, *_gradients: Tensor) -> NoReturn:
        raise RuntimeError("SealedRule: a gradient arrived where relevance has a port.")


class MaterialiseRule(Function):
    """Relevance that arrives at values with a port goes into the port.

    This equals :class:`tsgb._rules.elementwise.RatioRule` for every operation since the convolution
    behind the port, followed by what that convolution would do: ``g * x`` is summed over the
    channels of each group. If the convolution is the classifier, which has to tell the channels
    apart, it is given its input and the plain gradient of its output.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, entry: Tensor, output: Tensor | None, candidate: Candidate | None
    ) -> Tensor:
        ctx.x, ctx.groups, ctx.candidate = x, entry.shape[1], candidate
        ctx.output = None if output is None else output.detach()
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor | None, Tensor | None, None]:
        candidate: Candidate | None = ctx.candidate
        layer = state_of(ctx.next_functions[1][0], BalancedLayer)
        if candidate is None or layer is None or layer.kappa is None:
            return None, group_sum(g * ctx.x, ctx.groups), None, None
        layer.features = candidate.features
        steps = candidate.steps
        return None, None, plain_gradient(lambda y: reduce(_applied, steps, y), ctx.output, g), None


def _applied(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return function(x)


def new_entry(y: Tensor, groups: int) -> Tensor:
    """The entry of a port for ``y``, whose value is of no use and takes no memory."""
    return y.new_zeros(()).expand(y.shape[0], groups, *y.shape[-2:])


def with_port(tensor: _T, port: Port) -> _T:
    """``tensor`` with a port of its own."""
    trace_of(tensor).port = port
    return tensor


def with_pool_port(tensor: _T, port: Port) -> _T:
    """The output of a max-pool with a port of its own."""
    trace_of(tensor).pool_port = port
    return tensor


def has_port(tensor: Tensor) -> bool:
    """True if relevance of ``tensor`` may go past it."""
    trace = trace_of(tensor)
    return trace.port is not None or trace.pool_port is not None


def enter(tensor: Tensor, port: Port) -> Tensor:
    """Entry of a port of ``tensor``, by which relevance goes past it from now on."""
    trace_of(tensor).bypassed = True
    return port.entry


def skip_through(
    function: Callable[[Tensor], Tensor], tensor: Tensor, port: Port, *, masks: bool
) -> Tensor:
    """An elementwise operation on ``tensor`` that relevance goes past; the result has the port.

    Args:
        function: The operation.
        tensor: What it works on.
        port: The port of ``tensor``.
        masks: It may make zeros, as a ReLU does.
    """
    enter(tensor, port)
    candidate = port.candidate
    if candidate is not None:
        output = tensor if candidate.output is None else candidate.output
        candidate = replace(candidate, output=output, steps=(*candidate.steps, function))
    port = replace(port, masked=port.masked or masks, candidate=candidate)
    y: Tensor = SealedRule.apply(tensor, function)
    return with_port(y, port)


def materialise(tensor: Tensor) -> Tensor:
    """``tensor``, or if it has a port the same values with a gradient that leads into it."""
    trace = trace_of(tensor)
    if trace.port is None:
        return tensor
    if trace.materialised is None:
        trace.materialised = _materialised(tensor, trace.port)
    return trace.materialised


def _materialised(tensor: Tensor, port: Port) -> Tensor:
    candidate, output = port.candidate, None
    if candidate is not None:
        output = tensor if candidate.output is None else candidate.output
    copy: Tensor = MaterialiseRule.apply(tensor.detach(), port.entry, output, candidate)
    set_trace(copy, replace(trace_of(tensor), node=copy.grad_fn, port=None, bypassed=False))
    return copy


def check_not_bypassed(tensor: Tensor, layer: str, who: str) -> None:
    """Raise unless all relevance can be made to pass through ``tensor``, the output of a layer.

    Raises:
        LayerError: An operation has sent some past it already.
    """
    if trace_of(tensor).bypassed:
        raise LayerError(
            f"{who}: the output of layer {layer!r} was used before the layer returned it. "
            "Some relevance would go past the map that is read. Choose a layer that "
            "returns something new."
        )
