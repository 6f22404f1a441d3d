"""Below the first read-out, where no relevance goes.

Until a layer is read, an operation needs no rule and nothing of it has to be kept. It runs as it
is, and its answer is *cut*: made a leaf with a gradient of its own. So memory is freed as in a
plain forward pass, and yet what depends on the image is told by autograd, as above. A cut tensor
that meets others above the read-out, as over a skip connection, is an activation like them: it
takes its share, which goes no further.
"""

from collections.abc import Container, Iterable
from typing import Any

from torch import Tensor

from tsgb._operations import depends_on_image


class OversleptError(Exception):
    """A gradient is needed of something that kept nothing for one; the pass must be run awake."""


class Below:
    """The tensors that one forward pass has cut."""

    def cut(self, tensor: Tensor) -> Tensor:
        """The same values without their past; as it is if it does not depend on the image."""
        if tensor.grad_fn is None:
            return tensor
        leaf = tensor.detach().requires_grad_()
        leaf._tsgb_cut_by = self  # type: ignore[attr-defined]
        return leaf

    def has_cut(self, tensor: Tensor) -> bool:
        """True for what :meth:`cut` gave in this forward pass."""
        return getattr(tensor, "_tsgb_cut_by", None) is self


def is_cut(tensor: Tensor) -> bool:
    """True for a tensor without a past, of this or an earlier forward pass."""
    return hasattr(tensor, "_tsgb_cut_by")


def leaves_of(tensor: Tensor, known: Container[Any]) -> list[Tensor]:
    """What ``tensor`` was made of by operations whose autograd nodes are not ``known``."""
    found, seen, todo = [], set(), [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in known or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        todo += [parent for parent, _ in node.next_functions]
    return found


def note_use(tensors: Iterable[Tensor]) -> None:
    """Something was made of ``tensors``, by operations that no relevance can pass any more."""
    for tensor in tensors:
        if depends_on_image(tensor):
            tensor._tsgb_used_below = True  # type: ignore[attr-defined]


def was_used(tensor: Tensor) -> bool:
    """True if some relevance of ``tensor`` would go past it, through such an operation."""
    return getattr(tensor, "_tsgb_used_below", False)
