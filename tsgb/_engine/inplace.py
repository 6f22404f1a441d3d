"""Tensors that a model overwrites: what each has become, and who else sees its memory.

Operations that overwrite a tensor run out of place. So the tensor that the model goes on with is
out of date, and so is every other view of the same memory.
"""

import weakref
from typing import Any

from torch import Tensor

from tsgb._torch_internals import StorageReference


class InplaceTracker:
    """The overwritten tensors of one forward pass."""

    def __init__(self) -> None:
        self._successors: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}  # id(old) -> old, new
        self._overwritten: dict[int, StorageReference] = {}  # by address
        self._exposed: dict[int, StorageReference] = {}

    def current(self, value: Any) -> Any:
        """What ``value`` has become; anything but a tensor as it is."""
        while (entry := self._successors.get(id(value))) is not None:
            value = entry[1]
        return value

    def redirect(self, old: Tensor, new: Tensor) -> Tensor:
        """Let ``old`` stand for ``new`` from now on; other views of ``old`` are out of date."""
        if new is old:
            return new
        if new.dtype != old.dtype and old.dtype.itemsize >= 4:
            new = new.to(old.dtype)
        place = id(old)
        forget = weakref.ref(old, lambda _: self._successors.pop(place, None))
        self._successors[place] = (forget, new)
        address = _address(old)
        if address and address != _address(new):
            self._overwritten[address] = StorageReference(old)
        return new

    def is_out_of_date(self, tensor: Tensor) -> bool:
        """True for a view of memory that was overwritten through another view."""
        return bool(self._overwritten) and _lies_in(self._overwritten, tensor)

    def expose(self, tensor: Tensor, *owners: Tensor) -> None:
        """Note that ``tensor``, which has no gradient, may share the memory of ``owners``."""
        address = _address(tensor)
        if any(address == _address(owner) for owner in owners):
            self._exposed[address] = StorageReference(tensor)

    @property
    def anything_exposed(self) -> bool:
        """True once the model holds an activation without its gradient."""
        return bool(self._exposed)

    def is_exposed(self, tensor: Tensor) -> bool:
        """True if overwriting ``tensor`` would change an activation."""
        return _lies_in(self._exposed, tensor)

    def forget(self) -> None:
        """Break the reference cycles that the callbacks make."""
        self._successors.clear()


def _lies_in(memories: dict[int, StorageReference], tensor: Tensor) -> bool:
    """True if ``tensor`` lies in one of ``memories``; drops one that was freed meanwhile."""
    address = _address(tensor)
    memory = memories.get(address)
    if memory is None or not memory.is_freed():
        return memory is not None
    del memories[address]  # something new lies there
    return False


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
