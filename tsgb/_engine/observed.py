"""What methods look for in a forward pass: the last feature map, excitations, inputs of layers."""

from typing import Any

from torch import Tensor

from tsgb._engine.spatial_dims import has_positions, is_feature_map
from tsgb._engine.torch_calls import is_strided, tensors_in
from tsgb._rules.rule_set import STRUCTURAL

_MAX_POOLING = frozenset({"max_pool2d", "max_pool2d_with_indices"})

_POOLING = _MAX_POOLING | frozenset(
    {"adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "lp_pool2d"}
    | {"fractional_max_pool2d"}
)


class Observed:
    """What was met, in the order of the forward pass.

    Attributes:
        last_map: The most recent activation of more than one pixel that is not a pooling output;
            None if there is none, or if later activations with positions are not feature maps.
        no_map: Why there is no ``last_map``, and what to do.
        excitations: What :func:`tsgb.extrapolate` sharpens maps with: the input of the first
            max-pool or strided convolution, then the outputs of all.
        linear_inputs: Inputs [B, F] of linear layers.
    """

    def __init__(self) -> None:
        self.last_map: Tensor | None = None
        self.no_map = (
            "no activation of more than one pixel was found. There is no feature map to read. "
            "Pass larger images, or name a layer with layer=."
        )
        self.excitations: list[Tensor] = []
        self.linear_inputs: list[Tensor] = []

    def note_call(self, name: str, args: list[Any], kwargs: dict[str, Any], answer: Any) -> None:
        """Keep the excitations and linear inputs of one operation."""
        if name in _MAX_POOLING or (name == "conv2d" and is_strided(args, kwargs)):
            if not self.excitations:
                self.excitations.append(args[0].detach())
            self.excitations.append(tensors_in(answer)[0].detach())
        if name == "linear" and args[0].dim() == 2:
            self.linear_inputs.append(args[0])

    def note_activation(self, name: str, activation: Tensor) -> None:
        """Keep ``activation``, which the operation ``name`` has made, if it is a feature map."""
        if name == "region_mean":
            self.last_map = None
            self.no_map = (
                "the last feature map is that of the dense logits. It shows where the class is, "
                "not what speaks for it in the region. Name a layer with layer=, such as the last "
                "one of the encoder."
            )
        elif is_feature_map(activation):
            self.last_map = self.last_map if name in _POOLING else activation
        elif has_positions(activation) and name not in STRUCTURAL:
            self.last_map = None
            self.no_map = (
                f"the last activation with positions is the output of {name!r}, "
                f"{tuple(activation.shape)}, not a feature map [B, C, H, W]. Tokens or attention "
                "would be drawn as if they were pixels. Name a layer that gives a feature map with "
                "layer=, or use a method that reads at the image, such as InputXGradient."
            )
