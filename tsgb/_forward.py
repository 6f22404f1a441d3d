"""One forward pass under interception, and the class gradients of what it left."""

import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import disable_saved_tensors_hooks

from tsgb._below import OversleptError, is_cut
from tsgb._interception import Interception
from tsgb._operations import RuleSet
from tsgb._ports import Port, with_port
from tsgb._space import FEATURE_MAP, SOMEWHERE, space_of
from tsgb._sweeps import best_number, sweeps
from tsgb.errors import LayerError, NonFiniteError, ShapeError, UnsupportedModelError

_LAYERS = {
    "ConvRule": "a convolution",
    "LinearRule": "a linear layer",
    "ShareRule": "a linear layer or convolution",
}

IMAGE = ""
"""Stands for the image among the names of layers."""

_KEPT_OTHERWISE = "tsgb: the model changes how tensors are kept for the backward pass"


@dataclass(frozen=True)
class Forward:
    """What one forward pass left behind; all tensors belong to one autograd graph.

    Attributes:
        images: [B, C, H, W], the leaf of the graph.
        relevance: [B, 1, H, W] of ones. For rules with ports, where the image is read, its gradient
            is the sum over channels of ``images`` times their gradient, and ``images`` have none.
        logits: [B, classes].
        activations: Output of each read-out layer, [B, C', H', W'].
        last_map: The last activation of more than one pixel that is not a pooling output.
        no_map: Why there is no ``last_map``, and what to do.
        excitations: Outputs of max-pools and strided convolutions, after the input of the first;
            see :func:`tsgb.extrapolate`.
        vectors: Inputs [B, F] of linear layers, in the order of the forward pass.
        at_once: So many classes are best swept together.
    """

    images: Tensor
    relevance: Tensor
    logits: Tensor
    activations: Mapping[str, Tensor]
    last_map: Tensor | None
    no_map: str
    excitations: Sequence[Tensor]
    vectors: Sequence[Tensor]
    at_once: int


# What torch says of a tensor that was cut, where a model overwrites it unseen or wants gradients.
_WITHOUT_A_PAST = re.compile("leaf Variable|not have been used in the graph|does not require grad")


@contextmanager
def own_settings(device: torch.device) -> Iterator[None]:
    """Gradients on; inference mode, autocast and compilation off."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if "torch._dynamo" in sys.modules:  # nothing can be compiled before it is imported
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def run_forward(
    model: nn.Module, images: Tensor, *, layers: Sequence[str], rule_set: RuleSet, who: str
) -> Forward:
    """Run ``model`` on ``images`` with the gradients of ``rule_set``.

    Args:
        model: In evaluation mode.
        images: [B, C, H, W].
        layers: What gradients will be taken of, ``IMAGE`` for the image. Without it, nothing is
            kept below the layer that runs first; without any layer the image is meant.
        rule_set: What the operations answer with.
        who: The method, for messages.
    """
    run = partial(_pass, model, images, layers, who=who)

    def passed(*, asleep: bool) -> Forward:
        try:
            with disable_saved_tensors_hooks(_KEPT_OTHERWISE):
                return run(rule_set=rule_set, asleep=asleep)
        except RuntimeError as error:
            _check_weights(model, who)
            if _KEPT_OTHERWISE not in str(error):
                raise
        return run(rule_set=rule_set, asleep=asleep, shielded=True)

    if layers and IMAGE not in layers:
        try:
            return passed(asleep=True)
        except (OversleptError, UnsupportedModelError):
            pass
        except RuntimeError as error:
            if not _WITHOUT_A_PAST.search(str(error)):
                raise
    return passed(asleep=False)


def _pass(
    model: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    rule_set: RuleSet,
    who: str,
    *,
    asleep: bool,
    shielded: bool = False,
) -> Forward:
    leaf = images.detach().to(torch.promote_types(images.dtype, torch.float32))
    leaf = (leaf.clone() if leaf.is_inference() else leaf).requires_grad_()
    relevance = torch.ones_like(leaf[:, :1]).requires_grad_()
    if rule_set.ports and (not layers or IMAGE in layers):
        with_port(leaf, Port(relevance, masked=True))
    interception = Interception(who, rule_set, leaf, asleep=asleep, shielded=shielded)
    names = [layer for layer in layers if layer != IMAGE]
    with _captured(model, names, interception.read_out) as outputs, interception:
        logits = interception.current(model(leaf))
    if asleep and interception.overslept:
        raise OversleptError
    _check_logits(logits, len(images), interception, who)
    landmarks = interception.landmarks
    return Forward(
        images=leaf,
        relevance=relevance,
        logits=logits,
        activations={layer: _only_map(layer, outputs[layer], logits, who) for layer in names},
        last_map=landmarks.last_map,
        no_map=landmarks.no_map,
        excitations=tuple(landmarks.excitations),
        vectors=tuple(landmarks.vectors),
        at_once=best_number(interception.widest) if rule_set.batched else 1,
    )


def _check_weights(model: nn.Module, who: str) -> None:
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_inference():
            raise UnsupportedModelError(
                f"{who}: {name!r} of the model was made under torch.inference_mode(). No gradient "
                "can go past such a tensor and there would be no map. Build and load the model "
                "outside of inference_mode(), or pass copy.deepcopy(model), made outside of it."
            )


def class_gradients(forward: Forward, activation: Tensor, targets: Tensor) -> Iterator[Tensor]:
    """Gradient of the target logits, one backward sweep for each column of ``targets``.

    Args:
        forward: The pass that made the logits.
        activation: What the gradient is taken of, [B, C, H, W].
        targets: [B, K] class indices, -1 for no class.

    Yields:
        K tensors of the shape of ``activation``; zero where the target is -1.
    """
    for (gradient,) in joint_gradients(forward, [activation], targets):
        yield gradient


def joint_gradients(
    forward: Forward, activations: Sequence[Tensor], targets: Tensor
) -> Iterator[tuple[Tensor, ...]]:
    """:func:`class_gradients` of several activations in the same sweeps."""
    return sweeps(
        forward.logits, targets, activations, vectors=forward.vectors, at_once=forward.at_once
    )


def find_head(logits: Tensor, who: str) -> Any:
    """Autograd node of the classifier: the weighted layer that nothing weighted comes after.

    The rules of what does come after are told so.
    """
    found = []
    for node in made_by(logits, until=_is_end):
        if _is_end(node):
            found.append(node)
        elif hasattr(node, "above_head"):
            node.above_head = True
    if len(found) != 1 or not getattr(found[0], "can_be_head", False):
        check_nothing_hidden(logits, who)
        what = " and ".join(sorted(map(_described, found)))
        raise UnsupportedModelError(
            f"{who}: the logits do not come from one classifier layer but from {what}. "
            "What speaks for a class is read off the classifier and would be missing. "
            "Explain a network that ends in one Linear layer or one convolution without groups "
            "(for CAM: Linear) with nothing around it, and read below that layer; or use GradCAM."
        )
    return found[0]


def _is_end(node: Any) -> bool:
    """True for a weighted layer and for what nothing comes before, as the image."""
    return hasattr(node, "can_be_head") or not node.next_functions


def made_by(logits: Tensor, until: Callable[[Any], bool] = lambda _node: False) -> Iterator[Any]:
    """Autograd nodes that ``logits`` came from, on every way down to where ``until`` is true."""
    todo: list[Any] = [logits.grad_fn]
    seen: set[Any] = {None}
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        if not until(node):
            todo.extend(parent for parent, _ in node.next_functions)


def _described(node: Any) -> str:
    if hasattr(node, "variable"):
        return _described_leaf(node.variable)
    name = type(node).__name__.removesuffix("Backward")
    kind = _LAYERS.get(name, name)
    return kind if getattr(node, "can_be_head", True) else f"{kind} with groups"


def _described_leaf(leaf: Tensor) -> str:
    if isinstance(leaf, nn.Parameter):
        return "a weight of a custom autograd function"
    where = "the layer that is read or one before it" if is_cut(leaf) else "the image"
    return f"{where}, past every such layer"


def check_nothing_hidden(logits: Tensor, who: str) -> None:
    """Raise UnsupportedModelError if a part of the model was run where it cannot be seen.

    That part is no error by itself: what is read may lie above it.
    """
    nodes = made_by(logits)
    if any(type(node).__name__ == "CheckpointFunctionBackward" for node in nodes):
        raise UnsupportedModelError(
            f"{who}: the model uses gradient checkpointing with use_reentrant=True. Layers inside "
            "of it cannot be seen, neither feature maps nor the classifier, and the map would be "
            "missing or wrong. Switch it off (set_grad_checkpointing(False)) or use "
            "use_reentrant=False."
        )


def check_layer(model: nn.Module, layer: str, who: str) -> None:
    """Raise LayerError if ``model`` has no module of that name."""
    try:
        found = bool(layer and model.get_submodule(layer))
    except AttributeError:
        found = False
    if not found:
        names = [name for name, _ in model.named_modules() if name]
        close = ", ".join(get_close_matches(layer, names, n=3)) or ", ".join(names[:5])
        raise LayerError(
            f"{who}: the model has no layer {layer!r}. There is nothing to read a map from. "
            f"Use a name from model.named_modules(), such as: {close}."
        )


@contextmanager
def _captured(
    model: nn.Module, layers: Sequence[str], read_out: Callable[[Any, str], Any]
) -> Iterator[dict[str, list[Any]]]:
    """Collect the outputs of the named modules, with hooks that are gone afterwards."""
    outputs: dict[str, list[Any]] = {layer: [] for layer in layers}
    own_thread = threading.get_ident()
    with ExitStack() as stack:
        for layer in outputs:

            def hook(_module: nn.Module, _args: Any, output: Any, layer: str = layer) -> Any:
                if threading.get_ident() != own_thread:  # someone else's pass through the model
                    return output
                output = read_out(output, layer)
                outputs[layer].append(output)
                return output

            stack.callback(model.get_submodule(layer).register_forward_hook(hook).remove)
        yield outputs


def _only_map(layer: str, outputs: list[Any], logits: Tensor, who: str) -> Tensor:
    if len(outputs) != 1:
        raise LayerError(
            f"{who}: layer {layer!r} ran {len(outputs)} times in one forward pass. Which of its "
            "outputs is meant is open. Choose a layer that runs once."
        )
    output: Any = outputs[0]
    if not isinstance(output, Tensor) or output.dim() != 4 or not output.requires_grad:
        if isinstance(output, Tensor) and not output.requires_grad:
            check_nothing_hidden(logits, who)
        what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise LayerError(
            f"{who}: layer {layer!r} gives {what}, not a feature map [B, C, H, W] that depends "
            "on the image. It cannot be turned into a picture. Choose an earlier layer."
        )
    if space_of(output) not in (None, SOMEWHERE, FEATURE_MAP):
        raise LayerError(
            f"{who}: layer {layer!r} gives {tuple(output.shape)} with rows and columns in other "
            "places than [B, C, H, W]. Channels would be drawn as if they were pixels. Choose a "
            "layer that gives a feature map, such as the block around it."
        )
    return output


def _check_logits(logits: Any, batch: int, interception: Interception, who: str) -> None:
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != batch:
        what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ShapeError(
            f"{who}: the model returned {what}, expected logits of shape ({batch}, classes). "
            "A target would not mean a class. Wrap the model so that it returns logits only."
        )
    if not logits.requires_grad or not interception.made(logits):
        check_nothing_hidden(logits, who)
        raise UnsupportedModelError(
            f"{who}: the logits do not depend on the images through operations that can be seen. "
            "Every map would be empty. If the model ends in a sigmoid, return its logits; "
            "remove detach() and no_grad() from its forward pass."
        )
    if not logits.isfinite().all():
        raise NonFiniteError(
            f"{who}: the logits hold NaN or infinity. The map would be NaN as well. "
            "Check the weights of the model and the normalisation of the images."
        )
