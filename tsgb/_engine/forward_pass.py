"""Runs the network under interception: once, or once more where the first pass recorded too little.

The first pass is a bet that most networks win. It records nothing below the first layer that is
read, and prepares only those convolutions to be the classifier that probably are. If something
turns out to be needed that was not recorded (a layer returns what was used before, the classifier
lies below the layer, or is another convolution), :class:`NotRecordedError` ends that pass, and the
second one records everything.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from tsgb._engine.forward import IMAGE, Forward
from tsgb._engine.head import check_nothing_hidden, find_head
from tsgb._engine.interception import Interception, NotRecordedError
from tsgb._engine.spatial_dims import FEATURE_MAP, TOKENS
from tsgb._engine.sweeps import classes_that_fit
from tsgb._rules.ports import with_port
from tsgb._rules.rule_set import RuleSet
from tsgb._rules.state import Port, WeightedLayer, state_of, trace_of
from tsgb._torch_internals import run_eagerly
from tsgb.errors import LayerError, ShapeError, UnsupportedModelError


@contextmanager
def own_settings(device: torch.device) -> Iterator[None]:
    """Gradients on; inference mode, autocast and compilation off."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(run_eagerly())
        yield


def run_forward(
    model: nn.Module, images: Tensor, *, layers: Sequence[str], rule_set: RuleSet, who: str
) -> Forward:
    """Run ``model`` on ``images`` with the gradients of ``rule_set``, at most twice.

    Args:
        model: In evaluation mode.
        images: [B, C, H, W].
        layers: What gradients will be taken of, ``IMAGE`` for the image. Without layers the image
            is meant.
        rule_set: What the operations answer with.
        who: The method, for messages.
    """
    run = partial(_pass, model, images, layers, who)
    try:
        with suppress(NotRecordedError):
            return run(rule_set, recording=_reads_image(layers))
        return run(rule_set.fallback or rule_set, recording=True)
    except RuntimeError as error:
        _check_weights(model, images, who, error)
        raise


def _reads_image(layers: Sequence[str]) -> bool:
    return not layers or IMAGE in layers


def _pass(
    model: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    who: str,
    rule_set: RuleSet,
    *,
    recording: bool,
) -> Forward:
    leaf = images.detach().to(_precision(images))
    leaf = (leaf.clone() if leaf.is_inference() else leaf).requires_grad_()
    relevance = torch.ones_like(leaf[:, :1]).requires_grad_()
    if rule_set.ports and _reads_image(layers):
        with_port(leaf, Port(relevance, masked=True))
    interception = Interception(who, rule_set, leaf, recording=recording)
    names = [layer for layer in layers if layer != IMAGE]
    with _captured(model, names, interception.read_out) as outputs, interception:
        logits = interception.current(model(leaf))
    _check_logits(logits, len(images), interception, who)
    activations = {layer: _only_map(layer, outputs[layer], logits, who) for layer in names}
    interception.check_recorded(logits)
    observed = interception.observed
    fit = classes_that_fit(interception.largest_gradient)
    forward = Forward(
        images=leaf,
        relevance=relevance,
        logits=logits,
        activations=activations,
        last_map=observed.last_map,
        no_map=observed.no_map,
        excitations=tuple(observed.excitations),
        linear_inputs=tuple(observed.linear_inputs),
        classes_per_sweep=fit if rule_set.vmappable else 1,
        is_complete=recording,
    )
    if rule_set.needs_head:
        _check_prepared(forward, who)
    return forward


def _check_prepared(forward: Forward, who: str) -> None:
    layer = state_of(find_head(forward, who), WeightedLayer)
    if layer is not None and not layer.prepared:
        raise NotRecordedError


def _check_weights(model: nn.Module, images: Tensor, who: str, error: RuntimeError) -> None:
    """Raise an error that names the weight because of which torch raised ``error``."""
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_inference():
            raise UnsupportedModelError(
                f"{who}: {name!r} of the model was made under torch.inference_mode(). No gradient "
                "can go past such a tensor and there would be no map. Build and load the model "
                "outside of inference_mode(), or pass copy.deepcopy(model), made outside of it."
            )
        asked, own = _precision(images), _precision(tensor)
        if tensor.is_floating_point() and asked != own and "type" in str(error):
            raise ShapeError(
                f"{who}: images are {images.dtype}, but {name!r} of the model is {tensor.dtype} "
                "(half precision counts as float32). torch does not mix the two. Convert one of "
                f"them: images.to({own}), or model.to({asked})."
            ) from error
        if tensor.device != images.device:
            raise ShapeError(
                f"{who}: images are on {images.device}, but {name!r} of the model is on "
                f"{tensor.device}. Move one of them: images.to({str(tensor.device)!r})."
            ) from error


def _precision(tensor: Tensor) -> torch.dtype:
    """The precision in which ``tensor`` takes part: half precision is computed in single."""
    return torch.promote_types(tensor.dtype, torch.float32)


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
            f"{who}: layer {layer!r} ran {len(outputs)} times in one forward pass. It is ambiguous "
            "which of its outputs is meant. Choose a layer that runs once."
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
    if trace_of(output).spatial_dims not in (None, TOKENS, FEATURE_MAP):
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
    if not logits.requires_grad or not interception.has_made(logits):
        check_nothing_hidden(logits, who)
        raise UnsupportedModelError(
            f"{who}: the logits do not depend on the images through operations that can be seen. "
            "Every map would be empty. If the model ends in a sigmoid, return its logits; "
            "remove detach() and no_grad() from its forward pass."
        )
