"""Every use of torch that its documentation does not promise, in one place.

Each says why it is needed and what to do when an upgrade of torch moves it. They were tried with
torch 2.6 to 2.15; ``tests/tsgb/test_torch_internals.py`` fails on the one that has moved.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor
from torch.autograd.graph import Node
from torch.multiprocessing.reductions import StorageWeakRef

_T = TypeVar("_T")

_autograd: Any = torch._C._autograd


def torch_functions_disabled() -> AbstractContextManager[None]:
    """A block whose torch calls are not answered by any ``TorchFunctionMode``.

    Why: a module's hook runs inside of the interception, which must not see what the hook does.
    If it moves: wrap the hook's work in a function that the mode knows and leaves alone.
    """
    disabled: AbstractContextManager[None] = torch._C.DisableTorchFunction()
    return disabled


def is_batched(tensor: Tensor) -> bool:
    """True inside of ``torch.func.vmap``, for a tensor with a dimension that it hides.

    Why: a rule for one class at a time costs less than the one for several.
    If it moves: return True; the maps are the same.
    """
    return bool(is_batchedtensor(tensor))


def saved_tensors_are_hooked() -> bool:
    """True where ``torch.autograd.graph.saved_tensors_hooks`` are in force.

    Why: gradient checkpointing and ``save_on_cpu`` work by such hooks, and would bring back tensors
    from a second forward pass without rules.
    If it moves: return True; every operation then runs under hooks that keep tensors as they are.
    """
    return _autograd._top_saved_tensors_default_hooks(True) is not None


def call_without_saving(
    unpack: Callable[[None], Tensor], work: Callable[..., _T], *args: Any, **kwargs: Any
) -> _T:
    """``work(...)`` with a graph that keeps no tensor; ``unpack`` is called where one is missed.

    Why: ``torch.autograd.graph.saved_tensors_hooks`` does the same, and its ``with`` block costs as
    much as a small operation.
    If it moves: use that.
    """
    if not _autograd._saved_tensors_hooks_is_enabled():
        return work(*args, **kwargs)
    _autograd._push_saved_tensors_default_hooks(_drop, unpack)
    try:
        return work(*args, **kwargs)
    finally:
        _autograd._pop_saved_tensors_default_hooks()


def _drop(_tensor: Tensor) -> None:
    return None


def is_operator(function: object) -> bool:
    """True for a function of ``torch.ops``, such as ``torch.ops.aten.relu_``.

    Why: those have other names than torch's functions do.
    If it moves: compare with ``type(torch.ops.aten.relu)``.
    """
    return is_overload(function) or isinstance(function, torch._ops.OpOverloadPacket)


def is_overload(function: object) -> bool:
    """True for one overload of such a function, such as ``torch.ops.aten.relu_.default``.

    Why: exported programs consist of them.
    If it moves: compare with ``type(torch.ops.aten.relu.default)``.
    """
    return isinstance(function, torch._ops.OpOverload)


class StorageReference:
    """Weak reference to the memory of a tensor.

    Why: memory that was freed and given to another tensor has the same address.
    If it moves: ``weakref.ref(tensor.untyped_storage())``, if that outlives the Python object.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._reference = StorageWeakRef(tensor.untyped_storage())

    def is_freed(self) -> bool:
        """True once no tensor uses the memory."""
        return bool(self._reference.expired())


def is_quantised(module: nn.Module) -> bool:
    """True for a layer of ``torch.ao.nn.quantized`` and for one with weights of torchao.

    Why: such layers say that they are in training mode, and their operations have no gradients.
    If it moves: find the new home of the quantised layers.
    """
    weights = (type(value).__module__ for value in module.parameters(recurse=False))
    names = (type(module).__module__, *weights)
    return any({"quantized", "torchao"} & set(name.split(".")) for name in names)


def without_compilation(model: nn.Module) -> nn.Module:
    """The module that ``torch.compile(model)`` wraps, or ``model``.

    Why: compiled code calls nothing that could be seen.
    If it moves: find the name of the attribute in ``torch._dynamo.OptimizedModule``.
    """
    wrapped: nn.Module = getattr(model, "_orig_mod", model)
    return wrapped


def run_eagerly() -> AbstractContextManager[None]:
    """A block in which functions that were compiled run as they were written.

    Why: as for :func:`without_compilation`. ``set_stance`` imports the compiler, which takes a
    second, and nothing can be compiled before that was imported.
    If it moves: always set the stance.
    """
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def is_reentrant_checkpoint(node: Node) -> bool:
    """True for the autograd node of ``torch.utils.checkpoint`` with ``use_reentrant=True``.

    Why: what it computed cannot be seen.
    If it moves: find the name in ``torch/utils/checkpoint.py``.
    """
    return type(node).__name__ == "CheckpointFunctionBackward"
