"""What one forward pass left behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

IMAGE = ""
"""Name that stands for the input image in a list of layers."""


@dataclass(frozen=True)
class Forward:
    """What one forward pass left behind; all tensors belong to one autograd graph.

    Attributes:
        images: [B, C, H, W], the leaf of the graph.
        relevance: [B, 1, H, W] of ones. For rules with ports, where the image is read, its gradient
            is the sum over channels of ``images`` times their gradient, and ``images`` have none.
        logits: [B, classes].
        activations: Output of each layer that is read, [B, C', H', W'].
        last_map: The last activation of more than one pixel that is not a pooling output.
        no_map: Why there is no ``last_map``, and what to do.
        excitations: Outputs of max-pools and strided convolutions, after the input of the first;
            see :func:`tsgb.extrapolate`.
        linear_inputs: Inputs [B, F] of linear layers, in the order of the forward pass.
        classes_per_sweep: Number of classes to send back in one sweep.
        is_complete: Operations were recorded from the image on, not from the first layer read.
    """

    images: Tensor
    relevance: Tensor
    logits: Tensor
    activations: Mapping[str, Tensor]
    last_map: Tensor | None
    no_map: str
    excitations: Sequence[Tensor]
    linear_inputs: Sequence[Tensor]
    classes_per_sweep: int
    is_complete: bool
