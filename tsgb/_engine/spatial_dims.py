"""Where the pixels of an activation are: which two of its dimensions are rows and columns.

Not every tensor with four dimensions is a feature map [B, C, H, W]. Attention is [B, heads, N, N],
and networks with channels last hold [B, H, W, C]; drawn as maps, their numbers would be those of
something else. So each operation passes on where the pixels are:

* the two dimensions, counted from the end, (-2, -1) in a feature map;
* ``TOKENS``: there are positions, but no longer as two dimensions;
* None: a vector, or one number for each channel.
"""

from collections.abc import Sequence

from torch import Tensor

from tsgb._rules.state import SpatialDims, trace_of

FEATURE_MAP: SpatialDims = (-2, -1)
TOKENS: SpatialDims = ()

_ON_FEATURE_MAPS = frozenset(
    {"conv2d", "conv_transpose2d", "batch_norm", "group_norm", "instance_norm", "interpolate"}
    | {"adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d", "lp_pool2d"}
    | {"fractional_max_pool2d", "max_pool2d_with_indices", "fold", "grid_sample", "pixel_shuffle"}
    | {"pixel_unshuffle", "upsample"}
)

_SLICING = frozenset(
    {"__getitem__", "narrow", "chunk", "split", "split_with_sizes", "index_select", "pad"}
    | {"cat", "concat", "concatenate", "repeat", "repeat_interleave"}
)

_RESHAPING = frozenset(
    {"view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "channel_shuffle"}
)

_REARRANGING = frozenset(
    {"permute", "transpose", "movedim", "swapaxes", "t", "__get__", "squeeze", "unsqueeze"}
    | {"expand", "expand_as", "select", "unbind"}
)

_MIXING = frozenset(
    {"matmul", "__matmul__", "__rmatmul__", "bmm", "baddbmm", "einsum", "linear", "tensordot"}
    | {"multi_head_attention_forward", "scaled_dot_product_attention"}
)


def has_positions(tensor: Tensor) -> bool:
    """True if the activation holds more than one position, wherever they are."""
    dims = trace_of(tensor).spatial_dims
    if dims is None:
        return False
    return dims == TOKENS or tensor.shape[dims[0]] * tensor.shape[dims[1]] > 1


def is_feature_map(tensor: Tensor) -> bool:
    """True for an activation [B, C, H, W] with more than one pixel."""
    dims = trace_of(tensor).spatial_dims
    return tensor.dim() == 4 and dims == FEATURE_MAP and tensor.shape[2:].numel() > 1


def resulting_dims(
    operation: str, activations: Sequence[Tensor], output: Tensor
) -> SpatialDims | None:
    """Where the pixels are in ``output``, which ``operation`` has made of ``activations``."""
    if output.dim() < 3:
        return None
    if operation in _ON_FEATURE_MAPS and output.dim() == 4:
        return FEATURE_MAP
    for tensor in activations:
        dims = trace_of(tensor).spatial_dims
        if dims and (kept := _kept(operation, dims, tensor, output)):
            return kept
    if any(map(has_positions, activations)) and output.shape[2:].numel() > 1:
        return TOKENS
    return None


def _kept(operation: str, dims: SpatialDims, x: Tensor, y: Tensor) -> SpatialDims | None:
    """Where the pixels of ``x`` are in ``y``; None if they are not, or cannot be known."""
    if y.shape == x.shape and operation not in _REARRANGING | _MIXING:
        return dims
    if operation in _MIXING and (operation != "linear" or -1 in dims):
        return None
    if operation in _SLICING and y.dim() == x.dim():
        return dims
    if operation in _REARRANGING | _SLICING:
        return _same_strides(dims, x, y)
    if operation in _RESHAPING and dims != FEATURE_MAP:
        return None
    same_size = y.dim() >= -min(dims) and all(y.shape[d] == x.shape[d] for d in dims)
    return dims if same_size else None


def _same_strides(dims: SpatialDims, x: Tensor, y: Tensor) -> SpatialDims | None:
    """The dimensions of the view ``y`` of ``x`` that step through memory as the pixels of ``x``."""
    found = []
    for dim in dims:
        step = (x.shape[dim], x.stride(dim))
        same = [d - y.dim() for d in range(y.dim()) if (y.shape[d], y.stride(d)) == step]
        if not same:
            return None
        found.append(dim if dim in same else same[-1])
    return tuple(found) if len(set(found)) == len(found) else None
