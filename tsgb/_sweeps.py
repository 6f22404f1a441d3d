"""Backward sweeps: the gradients of several classes from one forward pass.

Two things are done for several classes at once, because what they cost is not arithmetic. Linear
layers, where it is the reading of weights: 400 MB in the first one of VGG-16. And whatever else
keeps its gradients small, where it is the number of operations.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from tsgb._rules import LinearRule, linear_gradient
from tsgb.errors import LayerError, UnsupportedModelError

_IN_CACHE = 1_500_000  # numbers; measured on a CPU, see docs/performance.md


def best_number(widest: int) -> int:
    """So many classes at once that gradients of ``widest`` numbers each still fit into a cache.

    Example:
        >>> best_number(256 * 56 * 56), best_number(3 * 224 * 224)
        (1, 9)
    """
    return min(max(1, _IN_CACHE // widest), 32)


def sweeps(
    logits: Tensor,
    targets: Tensor,
    activations: Sequence[Tensor],
    *,
    vectors: Sequence[Tensor],
    at_once: int,
) -> Iterator[tuple[Tensor, ...]]:
    """Gradients of the target logits with respect to ``activations``, class by class.

    Args:
        logits: [B, classes].
        targets: [B, K] class indices, -1 for no class.
        activations: What the gradients are taken of.
        vectors: Inputs [B, F] of linear layers.
        at_once: So many classes at a time below the linear layers.

    Yields:
        K times one gradient for each activation.

    Raises:
        LayerError: The logits do not depend on an activation.
    """
    starts = [_one_hot(logits, column) for column in targets.T]
    waists = _waists(logits, vectors, activations) if len(starts) > 1 else []
    if len(waists) < (2 if at_once == 1 else 1):
        yield from (_gradients(logits, activations, start) for start in starts)
        return
    head, flat = waists[0], waists[-1]
    rows = _at_head(logits, head, starts)
    if flat is not head:
        rows = torch.func.vmap(lambda row: _gradients(head, [flat], row)[0])(rows)
    yield from _from_rows(flat, activations, rows, at_once)


def _at_head(logits: Tensor, head: Tensor, starts: Sequence[Tensor]) -> Tensor:
    """Gradients [K, B, F] of the classifier's input."""
    node: Any = logits.grad_fn
    if node.next_functions[0][0] is head.grad_fn and isinstance(node, LinearRule._backward_cls):
        return linear_gradient(node, torch.stack([*starts]))
    return torch.stack([_gradients(logits, [head], start)[0] for start in starts])


def _from_rows(
    flat: Tensor, activations: Sequence[Tensor], rows: Tensor, at_once: int
) -> Iterable[tuple[Tensor, ...]]:
    def sweep(row: Tensor) -> tuple[Tensor, ...]:
        return _gradients(flat, activations, row)

    if at_once == 1:
        return map(sweep, rows)
    chunks = map(torch.func.vmap(sweep), rows.split(at_once))
    return (gradients for chunk in chunks for gradients in zip(*chunk, strict=True))


def _gradients(output: Tensor, inputs: Sequence[Tensor], start: Tensor) -> tuple[Tensor, ...]:
    try:
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            output, inputs, start, retain_graph=True, allow_unused=True
        )
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
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


def _waists(
    logits: Tensor, vectors: Sequence[Tensor], activations: Sequence[Tensor]
) -> list[Tensor]:
    """Inputs of linear layers that everything passes between the logits and ``activations``.

    Up to the first custom function, whose gradient may not work for several classes at once.
    """
    known = {(vector.grad_fn, vector.output_nr): vector for vector in vectors}
    ends = {activation.grad_fn for activation in activations}
    found: list[Tensor] = []
    node: Any = logits.grad_fn
    place = logits.output_nr  # a node may have several outputs, as that of chunk
    while node is not None and node not in ends:
        if isinstance(node, BackwardCFunction) and not isinstance(node, LinearRule._backward_cls):
            break
        if node is not logits.grad_fn and (node, place) in known:
            found.append(known[node, place])
        parents = [parent for parent in node.next_functions if parent[0] is not None]
        node, place = parents[0] if len(parents) == 1 else (None, 0)
    return found
