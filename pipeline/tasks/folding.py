"""Batch normalisation that is part of the convolution before it: the same numbers, sooner.

A batch normalisation that does not learn is one factor and one summand a channel. On a CPU each
costs a walk through memory, and nothing if the weights of the convolution before it have them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_IN_ORDER = nn.Sequential.forward


def fold_batch_norms(network: nn.Module) -> None:
    """Have convolutions do what the batch norms after them do, in place.

    For networks that were loaded to be run, not to be trained or explained. Pairs are those that
    follow each other in an ``nn.Sequential``; names of layers stay. Such a convolution then gives
    what the batch norm gave, which passes it on.

    Args:
        network: In eval mode; layers in training mode are left as they are.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).eval()
        >>> fold_batch_norms(network)
        >>> [type(layer).__name__ for layer in network]
        ['Conv2d', 'Identity', 'ReLU']
    """
    uses = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    for layers, index, convolution, norm in list(_pairs(network)):
        if uses[id(convolution)] == uses[id(norm)] == 1:  # else other ways lead through them
            layers[index] = fuse_conv_bn_eval(convolution, norm)
            layers[index + 1] = nn.Identity()


def _pairs(network: nn.Module) -> Iterator[tuple[nn.Sequential, int, nn.Conv2d, nn.BatchNorm2d]]:
    """Sequences of layers, and where in them which two may become one."""
    for layers in network.modules():
        if not isinstance(layers, nn.Sequential) or type(layers).forward is not _IN_ORDER:
            continue
        for index, (one, other) in enumerate(pairwise(layers)):
            if (
                type(one) is nn.Conv2d
                and type(other) is nn.BatchNorm2d
                and other.running_mean is not None
                and _is_plain(one)
                and _is_plain(other)
            ):
                yield layers, index, one, other


def _is_plain(layer: nn.Module) -> bool:
    """Whether it does what its class does and no more."""
    return not (layer.training or layer._forward_hooks or layer._forward_pre_hooks)
