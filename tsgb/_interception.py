"""Sees every torch operation of a forward pass and swaps in a backward rule.

The model is never touched: a ``TorchFunctionMode`` receives the calls that the unmodified model
makes and answers them. Inside the block

* parameters are constants, so no gradient of a weight is ever computed;
* half precision is computed in float32, also where the model asks for autocast;
* operations that overwrite a tensor run out of place, so that an activation stays what it was when
  it was read. Later uses of the old tensor are redirected to the new one;
* what gradients need is kept as it is, also where the model asks for something else (gradient
  checkpointing, ``save_on_cpu``);
* asleep, which it may be until the first layer is read, nothing is kept for gradients.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from tsgb._below import Below, OversleptError, is_cut, leaves_of, note_use, was_used
from tsgb._calls import on_a_copy, operation_name, replaced, take_inplace, tensors_in
from tsgb._landmarks import Landmarks
from tsgb._memory import Memory
from tsgb._operations import RuleSet, depends_on_image
from tsgb._ports import check_unused, has_port, opened, without_short_cuts
from tsgb._space import FEATURE_MAP, note_space, resulting_space, space_of
from tsgb.errors import UnsupportedModelError

_WEIGHTED = frozenset({"conv2d", "linear"})

_MEASURING = frozenset({Tensor.dim, Tensor.size, Tensor.numel, Tensor.stride, Tensor.is_contiguous})


class Interception(TorchFunctionMode):
    """Answers the torch calls of one forward pass.

    Args:
        who: The method, for messages.
        rule_set: Its rules.
        image: The leaf that everything depends on.
        asleep: Leave out all that gradients need until :meth:`read_out` is called.
        shielded: The model changes how tensors are kept for the backward pass; undo that.

    Attributes:
        landmarks: What was met on the way.
        widest: Numbers in the largest activation whose gradient will be worked out in full.
    """

    def __init__(
        self, who: str, rule_set: RuleSet, image: Tensor, *, asleep: bool, shielded: bool
    ) -> None:
        super().__init__()
        self.landmarks = Landmarks()
        self.widest = 1 if asleep or has_port(image) else image.numel()
        self._who = who
        self._rules = rule_set.rules
        self._plain = rule_set.plain
        self._rules_below = rule_set.below
        self._image = image
        note_space(image, FEATURE_MAP)
        self._made_here: set[Any] = set()  # autograd nodes of the answers
        self._memory = Memory()
        self._below = Below()
        self._asleep = asleep
        self._has_slept = asleep
        self._shielded = shielded
        self._past_is_missing = False
        self._weights_seen = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _MEASURING:
            return func(self.current(args[0]), *args[1:], **kwargs)
        name, overwrites = operation_name(func)
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        inputs: list[Tensor] = []

        def prepared(tensor: Tensor) -> Tensor:
            inputs.append(self._prepare(tensor, name))
            return inputs[-1]

        ready = [replaced(value, prepared) for value in args]
        options = {key: replaced(value, prepared) for key, value in kwargs.items()}
        if not any(tensor.requires_grad for tensor in inputs):
            if self._memory.anything_exposed and (
                overwrites or take_inplace(func, [*ready], {**options})
            ):
                self._check_hidden(name, inputs[0])
            return func(*ready, **options)
        if name == "__set__" and self._plain is not None:
            self._refuse_hidden(name, ready[0])
        asked = take_inplace(func, ready, options)
        answer = self._answer(func, name, overwrites, ready, options)
        if overwrites or asked:
            answer = self._memory.redirect(self.current(args[0]), answer)
        self._note(name, answer, inputs)
        self.landmarks.note_call(name, ready, options, answer)
        return answer

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._memory.forget()

    def current(self, value: Any) -> Any:
        """What ``value`` has become by in-place operations; anything but a tensor as it is."""
        return self._memory.current(value)

    def _check_hidden(self, operation: str, target: Tensor) -> None:
        if self._memory.is_exposed(target):
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
        if self._memory.is_out_of_date(tensor):
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
            note_use([tensor] if self._asleep else [])
            return whole
        return tensor

    def read_out(self, output: Any, layer: str) -> Any:
        """What a layer is to return instead of ``output`` for a map to be read there."""
        output = self.current(output)
        if isinstance(output, Tensor):
            check_unused(output, layer, self._who)
            with torch._C.DisableTorchFunction():  # a hook runs inside of the block
                self._past_is_missing |= was_used(output)
                copy = self._below.cut(output) if self._asleep else self._opened(output)
                output = self._memory.redirect(output, without_short_cuts(copy))
            self.widest = max(self.widest, output.numel())
        self._asleep = False
        return output

    @property
    def overslept(self) -> bool:
        """True if what was run asleep has a part in the maps: the classifier, or a way round."""
        no_classifier = "linear" in self._rules and not self._weights_seen
        return self._past_is_missing or no_classifier

    def _opened(self, tensor: Tensor) -> Tensor:
        copy = opened(tensor)
        if copy is not tensor:
            self._made_here.add(copy.grad_fn)
            note_space(copy, space_of(tensor))
        return copy

    def _trace(self, tensor: Tensor, operation: str) -> Tensor:
        """Tell activations from parameters, and refuse activations of unseen origin."""
        if tensor is self._image or self._below.has_cut(tensor):
            return tensor
        if tensor.is_leaf and not is_cut(tensor):
            return tensor.detach()
        if tensor.grad_fn in self._made_here:
            return tensor
        if self._has_slept:
            self._trace_asleep(tensor)
        if self._asleep:
            return tensor
        if self._shielded:
            raise UnsupportedModelError(
                f"{self._who}: {operation} received a tensor of shape {tuple(tensor.shape)} that "
                f"comes from {_origin(tensor)}, a custom autograd function in a model that changes "
                "how tensors are kept for the backward pass. Without what is changed here the "
                "forward pass would be computed again and the map might be wrong. Switch gradient "
                "checkpointing off (memory_efficient=False, set_grad_checkpointing(False))."
            )
        if self._plain is None:
            return tensor
        raise UnsupportedModelError(
            f"{self._who}: {operation} received a tensor of shape {tuple(tensor.shape)} that "
            f"comes from {_origin(tensor)}, a custom autograd function or compiled code. "
            "Its backward pass cannot be changed and the result would silently be a plain "
            "gradient. Use the same operation in plain PyTorch, or a method without rules "
            "such as GradCAM."
        )

    def _trace_asleep(self, tensor: Tensor) -> None:
        """Note what unseen operations were given; what was cut is lost to them."""
        made_of = leaves_of(tensor, self._made_here)
        if self._asleep:
            note_use(made_of)
        elif any(map(is_cut, made_of)):
            raise OversleptError

    def _answer(
        self,
        func: Callable[..., Any],
        name: str,
        overwrites: bool,
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> Any:
        rule = (self._rules_below if self._asleep else self._rules).get(name)
        work = rule or (on_a_copy(func, name) if overwrites else func)
        with self._settings():
            answer = work(*args, **kwargs)
        if self._asleep:
            return replaced(answer, self._below.cut)
        self._weights_seen |= name in _WEIGHTED
        if rule is None and self._plain is not None and name not in self._plain:
            self._refuse_unknown(name, answer)
        return answer

    def _settings(self) -> AbstractContextManager[Any]:
        device = self._image.device.type
        if not self._shielded and not torch.is_autocast_enabled(device):  # by the model itself
            return nullcontext()
        stack = ExitStack()
        stack.enter_context(torch.autocast(device, enabled=False))
        if self._shielded:
            stack.enter_context(saved_tensors_hooks(_as_it_is, _as_it_is))
        return stack

    def _refuse_unknown(self, name: str, answer: Any) -> None:
        for tensor in tensors_in(answer):
            if depends_on_image(tensor):
                raise UnsupportedModelError(
                    f"{self._who}: there is no backward rule for the operation {name!r} (output "
                    f"of shape {tuple(tensor.shape)}). Its plain gradient would be used silently "
                    "and the map would be wrong. Use a convolutional network without it, or a "
                    "method without rules such as GradCAM."
                )

    def _note(self, name: str, answer: Any, inputs: Sequence[Tensor]) -> None:
        for tensor in tensors_in(answer):
            known = any(tensor is given for given in inputs)
            if self._asleep and not known:
                note_use(inputs)
            if depends_on_image(tensor):
                if tensor.grad_fn is not None:
                    self._made_here.add(tensor.grad_fn)
                if not known:
                    note_space(tensor, resulting_space(name, inputs, tensor))
                    self.landmarks.note_map(name, tensor)
                    self._note_cost(tensor)
            elif self._plain is not None:
                self._memory.expose(tensor, *filter(depends_on_image, inputs))

    def _note_cost(self, answer: Tensor) -> None:
        if not self._asleep and not has_port(answer):
            self.widest = max(self.widest, answer.numel())

    def made(self, tensor: Tensor) -> bool:
        """True if the operation that gave ``tensor`` was seen."""
        return tensor.grad_fn in self._made_here or (self._plain is None and not self._shielded)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _origin(tensor: Tensor) -> str:
    if tensor.grad_fn is None:
        return "an earlier forward pass"
    return type(tensor.grad_fn).__name__.removesuffix("Backward")
