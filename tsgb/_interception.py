"""Sees every torch operation of a forward pass and swaps in a backward rule.

The model is never touched: a ``TorchFunctionMode`` receives the calls that the unmodified model
makes and answers them. Inside the block

* parameters are constants, so no gradient of a weight is ever computed;
* half precision is computed in float32, also where the model asks for autocast;
* operations that overwrite a tensor run out of place, so that an activation stays what it was when
  it was read. Later uses of the old tensor are redirected to the new one.
"""

import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from tsgb._operations import STRUCTURAL, RuleSet, depends_on_image
from tsgb._ports import check_unused, opened, without_pool_port
from tsgb._space import (
    FEATURE_MAP,
    has_positions,
    is_feature_map,
    note_space,
    resulting_space,
    space_of,
)
from tsgb.errors import UnsupportedModelError

_POOLING = frozenset(
    {"adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d", "lp_pool2d"}
    | {"fractional_max_pool2d", "max_pool2d_with_indices"}
)

_MAX_POOLING = frozenset({"max_pool2d", "max_pool2d_with_indices"})

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


class Interception(TorchFunctionMode):
    """Answers the torch calls of one forward pass.

    Attributes:
        last_map: The most recent activation of more than one pixel that is not a pooling output;
            None if there is none, or something else than feature maps was computed since.
        no_map: Why there is no ``last_map``, and what to do.
        excitations: What :func:`tsgb.extrapolate` sharpens maps with, in the order of the forward
            pass: the input of the first max-pool or strided convolution, then the outputs of all.
        vectors: Inputs [B, F] of linear layers, in the same order.
    """

    def __init__(self, who: str, rule_set: RuleSet, image: Tensor) -> None:
        super().__init__()
        self.last_map: Tensor | None = None
        self.no_map = (
            "no activation of more than one pixel was found. There is no feature map to read. "
            "Pass larger images, or name a layer with layer=."
        )
        self.excitations: list[Tensor] = []
        self.vectors: list[Tensor] = []
        self._who = who
        self._rules = rule_set.rules
        self._plain = rule_set.plain
        self._image = image
        note_space(image, FEATURE_MAP)
        self._made_here: set[Any] = set()  # autograd nodes of the answers
        self._successors: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}  # id(old) -> old, new
        self._overwritten: dict[int, StorageWeakRef] = {}  # by address
        self._exposed: dict[int, StorageWeakRef] = {}  # activations that detach() gave away

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name, overwrites = operation_name(func)
        kwargs = dict(kwargs or {})
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        ready = [_replace(value, lambda tensor: self._prepare(tensor, name)) for value in args]
        options = {key: _replace(kwargs[key], lambda t: self._prepare(t, name)) for key in kwargs}
        if not any(map(depends_on_image, _tensors([ready, options]))):
            if self._exposed and (overwrites or _take_inplace(func, [*ready], {**options})):
                self._check_hidden(name, next(_tensors(ready)))
            return func(*ready, **options)
        if name == "__set__" and self._plain is not None:
            self._refuse_hidden(name, ready[0])
        asked = _take_inplace(func, ready, options)
        answer = self._answer(func, name, overwrites, ready, options)
        if overwrites or asked:
            answer = self._redirect(self.current(args[0]), answer)
        self._note(name, answer, list(_tensors([ready, options])))
        if name in _MAX_POOLING or (name == "conv2d" and _is_strided(ready, options)):
            self._excite(ready[0], next(_tensors(answer)))
        if name == "linear" and ready[0].dim() == 2:
            self.vectors.append(ready[0])
        return answer

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._successors.clear()  # its callbacks would hold this object in a circle

    def _excite(self, x: Tensor, y: Tensor) -> None:
        if not self.excitations:
            self.excitations.append(x.detach())
        self.excitations.append(y.detach())

    def current(self, value: Any) -> Any:
        """What ``value`` has become by in-place operations; anything but a tensor as it is."""
        while (entry := self._successors.get(id(value))) is not None:
            value = entry[1]
        return value

    def _check_hidden(self, operation: str, target: Tensor) -> None:
        if _lies_in(self._exposed, target):
            self._refuse_hidden(operation, target)

    def _refuse_hidden(self, operation: str, target: Tensor) -> NoReturn:
        raise UnsupportedModelError(
            f"{self._who}: {operation} changes an activation of shape {tuple(target.shape)} behind "
            "the back of its gradient, through detach() or .data. Its rule would be left out "
            "silently and the map might be wrong. Write it as an ordinary operation."
        )

    def _prepare(self, tensor: Tensor, operation: str) -> Tensor:
        """The tensor that an operation is to work on in place of ``tensor``."""
        tensor = self.current(tensor)
        if self._overwritten and _lies_in(self._overwritten, tensor):
            raise UnsupportedModelError(
                f"{self._who}: {operation} uses a tensor of shape {tuple(tensor.shape)} that an "
                "in-place operation has changed through another view of the same memory. Its "
                "value before or after the change could be meant and the map might be wrong. "
                "Write that in-place operation out of place in the model."
            )
        if tensor.requires_grad:
            tensor = self._trace(tensor, operation)
            tensor = tensor if operation in self._rules else self._opened(tensor)
        if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
            whole = tensor.float()
            note_space(whole, space_of(tensor))
            return whole
        return tensor

    def read_out(self, output: Any, layer: str) -> Any:
        """What a layer is to return instead of ``output`` for a map to be read there."""
        output = self.current(output)
        if not isinstance(output, Tensor):
            return output
        check_unused(output, layer, self._who)
        with torch._C.DisableTorchFunction():  # a hook runs inside of the block
            return self._redirect(output, self._opened(without_pool_port(output)))

    def _opened(self, tensor: Tensor) -> Tensor:
        copy = opened(tensor)
        if copy is not tensor:
            self._made_here.add(copy.grad_fn)
            note_space(copy, space_of(tensor))
        return copy

    def _trace(self, tensor: Tensor, operation: str) -> Tensor:
        """Tell activations from parameters, and refuse activations of unseen origin."""
        if tensor is self._image:
            return tensor
        if tensor.is_leaf:
            return tensor.detach()
        if self._plain is not None and tensor.grad_fn not in self._made_here:
            raise UnsupportedModelError(
                f"{self._who}: {operation} received a tensor of shape {tuple(tensor.shape)} that "
                f"comes from {_node_name(tensor)}, a custom autograd function or compiled code. "
                "Its backward pass cannot be changed and the result would silently be a plain "
                "gradient. Use the same operation in plain PyTorch, or a method without rules "
                "such as GradCAM."
            )
        return tensor

    def _answer(
        self,
        func: Callable[..., Any],
        name: str,
        overwrites: bool,
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> Any:
        rule = self._rules.get(name)
        work = rule or (_on_a_copy(func, name) if overwrites else func)
        with self._full_precision():
            answer = work(*args, **kwargs)
        if rule is None and self._plain is not None and name not in self._plain:
            self._refuse_unknown(name, answer)
        return answer

    def _full_precision(self) -> AbstractContextManager[Any]:
        device = self._image.device.type
        if torch.is_autocast_enabled(device):  # by the model itself
            return torch.autocast(device, enabled=False)
        return nullcontext()

    def _refuse_unknown(self, name: str, answer: Any) -> None:
        for tensor in _tensors(answer):
            if depends_on_image(tensor):
                raise UnsupportedModelError(
                    f"{self._who}: there is no backward rule for the operation {name!r} (output "
                    f"of shape {tuple(tensor.shape)}). Its plain gradient would be used silently "
                    "and the map would be wrong. Use a convolutional network without it, or a "
                    "method without rules such as GradCAM."
                )

    def _redirect(self, old: Tensor, new: Tensor) -> Tensor:
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

    def _note(self, name: str, answer: Any, inputs: Sequence[Tensor]) -> None:
        for tensor in _tensors(answer):
            if depends_on_image(tensor):
                self._made_here.add(tensor.grad_fn)
                if not any(tensor is given for given in inputs):
                    note_space(tensor, resulting_space(name, inputs, tensor))
                    self._note_map(name, tensor)
            elif self._plain is not None and _shares_memory(
                tensor, filter(depends_on_image, inputs)
            ):
                self._exposed[_address(tensor)] = StorageWeakRef(tensor.untyped_storage())

    def _note_map(self, name: str, tensor: Tensor) -> None:
        if name == "region_mean":
            self.last_map = None
            self.no_map = (
                "the last feature map is that of the dense logits. It shows where the class is, "
                "not what speaks for it in the region. Name a layer with layer=, such as the last "
                "one of the encoder."
            )
        elif is_feature_map(tensor):
            self.last_map = self.last_map if name in _POOLING else tensor
        elif has_positions(tensor) and name not in STRUCTURAL:
            self.last_map = None
            self.no_map = (
                f"the last activation with positions is the output of {name!r}, "
                f"{tuple(tensor.shape)}, not a feature map [B, C, H, W]. Tokens or attention would "
                "be drawn as if they were pixels. Name a layer that gives a feature map with "
                "layer=, or use a method that reads at the image, such as InputXGradient."
            )

    def made(self, tensor: Tensor) -> bool:
        """True if the operation that gave ``tensor`` was seen."""
        return self._plain is None or tensor.grad_fn in self._made_here


def operation_name(func: Callable[..., Any]) -> tuple[str, bool]:
    """Plain name of a torch function, and whether it overwrites its first argument.

    Functions whose arguments differ from those of the usual spelling keep a longer name.

    Example:
        >>> operation_name(torch.Tensor.relu_), operation_name(torch.Tensor.__rsub__)
        (('relu', True), ('rsub', False))
    """
    if func is torch.batch_norm or type(func).__module__ == "torch._ops":
        return str(func), False
    name = getattr(func, "__name__", str(func))
    if name in _OVERWRITING_OPERATORS:
        name = name if name == "__setitem__" else f"__{name[3:]}"
        return _SYNONYMS.get(name, name), True
    overwrites = name.endswith("_") and not name.endswith("__")
    name = name.removesuffix("_") if overwrites else name
    return _SYNONYMS.get(name, name), overwrites


def _on_a_copy(func: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The out-of-place form of an overwriting function."""
    sibling = getattr(torch.Tensor, name, None)
    if callable(sibling) and name != "__setitem__":
        return sibling

    def run(target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = target.clone()
        func(copy, *args, **kwargs)
        return copy

    return run


def _take_inplace(func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> bool:
    """Remove the ``inplace`` flag from a call and return it."""
    if "inplace" in kwargs:
        return bool(kwargs.pop("inplace"))
    position = _inplace_position(func)
    if position is None or len(args) <= position:
        return False
    return bool(args.pop(position))


@lru_cache(maxsize=256)
def _inplace_position(func: Callable[..., Any]) -> int | None:
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):  # built-in functions have no signature and no such flag
        return None
    return names.index("inplace") if "inplace" in names else None


def _replace(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with ``function`` applied to every tensor in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return function(value)
    if type(value) in (list, tuple):
        return type(value)(_replace(item, function) for item in value)
    if type(value) is dict:
        return {key: _replace(item, function) for key, item in value.items()}
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _is_strided(args: list[Any], kwargs: dict[str, Any]) -> bool:
    """True for the arguments of a convolution that gives fewer pixels along a side."""
    stride = kwargs.get("stride", args[3] if len(args) > 3 else 1)
    return max((stride,) if isinstance(stride, int) else stride) > 1


def _lies_in(memories: dict[int, StorageWeakRef], tensor: Tensor) -> bool:
    """True if ``tensor`` lies in one of ``memories``; forgets one that was freed meanwhile."""
    address = _address(tensor)
    memory = memories.get(address)
    if memory is None or not memory.expired():
        return memory is not None
    del memories[address]  # something new lies there
    return False


def _shares_memory(tensor: Tensor, others: Iterable[Tensor]) -> bool:
    return any(_address(tensor) == _address(other) for other in others)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _node_name(tensor: Tensor) -> str:
    return type(tensor.grad_fn).__name__.removesuffix("Backward")
