"""Where the pixels of an activation are: which two of its dimensions are rows and columns.

Not everything with four dimensions is a feature map [B, C, H, W]. Attention is [B, heads, N, N],
and networks with channels last hold [B, H, W, C]; drawn as maps, their numbers would be those of
something else. So every activation bears a note, passed on from operation to operation:

* the two dimensions, counted from the end, (-2, -1) in a feature map;
* ``SOMEWHERE``: there are positions, but no longer as two dimensions (tokens);
* nothing: a vector or a number for each channel.
"""

from collections.abc import Sequence

from torch import Tensor

Space = tuple[int, ...]

FEATURE_MAP: Space = (-2, -1)
SOMEWHERE: Space = ()

_OF_FEATURE_MAPS = frozenset(
    {"conv2d", "conv_transpose2d", "batch_norm", "group_norm", "instance_norm", "interpolate"}
    | {"adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d", "lp_pool2d"}
    | {"fractional_max_pool2d", "max_pool2d_with_indices", "fold", "grid_sample", "pixel_shuffle"}
    | {"pixel_unshuffle", "upsample"}
)

_CUTTING = frozenset(
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


def space_of(tensor: Tensor) -> Space | None:
    """The note that ``tensor`` bears."""
    space: Space | None = getattr(tensor, "_tsgb_space", None)
    return space


def note_space(tensor: Tensor, space: Space | None) -> None:
    """Let ``tensor`` bear ``space``."""
    tensor._tsgb_space = space  # type: ignore[attr-defined]


def has_positions(tensor: Tensor) -> bool:
    """True if ``tensor`` holds more than one position, wherever they are."""
    space = space_of(tensor)
    if space is None:
        return False
    return space == SOMEWHERE or tensor.shape[space[0]] * tensor.shape[space[1]] > 1


def is_feature_map(tensor: Tensor) -> bool:
    """True for [B, C, H, W] with more than one pixel."""
    return tensor.dim() == 4 and space_of(tensor) == FEATURE_MAP and has_positions(tensor)


def resulting_space(operation: str, inputs: Sequence[Tensor], output: Tensor) -> Space | None:
    """The note for ``output``, which ``operation`` has made of ``inputs``."""
    if output.dim() < 3:
        return None
    if operation in _OF_FEATURE_MAPS and output.dim() == 4:
        return FEATURE_MAP
    for tensor in inputs:
        space = space_of(tensor)
        if space and (kept := _kept(operation, space, tensor, output)):
            return kept
    if any(map(has_positions, inputs)) and output.shape[2:].numel() > 1:
        return SOMEWHERE
    return None


def _kept(operation: str, space: Space, x: Tensor, y: Tensor) -> Space | None:
    """Where the pixels of ``x`` are in ``y``; None if they are not, or cannot be known."""
    if y.shape == x.shape and operation not in _REARRANGING | _MIXING:
        return space
    if operation in _MIXING and (operation != "linear" or -1 in space):
        return None
    if operation in _CUTTING and y.dim() == x.dim():
        return space
    if operation in _REARRANGING | _CUTTING:
        return _same_strides(space, x, y)
    if operation in _RESHAPING and space != FEATURE_MAP:
        return None
    same_size = y.dim() >= -min(space) and all(y.shape[d] == x.shape[d] for d in space)
    return space if same_size else None


def _same_strides(space: Space, x: Tensor, y: Tensor) -> Space | None:
    """The dimensions of the view ``y`` of ``x`` that step through memory as the pixels of ``x``."""
    found = []
    for dim in space:
        step = (x.shape[dim], x.stride(dim))
        same = [d - y.dim() for d in range(y.dim()) if (y.shape[d], y.stride(d)) == step]
        if not same:
            return None
        found.append(dim if dim in same else same[-1])
    return tuple(found) if len(set(found)) == len(found) else None
