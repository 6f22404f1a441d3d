"""What a torch call says: its plain name, whether it overwrites a tensor, and its tensors."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tsgb._torch_internals import is_operator

_SYNONYMS = {
    "__add__": "add",
    "__radd__": "add",
    "__sub__": "sub",
    "__rsub__": "rsub",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__truediv__": "div",
    "__div__": "div",
    "__neg__": "neg",
    "_threshold": "threshold",
    "clip": "clamp",
    "divide": "div",
    "feature_dropout": "dropout",
    "multiply": "mul",
    "negative": "neg",
    "subtract": "sub",
    "swapdims": "transpose",
    "true_divide": "div",
}

_OVERWRITING_OPERATORS = frozenset(
    {"__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__", "__ipow__", "__ifloordiv__"}
    | {"__imod__", "__setitem__"}
)


_WITHOUT_TENSORS = frozenset({type(None), bool, int, float, str})


@lru_cache(maxsize=1024)
def operation_name(func: Callable[..., Any]) -> tuple[str, bool]:
    """Plain name of a torch function, and whether it overwrites its first argument.

    A function that takes other arguments than the usual spelling keeps a longer name.

    Example:
        >>> operation_name(torch.Tensor.relu_), operation_name(torch.Tensor.__rsub__)
        (('relu', True), ('rsub', False))
    """
    if is_operator(func):  # str(func) is "aten.relu_" or "aten.relu_.default"
        return str(func), _has_overwriting_suffix(str(func).split(".")[1])
    if func is torch.batch_norm:
        return str(func), False
    name = getattr(func, "__name__", str(func))
    if name in _OVERWRITING_OPERATORS:
        name = name if name == "__setitem__" else f"__{name[3:]}"
        return _SYNONYMS.get(name, name), True
    overwrites = _has_overwriting_suffix(name)
    name = name.removesuffix("_") if overwrites else name
    return _SYNONYMS.get(name, name), overwrites


def _has_overwriting_suffix(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def out_of_place(func: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The out-of-place form of an overwriting function."""
    sibling: Callable[..., Any] | None = getattr(torch.Tensor, name, None)
    if callable(sibling) and name != "__setitem__":
        return sibling

    def run(target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = target.clone()
        func(copy, *args, **kwargs)
        return copy

    return run


def take_inplace(func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> bool:
    """Remove the ``inplace`` flag from a call and return it."""
    if "inplace" in kwargs:
        return bool(kwargs.pop("inplace"))
    position = _inplace_position(func)
    if position is None or len(args) <= position:
        return False
    return bool(args.pop(position))


@lru_cache(maxsize=1024)
def _inplace_position(func: Callable[..., Any]) -> int | None:
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):  # built-in functions have no signature and no such flag
        return None
    return names.index("inplace") if "inplace" in names else None


def is_strided(args: list[Any], kwargs: dict[str, Any]) -> bool:
    """True if a convolution with these arguments gives fewer pixels along a side."""
    stride = kwargs.get("stride", args[3] if len(args) > 3 else 1)
    return max((stride,) if isinstance(stride, int) else stride) > 1


def replaced(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with ``function`` applied to every tensor in nested lists, tuples and dicts."""
    kind = type(value)
    if kind in _WITHOUT_TENSORS:
        return value
    if isinstance(value, Tensor):
        return function(value)
    if kind in (list, tuple):
        return kind(replaced(item, function) for item in value)
    if kind is dict:
        return {key: replaced(item, function) for key, item in value.items()}
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in nested lists, tuples and dicts."""
    if type(value) in _WITHOUT_TENSORS:
        return []
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []
