"""Backward sweeps: the gradients of several classes from one forward pass.

Two parts of a sweep are done for several classes at once, because arithmetic is not what they cost.
In linear layers it is the reading of weights: 400 MB in the first one of VGG-16. Where gradients
are small it is the number of operations.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from tsgb._engine.forward import Forward
from tsgb._engine.head import ancestors
from tsgb._rules.classifier import linear_gradient
from tsgb._rules.state import LinearLayer, state_of
from tsgb._torch_internals import is_reentrant_checkpoint
from tsgb.errors import LayerError, UnsupportedModelError

_IN_CACHE = 1_500_000  # numbers; measured on a CPU, see docs/performance.md


def classes_that_fit(largest: int) -> int:
    """Number of classes whose gradients of up to ``largest`` numbers fit into a cache together.

    Example:
        >>> classes_that_fit(256 * 56 * 56), classes_that_fit(3 * 224 * 224)
        (1, 9)
    """
    return min(max(1, _IN_CACHE // largest), 32)


def class_gradients(forward: Forward, activation: Tensor, targets: Tensor) -> Iterator[Tensor]:
    """Gradient of the target logits, one backward sweep for each column of ``targets``.

    Args:
        forward: The pass that made the logits.
        activation: What the gradient is taken of, [B, C, H, W].
        targets: [B, K] class indices, -1 for no class.

    Yields:
        K tensors of the shape of ``activation``; zero where the target is -1.
    """
    for (gradient,) in joint_gradients(forward, [activation], targets):
        yield gradient


def joint_gradients(
    forward: Forward, activations: Sequence[Tensor], targets: Tensor
) -> Iterator[tuple[Tensor, ...]]:
    """:func:`class_gradients` of several activations in the same sweeps.

    Raises:
        LayerError: The logits do not depend on an activation.
        UnsupportedModelError: The model would be run again during the sweep.
    """
    logits, together = forward.logits, forward.classes_per_sweep
    starts = [_one_hot(logits, column) for column in targets.T]
    inputs = _bottlenecks(forward, activations) if len(starts) > 1 else []
    if len(inputs) < (2 if together == 1 else 1):
        yield from (_gradients(logits, activations, start) for start in starts)
        return
    last, first = inputs[0], inputs[-1]
    rows = _at_last_layer(logits, last, starts)
    if first is not last:
        rows = torch.func.vmap(lambda row: _gradients(last, [first], row)[0])(rows)
    yield from _below(first, activations, rows, together)


def _at_last_layer(logits: Tensor, x: Tensor, starts: Sequence[Tensor]) -> Tensor:
    """Gradients [K, B, F] of the input ``x`` of the last linear layer."""
    node = logits.grad_fn
    if (
        node is not None
        and node.next_functions[0][0] is x.grad_fn
        and state_of(node, LinearLayer) is not None
    ):
        return linear_gradient(node, torch.stack([*starts]))
    return torch.stack([_gradients(logits, [x], start)[0] for start in starts])


def _below(
    x: Tensor, activations: Sequence[Tensor], rows: Tensor, together: int
) -> Iterable[tuple[Tensor, ...]]:
    """Gradients of ``activations`` from the gradients ``rows`` [K, B, F] of ``x``."""

    def sweep(row: Tensor) -> tuple[Tensor, ...]:
        return _gradients(x, activations, row)

    if together == 1:
        return map(sweep, rows)
    chunks = map(torch.func.vmap(sweep), torch.split(rows, together))
    return (gradients for chunk in chunks for gradients in zip(*chunk, strict=True))


def _gradients(output: Tensor, inputs: Sequence[Tensor], start: Tensor) -> tuple[Tensor, ...]:
    try:
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            output, inputs, start, retain_graph=True, allow_unused=True
        )
    except RuntimeError as error:
        if not any(map(is_reentrant_checkpoint, ancestors(output))):
            raise
        raise UnsupportedModelError(
            "the model uses gradient checkpointing with use_reentrant=True between the layer that "
            "is read and the logits. What happens there would be computed again, and gradients of "
            "the weights would be left in the model. Switch it off (set_grad_checkpointing(False)) "
            "or use use_reentrant=False.",
            anonymous=True,
        ) from error
    return tuple(map(_arrived, gradients, inputs))


def _arrived(gradient: Tensor | None, activation: Tensor) -> Tensor:
    if gradient is None:
        raise LayerError(
            f"read-out of shape {tuple(activation.shape)}: no relevance arrives there "
            "from the logits, because the layer is not on the way or only acts through a "
            "gate (sigmoid). Its map would be empty. Choose a layer on the main path.",
            anonymous=True,
        )
    return gradient


def _one_hot(logits: Tensor, column: Tensor) -> Tensor:
    start = torch.zeros_like(logits)
    return start.scatter_(1, column.clamp(min=0)[:, None], (column >= 0).to(start)[:, None])


def _bottlenecks(forward: Forward, activations: Sequence[Tensor]) -> list[Tensor]:
    """Inputs of linear layers that every path from the logits to ``activations`` goes through.

    Down to the first custom function, whose gradient may not work for several classes at once.
    """
    known = {(x.grad_fn, x.output_nr): x for x in forward.linear_inputs}
    ends = {activation.grad_fn for activation in activations}
    found: list[Tensor] = []
    node: Any = forward.logits.grad_fn
    place = forward.logits.output_nr  # a node may have several outputs, as that of chunk
    while node is not None and node not in ends:
        if isinstance(node, BackwardCFunction) and state_of(node, LinearLayer) is None:
            break
        if node is not forward.logits.grad_fn and (node, place) in known:
            found.append(known[node, place])
        parents = [parent for parent in node.next_functions if parent[0] is not None]
        node, place = parents[0] if len(parents) == 1 else (None, 0)
    return found
