"""Sums over sliding windows, and their transpose.

A window sum is a convolution with a kernel of ones. It is separable, so it is written here as
shifted additions along one axis after the other: exact in every floating type, the same on every
device (a TF32 convolution would keep ten bits), and faster than a convolution with one channel. A
depthwise convolution is used for many channels on a CPU only. A convolution with weights, for few
output channels, is here for the same reasons: one matrix product for each kernel element.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

Pair = tuple[int, int]


class Window(NamedTuple):
    """Geometry of a sliding window; every field is (rows, columns)."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)


class _Axis(NamedTuple):
    dim: int  # -2 for rows, -1 for columns
    kernel: int
    stride: int
    padding: int
    dilation: int

    def span(self, positions: int) -> int:
        """Length that ``positions`` windows cover, padding included."""
        return (positions - 1) * self.stride + (self.kernel - 1) * self.dilation + 1

    def taps(self, maps: Tensor, positions: int) -> list[Tensor]:
        """Views of ``maps``: the k-th holds the k-th element of every window."""
        length = (positions - 1) * self.stride + 1
        starts = range(0, self.kernel * self.dilation, self.dilation)
        cuts = (slice(start, start + length, self.stride) for start in starts)
        return [maps[..., cut] if self.dim == -1 else maps[..., cut, :] for cut in cuts]

    def covers(self, maps: Tensor, positions: int) -> bool:
        """True if exactly this many windows fit into ``maps`` and its padding."""
        length = maps.shape[self.dim] + 2 * self.padding
        return self.span(positions) <= length < self.span(positions + 1)

    def is_identity(self) -> bool:
        return (self.kernel, self.stride, self.padding) == (1, 1, 0)


def box_sum(maps: Tensor, window: Window, size: Pair) -> Tensor:
    """Sum of ``maps`` inside each window; outside the map counts as zero.

    Args:
        maps: [B, C, H, W].
        window: Geometry of the window.
        size: Number of windows (rows, columns). Windows may reach past the padding, as with
            ``ceil_mode``.

    Returns:
        [B, C, *size].
    """
    if _is_for_a_convolution(maps, window, size):
        ones = maps.new_ones(maps.shape[1], 1, *window.kernel)
        return conv2d(maps, ones, None, *window[1:], groups=maps.shape[1])
    for axis, positions in zip(_axes(window), size, strict=True):
        maps = _sum_axis(maps, axis, positions)
    return maps


def box_spread(maps: Tensor, window: Window, size: Pair) -> Tensor:
    """Transpose of :func:`box_sum`: each value is added to every element of its window.

    Args:
        maps: [B, C, H', W'], one value a window.
        window: Geometry of the window.
        size: (H, W) of the map that the windows slide over.

    Returns:
        [B, C, *size]. Shares that fall on the padding are dropped.
    """
    mirrored = _mirrored(window)
    if mirrored is not None:
        return box_sum(maps, mirrored, size)
    for axis, length in zip(_axes(window), size, strict=True):
        maps = _spread_axis(maps, axis, length)
    return maps


def _mirrored(window: Window) -> Window | None:
    """The window whose sums are the transpose, if windows begin at every element."""
    rows, columns = (axis.span(1) - 1 - axis.padding for axis in _axes(window))
    if window.stride != (1, 1) or min(rows, columns) < 0:
        return None
    return window._replace(padding=(rows, columns))


def _is_for_a_convolution(maps: Tensor, window: Window, size: Pair) -> bool:
    """True where a depthwise convolution, which reads its input once, is as exact and faster."""
    fits = all(
        axis.covers(maps, positions) for axis, positions in zip(_axes(window), size, strict=True)
    )
    many = maps.shape[1] >= 8 and window.kernel != (1, 1)
    return many and fits and maps.is_cpu and maps.dtype == torch.float32


def window_elements(maps: Tensor, window: Window, size: Pair) -> Iterator[Tensor]:
    """For each element of the kernel, row by row, what it meets in every window: [B, C, *size]."""
    rows, columns = window.padding
    padded = pad(maps, (columns, columns, rows, rows))
    row_axis, column_axis = _axes(window)
    for stripe in row_axis.taps(padded, size[0]):
        yield from column_axis.taps(stripe, size[1])


def correlate(maps: Tensor, weight: Tensor, window: Window, size: Pair) -> Tensor:
    """Convolution of ``maps`` [B, C, H, W] with ``weight`` [O, C, kh, kw]: [B, O, *size]."""
    rows, columns = window.padding
    padded = pad(maps, (columns, columns, rows, rows))
    total = maps.new_zeros(maps.shape[0], weight.shape[0], *size)
    for element, view in _elements(padded, weight, window, size):
        total += torch.einsum("bchw,oc->bohw", view, element)
    return total


def correlate_back(maps: Tensor, weight: Tensor, window: Window, size: Pair) -> Tensor:
    """Transpose of :func:`correlate`: [B, O, H', W'] -> [B, C, *size]."""
    (rows, columns), (height, width) = window.padding, size
    spread = maps.new_zeros(maps.shape[0], weight.shape[1], height + 2 * rows, width + 2 * columns)
    for element, view in _elements(spread, weight, window, (maps.shape[-2], maps.shape[-1])):
        view += torch.einsum("bohw,oc->bchw", maps, element)
    return spread[..., rows : rows + height, columns : columns + width]


def _elements(
    padded: Tensor, weight: Tensor, window: Window, size: Pair
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each element of the kernel [O, C] with a view of what it meets in every window."""
    row_axis, column_axis = _axes(window)
    for i, rows in enumerate(row_axis.taps(padded, size[0])):
        for j, view in enumerate(column_axis.taps(rows, size[1])):
            yield weight[:, :, i, j], view


def _axes(window: Window) -> list[_Axis]:
    fields = zip(*window, strict=True)
    return [_Axis(dim, *geometry) for dim, geometry in zip((-2, -1), fields, strict=True)]


def _sum_axis(maps: Tensor, axis: _Axis, positions: int) -> Tensor:
    if axis.is_identity():
        return maps
    after = max(0, axis.span(positions) - axis.padding - maps.shape[axis.dim])
    margins = (axis.padding, after) if axis.dim == -1 else (0, 0, axis.padding, after)
    first, *others = axis.taps(pad(maps, margins), positions)
    if not others:
        return first
    total = first + others[0]
    for tap in others[1:]:
        total += tap
    return total


def _spread_axis(maps: Tensor, axis: _Axis, length: int) -> Tensor:
    if axis.is_identity():
        return maps
    positions = maps.shape[axis.dim]
    shape = list(maps.shape)
    shape[axis.dim] = max(axis.span(positions), axis.padding + length)
    spread = maps.new_zeros(shape)
    for tap in axis.taps(spread, positions):
        tap += maps
    return spread.narrow(axis.dim, axis.padding, length)
