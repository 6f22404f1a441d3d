"""The base classes of all saliency methods: checks, forward pass, and the shape of the maps."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, fx, nn

from tsgb._engine.forward import Forward
from tsgb._engine.forward_pass import check_layer, own_settings, run_forward
from tsgb._engine.head import check_nothing_hidden
from tsgb._engine.sweeps import joint_gradients
from tsgb._rules.rule_set import PLAIN_AUTOGRAD, RuleSet
from tsgb._torch_internals import is_overload, is_quantised, without_compilation
from tsgb.errors import (
    LayerError,
    NonFiniteError,
    ShapeError,
    TargetError,
    UnsupportedModelError,
    named,
)
from tsgb.facts import Facts

_IF_NOT_FINITE = {
    "images": "Check how they are loaded and normalised.",
    "logits": "Check the weights of the model and the normalisation of the images.",
    "maps": "Report the model; no input should lead here.",
    "baseline's values": "Pass finite numbers.",
}


class Method(ABC):
    """A saliency method for one model.

    A subclass states its backward rules in ``_rule_set``, where it reads in :meth:`_read_out`, and
    writes :meth:`_maps`, or :meth:`GradientMethod._combine` if it makes its map from a
    gradient.

    The model is used as it is and left as it was, also after an exception. A method can be copied
    and pickled as its model can, to send it to another process: the copy has its own model.

    Args:
        model: Classifier that returns logits, in evaluation mode.
        layer: Name of the module whose output is read, as in ``model.named_modules()``.

    Raises:
        LayerError: The model has no layer of that name.
        UnsupportedModelError: The model is TorchScript, exported or wrapped for several devices.
    """

    facts: ClassVar[Facts]

    def __init__(self, model: nn.Module, *, layer: str | None = None) -> None:
        self._model = without_compilation(model)
        self._layer = layer
        self._check_kind()
        if layer is not None:
            self._check_layers([layer])

    def attribute(self, images: Tensor, targets: Tensor) -> Tensor:
        """Saliency maps of ``targets``, raw, and signed where the method has a sign.

        One forward pass, then as many backward sweeps as the method needs for each of the K
        classes: one as a rule, none for CAM.

        Args:
            images: [B, C, H, W], floating, normalised as the model expects. Half precision is
                computed in float32.
            targets: Class indices, [B] or [B, K], not one-hot rows; -1 stands for no class and
                gives a zero map. On the CPU they are checked without waiting for a GPU.

        Returns:
            [B, K, h, w] (K = 1 for targets [B]) on the device of the images; h and w are those of
            the read-out: the image's, or the layer's.

        Raises:
            LayerError: The layer runs several times, never, or gives no feature map.
            NonFiniteError: NaN or infinity in images, logits or maps.
            ShapeError: Images, targets or the model's output have the wrong shape or type.
            TargetError: A target is not a class index.
            UnsupportedModelError: The model cannot be explained rightly.
        """
        return self.attribute_with_logits(images, targets)[0]

    def attribute_with_logits(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`attribute`, and the logits [B, classes] of the same forward pass."""
        with self._settings(images):
            forward, columns = self.run(images, targets, self.layers_read)
            (maps,) = self._finished(forward, self.maps_from(forward, columns))
            return maps, forward.logits.detach()

    @property
    def layers_read(self) -> tuple[str, ...]:
        """Layers that the maps are read from; none: the image, or the last feature map."""
        return () if self._layer is None else (self._layer,)

    @contextmanager
    def _settings(self, images: Tensor) -> Iterator[None]:
        """The block that every computation runs in; errors from inside bear the method's name."""
        self._check_tensor(images, "images", "Normalise a picture and stack it with others.")
        with named(self._name), own_settings(images.device):
            yield

    def run(self, images: Tensor, targets: Tensor, layers: Sequence[str]) -> tuple[Forward, Tensor]:
        """A forward pass to read ``layers`` from, and the targets as [B, K].

        Called by :meth:`attribute`, and by methods that are made of this one
        (:class:`tsgb._composition.Composable`); so is :meth:`maps_from`.
        """
        self._check_images(images)
        self._check_mode()
        indices = self._indices(images, targets)
        forward = run_forward(
            self._model,
            images,
            layers=layers,
            rule_set=self._rule_set,
            who=self._name,
        )
        self._check_range(indices, forward.logits.shape[1])
        return forward, indices.to(images.device, non_blocking=True)

    def _finished(self, forward: Forward, *maps: Tensor) -> tuple[Tensor, ...]:
        """Maps for the caller. Logits are looked at only here, so that a GPU can run on."""
        self._check_finite(("logits", forward.logits), *(("maps", one) for one in maps))
        return tuple(one.detach() for one in maps)

    def maps_from(self, forward: Forward, targets: Tensor) -> Tensor:
        """Raw maps [B, K, h, w] for ``targets`` [B, K] from such a pass, without a graph."""
        return self._maps(forward, targets).detach()

    @abstractmethod
    def _maps(self, forward: Forward, targets: Tensor) -> Tensor:
        """Raw maps [B, K, h, w] for ``targets`` [B, K]; zero where the target is -1."""

    def _read_out(self, forward: Forward) -> Tensor:
        """The activation that the maps are read from, [B, C, h, w]."""
        return forward.images if self._layer is None else forward.activations[self._layer]

    def _layer_or_last_map(self, forward: Forward) -> Tensor:
        """The named layer or the last feature map, for a ``_read_out`` that needs one of them."""
        if self._layer is not None:
            return forward.activations[self._layer]
        if forward.last_map is None:
            check_nothing_hidden(forward.logits, self._name)
            raise LayerError(f"{self._name}: {forward.no_map}")
        return forward.last_map

    @property
    def _rule_set(self) -> RuleSet:
        """Rules of all operations; a property, because rules are closures and cannot be pickled."""
        return PLAIN_AUTOGRAD

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _check_kind(self) -> None:
        if not isinstance(self._model, nn.Module):
            raise UnsupportedModelError(
                f"{self._name}: the model is of type {type(self._model).__name__}, expected a "
                "torch.nn.Module. Its layers and its mode cannot be seen. Pass the network itself, "
                "or a module whose forward() calls the function."
            )
        parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
        for name, module in self._model.named_modules():
            label = repr(name or "<the model itself>")
            if isinstance(module, torch.jit.ScriptModule):
                raise UnsupportedModelError(
                    f"{self._name}: submodule {label} is TorchScript. Its operations run outside "
                    "Python, so their backward pass cannot be changed and the result would "
                    "silently be a plain gradient. Pass the eager model that was given to "
                    "torch.jit.script() instead."
                )
            if _is_exported(module):
                raise UnsupportedModelError(
                    f"{self._name}: submodule {label} is an exported program. It calls operations "
                    "under other names than layers do, overwrites activations, and its mode is "
                    "built in, so maps would be missing or wrong. Pass the eager model that was "
                    "given to torch.export.export() instead."
                )
            if is_quantised(module):
                raise UnsupportedModelError(
                    f"{self._name}: submodule {label} ({type(module).__name__}) is quantised. Its "
                    "operations on whole numbers have no gradients. Pass the network in floating "
                    "point that was quantised."
                )
            if isinstance(module, parallel):
                raise UnsupportedModelError(
                    f"{self._name}: submodule {label} is {type(module).__name__}. It runs copies "
                    "or synchronises gradients where they cannot be seen, and the result would "
                    "silently be a plain gradient. Pass its .module instead."
                )

    def _check_mode(self) -> None:
        for name, module in self._model.named_modules():
            if module.training:
                raise UnsupportedModelError(
                    f"{self._name}: {name or '<the model itself>'!r} is in training mode. Dropout "
                    "and batch statistics would change the map from call to call. "
                    "Call model.eval() first."
                )

    def _check_layers(self, layers: Sequence[str]) -> None:
        if isinstance(layers, str) or not layers or not all(isinstance(n, str) for n in layers):
            raise LayerError(
                f"{self._name}: layers are given as {layers!r}. Layers are found by their names. "
                "Give names from model.named_modules(): layer='layer4', or for several "
                "layers=['layer3', 'layer4']."
            )
        for layer in layers:
            check_layer(self._model, layer, self._name)

    def _check_tensor(self, value: object, what: str, remedy: str) -> None:
        if not isinstance(value, Tensor):
            raise ShapeError(
                f"{self._name}: {what} are of type {type(value).__name__}, expected a "
                f"torch.Tensor. Its shape and device cannot be checked. {remedy}"
            )

    def _check_images(self, images: Tensor) -> None:
        if images.dim() != 4 or not images.is_floating_point() or len(images) == 0:
            raise ShapeError(
                f"{self._name}: images have shape {tuple(images.shape)} and type {images.dtype}, "
                "expected floating [B, C, H, W] with B >= 1. The model could not be run. "
                "Convert to float, normalise, and add a batch dimension with images[None]."
            )
        self._check_finite(("images", images))

    def _check_finite(self, *tensors: tuple[str, Tensor]) -> None:
        """Refuse NaN and infinity in tensors of these names; a GPU is waited for once."""
        finite = [tensor.isfinite().all() for _, tensor in tensors]
        if torch.stack(finite).all():
            return
        what = next(name for (name, _), fine in zip(tensors, finite, strict=True) if not fine)
        raise NonFiniteError(
            f"{self._name}: the {what} hold NaN or infinity. "
            f"The map would be meaningless. {_IF_NOT_FINITE[what]}"
        )

    def _indices(self, images: Tensor, targets: Tensor) -> Tensor:
        """``targets`` as [B, K] on the CPU, where they can be checked at no cost."""
        self._check_tensor(targets, "targets", "Make one, as with torch.tensor([[207, 281]]).")
        whole = not (targets.is_floating_point() or targets.is_complex())
        if not whole or targets.dtype == torch.bool:
            raise ShapeError(
                f"{self._name}: targets have type {targets.dtype}, expected whole numbers. They "
                "are class indices, not scores. Use targets.nonzero() or argmax() to get indices."
            )
        if targets.dim() not in (1, 2) or len(targets) != len(images) or targets.numel() == 0:
            raise ShapeError(
                f"{self._name}: targets have shape {tuple(targets.shape)} for {len(images)} "
                "images. It is ambiguous which class belongs to which image. Pass [B] or [B, K] "
                "class indices, filled up with -1 where an image has fewer classes."
            )
        return targets.to("cpu", torch.int64).reshape(len(images), -1)

    def _check_range(self, targets: Tensor, classes: int) -> None:
        wrong = (targets < -1) | (targets >= classes)
        if wrong.any():
            image, column = wrong.nonzero()[0].tolist()
            raise TargetError(
                f"{self._name}: target {targets[image, column].item()} of image {image} is not a "
                f"class of a model with {classes} classes. Use 0 to {classes - 1}, or -1 for no "
                "class."
            )
        repeated = (targets.sort(1).values.diff(dim=1) == 0).any()
        if targets.shape[1] == classes and ((targets == 0) | (targets == 1)).all() and repeated:
            raise TargetError(
                f"{self._name}: targets {tuple(targets.shape)} hold only 0 and 1, for a model with "
                f"{classes} classes. As one-hot rows they name one class or several for each "
                "image; as indices they would be read as classes 0 and 1, again and again. For "
                "one-hot rows pass targets.argmax(1); for several classes an image, their indices, "
                "filled up with -1; for classes 0 and 1, each once."
            )


def _is_exported(module: nn.Module) -> bool:
    """True for a graph of ATen operations, as torch.export makes it of a model."""
    graph = getattr(module, "graph", None)
    return isinstance(graph, fx.Graph) and any(is_overload(node.target) for node in graph.nodes)


class GradientMethod(Method):
    """A method that makes each map from an activation and the gradient of the target's logit."""

    def attribute_layers(
        self, images: Tensor, targets: Tensor, layers: Sequence[str]
    ) -> dict[str, Tensor]:
        """:meth:`attribute` at several layers, in one forward pass and one sweep for each class.

        Args:
            images: As in :meth:`attribute`.
            targets: As in :meth:`attribute`.
            layers: Names of modules; the layer of the constructor plays no part.

        Returns:
            Maps [B, K, h, w] by layer, each as large as the layer's output.

        Example:
            >>> from tsgb import TSGB
            >>> model = torch.nn.Sequential(
            ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3),
            ...     torch.nn.Flatten(), torch.nn.Linear(64, 5)).eval()
            >>> images, targets = torch.rand(1, 3, 8, 8), torch.tensor([2])
            >>> maps = TSGB(model).attribute_layers(images, targets, ["0", "2"])
            >>> maps["0"].shape, maps["2"].shape
            (torch.Size([1, 1, 6, 6]), torch.Size([1, 1, 4, 4]))
        """
        self._check_layers(layers)
        with self._settings(images):
            forward, columns = self.run(images, targets, layers)
            maps = self._all_maps(forward, columns, [forward.activations[n] for n in layers])
            return dict(zip(layers, self._finished(forward, *maps), strict=True))

    def _all_maps(
        self, forward: Forward, targets: Tensor, activations: Sequence[Tensor]
    ) -> list[Tensor]:
        """Maps [B, K, h, w] at each activation."""
        values = [activation.detach() for activation in activations]
        columns = [
            [self._combine(value, g) for value, g in zip(values, gradients, strict=True)]
            for gradients in joint_gradients(forward, activations, targets)
        ]
        return [torch.stack(maps, dim=1) for maps in zip(*columns, strict=True)]

    def _maps(self, forward: Forward, targets: Tensor) -> Tensor:
        return self._all_maps(forward, targets, [self._read_out(forward)])[0]

    @abstractmethod
    def _combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """One map [B, h, w] from an activation and its gradient, both [B, C, h, w]."""


class FeatureMapMethod(GradientMethod):
    """A gradient method that reads the last feature map unless a layer is named."""

    def _read_out(self, forward: Forward) -> Tensor:
        return self._layer_or_last_map(forward)
