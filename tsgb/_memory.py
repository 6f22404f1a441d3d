"""What has become of tensors that a model overwrites, and who else sees their memory.

Operations that overwrite a tensor run out of place. So the tensor that the model goes on with is
out of date, and so is every other view of the same memory.
"""

import weakref
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


class Memory:
    """The tensors of one forward pass that mean others by now."""

    def __init__(self) -> None:
        self._successors: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}  # id(old) -> old, new
        self._overwritten: dict[int, StorageWeakRef] = {}  # by address
        self._exposed: dict[int, StorageWeakRef] = {}

    def current(self, value: Any) -> Any:
        """What ``value`` has become; anything but a tensor as it is."""
        while (entry := self._successors.get(id(value))) is not None:
            value = entry[1]
        return value

    def redirect(self, old: Tensor, new: Tensor) -> Tensor:
        """From now on ``old`` means ``new``; other views of ``old`` are out of date."""
        if new is old:
            return new
        if new.dtype != old.dtype and old.dtype.itemsize >= 4:
            new = new.to(old.dtype)
        place = id(old)
        forget = weakref.ref(old, lambda _: self._successors.pop(place, None))
        self._successors[place] = (forget, new)
        address = _address(old)
        if address and address != _address(new):
            self._overwritten[address] = StorageWeakRef(old.untyped_storage())
        return new

    def is_out_of_date(self, tensor: Tensor) -> bool:
        """True for a view of what was overwritten through another one."""
        return bool(self._overwritten) and _lies_in(self._overwritten, tensor)

    def expose(self, tensor: Tensor, *owners: Tensor) -> None:
        """``tensor``, which has no gradient, may be a view of the memory of ``owners``."""
        address = _address(tensor)
        if any(address == _address(owner) for owner in owners):
            self._exposed[address] = StorageWeakRef(tensor.untyped_storage())

    @property
    def anything_exposed(self) -> bool:
        """True once an activation was given away without its gradient."""
        return bool(self._exposed)

    def is_exposed(self, tensor: Tensor) -> bool:
        """True if to overwrite ``tensor`` would change an activation."""
        return _lies_in(self._exposed, tensor)

    def forget(self) -> None:
        """Break the circles that callbacks make."""
        self._successors.clear()


def _lies_in(memories: dict[int, StorageWeakRef], tensor: Tensor) -> bool:
    """True if ``tensor`` lies in one of ``memories``; forgets one that was freed meanwhile."""
    address = _address(tensor)
    memory = memories.get(address)
    if memory is None or not memory.expired():
        return memory is not None
    del memories[address]  # something new lies there
    return False


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
