"""Sees every torch operation of a forward pass and swaps in a backward rule.

The model is never touched: a ``TorchFunctionMode`` receives the calls that the unmodified model
makes and answers them. Inside the block

* parameters are constants, so no gradient of a weight is ever computed;
* half precision is computed in float32, also where the model asks for autocast;
* operations that overwrite a tensor run out of place, so that an activation stays what it was when
  it was read. Later uses of the old tensor are redirected to the new one;
* the tensors that gradients need are kept as they are, also where the model asks for something else
  (gradient checkpointing, ``save_on_cpu``);
* until the first layer is read, nothing need be recorded: operations run as they are and their
  autograd nodes keep no tensor. What depends on the image is still told by autograd.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge, saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from tsgb._engine.head import ancestors
from tsgb._engine.inplace import InplaceTracker
from tsgb._engine.observed import Observed
from tsgb._engine.spatial_dims import FEATURE_MAP, resulting_dims
from tsgb._engine.torch_calls import (
    operation_name,
    out_of_place,
    replaced,
    take_inplace,
    tensors_in,
)
from tsgb._rules.ports import check_not_bypassed, has_port, materialise
from tsgb._rules.rule_set import RuleSet, depends_on_image
from tsgb._rules.state import SpatialDims, Trace, find_trace, set_trace, trace_of
from tsgb._torch_internals import (
    call_without_saving,
    saved_tensors_are_hooked,
    torch_functions_disabled,
)
from tsgb.errors import UnsupportedModelError

_WEIGHTED = frozenset({"conv2d", "linear"})

_LIKE_ANOTHER = frozenset({"expand_as", "reshape_as", "to", "type_as", "view_as"})

_MEASURING = frozenset({Tensor.dim, Tensor.size, Tensor.numel, Tensor.stride, Tensor.is_contiguous})


class NotRecordedError(Exception):
    """The maps need something that was not recorded; the pass has to be run again in full."""


class Interception(TorchFunctionMode):
    """Answers the torch calls of one forward pass.

    Args:
        who: The method, for messages.
        rule_set: Its rules.
        image: The leaf that every activation depends on.
        recording: Record for the backward pass from the image on, not from the first
            :meth:`read_out` on.

    Attributes:
        observed: What was met on the way.
        recording: Whether operations are recorded now.
        largest_gradient: Numbers in the largest gradient that a backward sweep will work out.
    """

    def __init__(self, who: str, rule_set: RuleSet, image: Tensor, *, recording: bool) -> None:
        super().__init__()
        self.observed = Observed()
        self.recording = self._records_all = recording
        self._weights_recorded = False
        self.largest_gradient = image.numel() if recording and not has_port(image) else 1
        self._who = who
        self._rule_set = rule_set
        self._device = image.device.type
        self._run = object()
        self._inplace = InplaceTracker()
        self._hooks_seen = False
        self._read_unrecorded: set[tuple[Node | None, int]] = set()
        self._adopt(image, FEATURE_MAP)

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

        def prepare(tensor: Tensor) -> Tensor:
            inputs.append(self._prepared(tensor, name))
            return inputs[-1]

        ready = [replaced(value, prepare) for value in args]
        options = {key: replaced(value, prepare) for key, value in kwargs.items()}
        if not any(tensor.requires_grad for tensor in inputs):
            if self.recording and self._inplace.anything_exposed:
                overwrites |= take_inplace(func, [*ready], {**options})
                self._check_constant(name, overwrites, inputs)
            return func(*ready, **options)
        if self.recording and self._rule_set.plain is not None:
            self._check_gradients(name, ready)
        in_place = take_inplace(func, ready, options) or overwrites
        answer = self._answer(func, name, overwrites, ready, options)
        if in_place:
            answer = self._inplace.redirect(self.current(args[0]), answer)
        self._record(name, answer, inputs)
        self.observed.note_call(name, ready, options, answer)
        return answer

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._inplace.forget()

    def current(self, value: Any) -> Any:
        """What in-place operations have made of ``value``; anything but a tensor as it is."""
        return self._inplace.current(value)

    def _check_constant(self, operation: str, overwrites: bool, inputs: Sequence[Tensor]) -> None:
        """Refuse an operation without gradients that overwrites the memory of an activation."""
        if overwrites and self._inplace.is_exposed(inputs[0]):
            self._refuse_hidden_change(operation, inputs[0])

    def _check_gradients(self, operation: str, args: list[Any]) -> None:
        """Refuse a model that overwrites values without their gradient, or takes gradients itself.

        For methods with rules: its gradients would be those of the rules, and change the logits.
        """
        if operation == "__set__":  # x.data = ...
            self._refuse_hidden_change(operation, args[0])
        if operation in ("backward", "grad"):
            raise UnsupportedModelError(
                f"{self._who}: the model calls {operation}() in its forward pass. Its gradient "
                "would follow the rules of this method, and the logits would change. Use a method "
                "without rules such as GradCAM."
            )

    def _refuse_hidden_change(self, operation: str, target: Tensor) -> NoReturn:
        raise UnsupportedModelError(
            f"{self._who}: {operation} changes an activation of shape {tuple(target.shape)} behind "
            "the back of its gradient, through detach() or .data. Its rule would be left out "
            "silently and the map might be wrong. Write it as an ordinary operation."
        )

    def _prepared(self, tensor: Tensor, operation: str) -> Tensor:
        """The tensor that an operation is to work on in place of ``tensor``."""
        tensor = self.current(tensor)
        if self._inplace.is_out_of_date(tensor):
            raise UnsupportedModelError(
                f"{self._who}: {operation} uses a tensor of shape {tuple(tensor.shape)} that an "
                "in-place operation has changed through another view of the same memory. Its "
                "value before or after the change could be meant and the map might be wrong. "
                "Write that in-place operation out of place in the model."
            )
        if tensor.requires_grad:
            tensor = self._identified(tensor, operation)
        if tensor.requires_grad and operation not in self._rule_set.rules:
            tensor = materialise(tensor)
        if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
            return self._in_single_precision(tensor)
        return tensor

    def _in_single_precision(self, tensor: Tensor) -> Tensor:
        single = tensor.float()
        if tensor.requires_grad:
            trace = trace_of(tensor)
            trace.used |= not self.recording
            self._adopt(single, trace.spatial_dims)
        return single

    def _identified(self, tensor: Tensor, operation: str) -> Tensor:
        """Tell activations from parameters, and refuse activations of unseen origin."""
        if self._is_known(tensor):
            return tensor
        trace = find_trace(tensor)
        if tensor.is_leaf and trace is None:
            return tensor.detach()
        if not self.recording:
            return tensor
        where = f"{operation} received a tensor of shape {tuple(tensor.shape)} that comes from"
        if self._hooks_seen:
            raise UnsupportedModelError(
                f"{self._who}: {where} {_origin(tensor)}, a custom autograd function in a model "
                "that changes how tensors are kept for the backward pass. Its own would be "
                "computed again there and the map might be wrong. Switch gradient checkpointing "
                "off (memory_efficient=False, set_grad_checkpointing(False))."
            )
        if self._rule_set.plain is None:
            return tensor
        raise UnsupportedModelError(
            f"{self._who}: {where} {_origin(tensor)}, a custom autograd function or compiled code. "
            "Its backward pass cannot be changed and the result would silently be a plain "
            "gradient. Use the same operation in plain PyTorch, or a method without rules "
            "such as GradCAM."
        )

    def _is_known(self, tensor: Tensor) -> bool:
        """True for an activation that an operation of this pass has made."""
        trace = find_trace(tensor)
        return trace is not None and trace.run is self._run and trace.node is tensor.grad_fn

    def _adopt(self, tensor: Tensor, dims: SpatialDims | None) -> Trace:
        """Let ``tensor`` be an activation of this pass."""
        trace = trace_of(tensor)
        trace.run, trace.node, trace.spatial_dims = self._run, tensor.grad_fn, dims
        return trace

    def _answer(
        self,
        func: Callable[..., Any],
        name: str,
        overwrites: bool,
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> Any:
        rules = self._rule_set.rules if self.recording else self._rule_set.below
        rule = rules.get(name)
        work = rule or (out_of_place(func, name) if overwrites else func)
        if torch.is_autocast_enabled(self._device):  # by the model itself
            with torch.autocast(self._device, enabled=False):
                answer = self._call(work, args, kwargs)
        else:
            answer = self._call(work, args, kwargs)
        if self.recording:
            self._weights_recorded |= name in _WEIGHTED
            if rule is None:
                self._check_plain(name, answer)
        return answer

    def _call(self, work: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        hooked = saved_tensors_are_hooked()
        self._hooks_seen |= hooked
        if not self.recording:
            return call_without_saving(_not_saved, work, *args, **kwargs)
        if not hooked:
            return work(*args, **kwargs)
        with saved_tensors_hooks(_as_it_is, _as_it_is):
            return work(*args, **kwargs)

    def _check_plain(self, name: str, answer: Any) -> None:
        """Refuse an operation without a rule whose own gradient would be wrong."""
        plain = self._rule_set.plain
        if plain is None or name in plain:
            return
        for tensor in filter(depends_on_image, tensors_in(answer)):
            raise UnsupportedModelError(
                f"{self._who}: there is no backward rule for the operation {name!r} (output "
                f"of shape {tuple(tensor.shape)}). Its plain gradient would be used silently "
                "and the map would be wrong. Use a convolutional network without it, or a "
                "method without rules such as GradCAM."
            )

    def _record(self, name: str, answer: Any, inputs: Sequence[Tensor]) -> None:
        """Write down what the operation ``name`` has made of ``inputs``."""
        activations = [tensor for tensor in inputs if tensor.requires_grad]
        for tensor in tensors_in(answer):
            is_new = all(tensor is not given for given in inputs)
            if is_new and not self.recording:
                for used in activations:
                    trace_of(used).used = True
            if not tensor.requires_grad:
                if self._rule_set.plain is not None:
                    self._inplace.expose(tensor, *activations)
            elif is_new:
                self._record_activation(name, tensor, activations)

    def _record_activation(self, name: str, tensor: Tensor, activations: Sequence[Tensor]) -> None:
        trace = self._adopt(tensor, resulting_dims(name, activations, tensor))
        gates = self._rule_set.gates
        trace.gate = name in gates or (bool(gates) and _is_still_gate(name, activations))
        self.observed.note_activation(name, tensor)
        if self.recording and not has_port(tensor):
            self.largest_gradient = max(self.largest_gradient, tensor.numel())

    def read_out(self, output: Any, layer: str) -> Any:
        """What a layer is to return instead of ``output`` for a map to be read there.

        Raises:
            LayerError: Relevance goes past the output already.
            NotRecordedError: What was not recorded has used the output already.
        """
        output = self.current(output)
        if depends_on_image(output):
            check_not_bypassed(output, layer, self._who)
            with torch_functions_disabled():  # a hook runs inside of the block
                output = self._inplace.redirect(output, self._readable(output))
            self.largest_gradient = max(self.largest_gradient, output.numel())
        self.recording = True
        return output

    def _readable(self, output: Tensor) -> Tensor:
        """The values of ``output`` as a tensor that all relevance above passes through."""
        trace = trace_of(output)
        if self.recording:
            copy = materialise(output)
            trace_of(copy).pool_port = None
            return copy
        if trace.used:
            raise NotRecordedError
        edge = get_gradient_edge(output)
        self._read_unrecorded.add((edge.node, edge.output_nr))
        leaf = output.detach().requires_grad_()
        set_trace(leaf, replace(trace, run=self._run, node=None))
        return leaf

    def has_made(self, logits: Tensor) -> bool:
        """True if the operation that gave the logits was seen, or need not be."""
        any_will_do = self._rule_set.plain is None and not self._hooks_seen
        return any_will_do or self._is_known(logits)

    def check_recorded(self, logits: Tensor) -> None:
        """Raise NotRecordedError if the maps of ``logits`` need what was not recorded.

        That is the classifier, or a way from an output that was read past the reading.
        """
        if self._records_all:
            return
        edges = (edge for node in ancestors(logits) for edge in node.next_functions)
        no_head = self._rule_set.needs_head and not self._weights_recorded
        if no_head or any(edge in self._read_unrecorded for edge in edges):
            raise NotRecordedError


def _is_still_gate(name: str, activations: Sequence[Tensor]) -> bool:
    """True if what ``name`` made of gates is one: of a single gate, or a product of several."""
    sources = activations[:1] if name in _LIKE_ANOTHER else activations
    if name in _WEIGHTED or (len(sources) > 1 and name != "mul"):
        return False
    return all(trace_of(tensor).gate for tensor in sources)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _not_saved(_nothing: None) -> NoReturn:
    """A gradient is taken of what was not recorded, as by ``autograd.grad`` in the model."""
    raise NotRecordedError


def _origin(tensor: Tensor) -> str:
    trace = find_trace(tensor)
    if tensor.grad_fn is None or (trace is not None and trace.node is tensor.grad_fn):
        return "an earlier forward pass"
    return type(tensor.grad_fn).__name__.removesuffix("Backward")
