"""The head of a network: which of its layers is the classifier."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.parameter import is_lazy

from tsgb._engine.forward import Forward
from tsgb._rules.state import SwitchedRule, WeightedLayer, state_of
from tsgb._torch_internals import is_reentrant_checkpoint
from tsgb.errors import UnsupportedModelError


def likely_head_shapes(model: nn.Module) -> frozenset[torch.Size]:
    """Shapes of the weights of the convolutions that may be the classifier of ``model``.

    A guess: they have as many output channels as the last convolution or linear layer.

    Example:
        >>> body, head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1)
        >>> likely_head_shapes(nn.Sequential(body, head))
        frozenset({torch.Size([5, 8, 1, 1])})
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    shapes = [layer.weight.shape for layer in layers if not is_lazy(layer.weight)]
    return frozenset(s for s in shapes if len(s) == 4 and s[0] == shapes[-1][0])


def find_head(forward: Forward, who: str) -> Node:
    """Autograd node of the classifier: the weighted layer that no weighted layer comes after.

    The rules of all operations after it are told that they are above it.

    Raises:
        UnsupportedModelError: The layer does not exist, or something bypasses it.
    """
    found = []
    for node in ancestors(forward.logits, until=_is_end):
        if _is_end(node):
            found.append(node)
        elif (rule := state_of(node, SwitchedRule)) is not None:
            rule.above_head = True
    layer = state_of(found[0], WeightedLayer) if len(found) == 1 else None
    if layer is None or not layer.can_be_head:
        check_nothing_hidden(forward.logits, who)
        what = " and ".join(sorted(_described(node, forward) for node in found))
        raise UnsupportedModelError(
            f"{who}: the logits do not come from one classifier layer but from {what}. "
            "What speaks for a class is read off the classifier and would be missing. "
            "Explain a network that ends in one Linear layer or one convolution without groups "
            "(for CAM: of 1 x 1) with nothing around it, and read below that layer; or use GradCAM."
        )
    return found[0]


def ancestors(
    tensor: Tensor, until: Callable[[Node], bool] = lambda _node: False
) -> Iterator[Node]:
    """Autograd nodes that ``tensor`` came from, on every way down to where ``until`` is true."""
    waiting: list[Node | None] = [tensor.grad_fn]
    seen: set[Node | None] = {None}
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if not until(node):
            waiting.extend(parent for parent, _ in node.next_functions)


def _is_end(node: Node) -> bool:
    """True for a weighted layer, and for a node that nothing comes before, as the image's."""
    return state_of(node, WeightedLayer) is not None or not node.next_functions


def _described(node: Node, forward: Forward) -> str:
    layer = state_of(node, WeightedLayer)
    if layer is not None:
        return layer.kind
    leaf: Tensor | None = getattr(node, "variable", None)
    if leaf is None:
        return type(node).__name__.removesuffix("Backward")
    if isinstance(leaf, nn.Parameter):
        return "a weight of a custom autograd function"
    where = "the image" if forward.is_complete else "the layer that is read or one before it"
    return f"{where}, past every such layer"


def check_nothing_hidden(logits: Tensor, who: str) -> None:
    """Raise UnsupportedModelError if a part of the model ran where it cannot be seen.

    That part is no error by itself: what is read may lie above it.
    """
    if any(map(is_reentrant_checkpoint, ancestors(logits))):
        raise UnsupportedModelError(
            f"{who}: the model uses gradient checkpointing with use_reentrant=True. Layers inside "
            "of it cannot be seen, neither feature maps nor the classifier, and the map would be "
            "missing or wrong. Switch it off (set_grad_checkpointing(False)) or use "
            "use_reentrant=False."
        )
