import pytest
import torch
from torch.nn import functional

from tsgb._rules.window_sums import Window, box_spread, box_sum


@pytest.mark.parametrize(
    "window",
    [
        pytest.param(Window((1, 1), (1, 1), (0, 0)), id="pointwise"),
        pytest.param(Window((1, 1), (2, 2), (0, 0)), id="pointwise-stride-2"),
        pytest.param(Window((3, 3), (1, 1), (1, 1)), id="three"),
        pytest.param(Window((7, 7), (2, 2), (3, 3)), id="stem"),
        pytest.param(Window((3, 3), (1, 1), (2, 2), (2, 2)), id="dilated"),
        pytest.param(Window((3, 1), (2, 1), (1, 0), (1, 1)), id="unequal"),
        pytest.param(Window((2, 5), (3, 2), (0, 4), (3, 2)), id="everything"),
    ],
)
@pytest.mark.parametrize(("channels", "dtype"), [(3, torch.float64), (12, torch.float32)])
def test_box_sums_are_convolutions_with_ones(window, channels, dtype):
    torch.manual_seed(0)
    maps = torch.randn(2, channels, 13, 16, dtype=dtype)
    ones = torch.ones(channels, 1, *window.kernel, dtype=dtype)
    maps.requires_grad_()
    expected = functional.conv2d(
        maps, ones, None, window.stride, window.padding, window.dilation, channels
    )
    start = torch.randn_like(expected)
    (transposed,) = torch.autograd.grad(expected, maps, start)

    actual = box_sum(maps.detach(), window, expected.shape[-2:])
    spread = box_spread(start, window, maps.shape[-2:])

    torch.testing.assert_close(actual, expected.detach())
    torch.testing.assert_close(spread, transposed)


@pytest.mark.parametrize("channels", [1, 12])
def test_windows_may_reach_past_the_padding(channels):
    maps = torch.ones(1, channels, 5, 5)

    sums = box_sum(maps, Window((2, 2), (2, 2), (0, 0)), (3, 3))

    assert sums[0, -1].tolist() == [[4, 4, 2], [4, 4, 2], [2, 2, 1]]


@pytest.mark.parametrize("channels", [1, 12])
def test_there_may_be_fewer_windows_than_fit(channels):
    maps = torch.arange(5.0).expand(1, channels, 1, 5)

    sums = box_sum(maps, Window((1, 3), (1, 1), (0, 0)), (1, 2))

    assert sums[0, -1].tolist() == [[3, 6]]
