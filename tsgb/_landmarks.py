"""What methods look for in a forward pass: the last feature map, excitations, vectors."""

from typing import Any

from torch import Tensor

from tsgb._calls import is_strided, tensors_in
from tsgb._operations import STRUCTURAL
from tsgb._space import has_positions, is_feature_map

_MAX_POOLING = frozenset({"max_pool2d", "max_pool2d_with_indices"})

_POOLING = _MAX_POOLING | frozenset(
    {"adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "lp_pool2d"}
    | {"fractional_max_pool2d"}
)


class Landmarks:
    """What was met on the way, in the order of the forward pass.

    Attributes:
        last_map: The most recent activation of more than one pixel that is not a pooling output;
            None if there is none, or something else than feature maps was computed since.
        no_map: Why there is no ``last_map``, and what to do.
        excitations: What :func:`tsgb.extrapolate` sharpens maps with: the input of the first
            max-pool or strided convolution, then the outputs of all.
        vectors: Inputs [B, F] of linear layers.
    """

    def __init__(self) -> None:
        self.last_map: Tensor | None = None
        self.no_map = (
            "no activation of more than one pixel was found. There is no feature map to read. "
            "Pass larger images, or name a layer with layer=."
        )
        self.excitations: list[Tensor] = []
        self.vectors: list[Tensor] = []

    def note_call(self, name: str, args: list[Any], kwargs: dict[str, Any], answer: Any) -> None:
        """Keep what an operation is itself the landmark of."""
        if name in _MAX_POOLING or (name == "conv2d" and is_strided(args, kwargs)):
            self._excite(args[0], tensors_in(answer)[0])
        if name == "linear" and args[0].dim() == 2:
            self.vectors.append(args[0])

    def _excite(self, x: Tensor, y: Tensor) -> None:
        if not self.excitations:
            self.excitations.append(x.detach())
        self.excitations.append(y.detach())

    def note_map(self, name: str, tensor: Tensor) -> None:
        """``tensor`` was newly made by the operation ``name``."""
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
