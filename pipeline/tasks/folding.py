"""Batch normalisation that is part of the convolution before it: the same numbers, sooner.

A batch normalisation that does not learn multiplies and adds one number a channel. On a CPU that
costs a walk through memory for every layer, and nothing if the weights of the convolution before it
are multiplied once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from typing import TypeVar

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


def folded(network: Network) -> Network:
    """A copy for inference, in which convolutions do what the batch norms after them did.

    This is done where nothing but the batch norm gets what the convolution gives. Names of layers
    stay; such a convolution now gives what the batch norm gave, which passes it on. A network that
    ``torch.fx`` cannot follow is copied as it is.

    Args:
        network: In eval mode; left as it is.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).eval()
        >>> [type(layer).__name__ for layer in folded(network)]
        ['Conv2d', 'Identity', 'ReLU']
    """
    copy = deepcopy(network)
    for first, second in _pairs(deepcopy(network)):  # tracing may leave its marks on what it traces
        convolution, norm = copy.get_submodule(first), copy.get_submodule(second)
        if (
            type(convolution) is nn.Conv2d
            and type(norm) is nn.BatchNorm2d
            and norm.running_mean is not None
        ):
            copy.set_submodule(first, fuse_conv_bn_eval(convolution, norm))
            copy.set_submodule(second, nn.Identity())
    return copy.to(memory_format=torch.channels_last)


def _pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of layers that run once, the second on what the first gives to nobody else."""
    try:
        nodes = fx.Tracer().trace(network).nodes
    except Exception:  # noqa: BLE001 a network's own code may raise anything when it is traced
        return
    calls = Counter(str(node.target) for node in nodes if node.op == "call_module")
    for node in nodes:
        if node.op != "call_module" or len(node.all_input_nodes) != 1:
            continue
        before = node.all_input_nodes[0]
        alone = before.op == "call_module" and len(before.users) == 1
        if alone and calls[str(before.target)] == calls[str(node.target)] == 1:
            yield str(before.target), str(node.target)
