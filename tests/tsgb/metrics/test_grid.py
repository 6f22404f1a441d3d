import pytest
import torch
from torch import nn

from tsgb import CAM, TSGB
from tsgb.errors import NonFiniteError, ShapeError
from tsgb.metrics import grid_pointing_game, mosaic


def test_a_mosaic_lies_in_reading_order():
    images = torch.rand(9, 3, 4, 5)

    large = mosaic(images)

    assert large.shape == (1, 3, 12, 15)
    for k in range(9):
        row, column = divmod(k, 3)
        cell = large[0, :, 4 * row : 4 * row + 4, 5 * column : 5 * column + 5]
        assert torch.equal(cell, images[k])


@pytest.mark.parametrize(
    ("cell", "expected"),
    [(0, 3 / 10), (1, 1 / 10), (2, 0.0), (3, 6 / 10)],
)
def test_the_share_of_each_cell_by_hand(cell, expected):
    saliency = torch.tensor(
        [
            [1.0, 2.0, 0.0, 1.0],
            [0.0, 0.0, -9.0, 0.0],
            [-1.0, 0.0, 3.0, 0.0],
            [0.0, 0.0, 0.0, 3.0],
        ]
    )

    share = grid_pointing_game(saliency[None], torch.tensor([cell]))

    torch.testing.assert_close(share, torch.tensor([expected]))


def test_cells_of_a_map_share_all_of_it():
    saliency = torch.randn(1, 9, 12, generator=torch.Generator().manual_seed(0)).expand(9, -1, -1)

    shares = grid_pointing_game(saliency, torch.arange(9), side=3)

    torch.testing.assert_close(shares.sum(), torch.tensor(1.0))


def test_a_constant_map_scores_the_share_of_a_cell_and_an_empty_one_nothing():
    saliency = torch.tensor([1.0, 0.0, -1.0])[:, None, None].expand(3, 4, 4)

    assert grid_pointing_game(saliency, torch.tensor([2, 2, 2])).tolist() == [0.25, 0.0, 0.0]


@pytest.mark.parametrize("method", [CAM, TSGB])
def test_a_method_finds_the_colour_that_the_network_looks_for(method):
    """The logits are the amounts of red, green and blue."""
    convolution, head = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 3, bias=False)
    for layer in (convolution, head):
        layer.weight.data = torch.eye(3).view_as(layer.weight)
    network = nn.Sequential(
        convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    ).eval()
    colours = torch.eye(4, 3)[:, :, None, None].expand(4, 3, 4, 4)  # the last cell is black

    maps = method(network).attribute(mosaic(colours), torch.tensor([[0, 1, 2]]))[0]

    assert grid_pointing_game(maps, torch.arange(3)).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("shape", [(3, 1, 2, 2), (4, 2, 2), (0, 1, 2, 2)])
def test_images_that_fill_no_square(shape):
    with pytest.raises(ShapeError, match=r"^mosaic: images are .*Give 4 or 9 images"):
        mosaic(torch.zeros(shape))


def test_maps_that_cannot_be_divided_into_cells():
    with pytest.raises(ShapeError, match=r"saliency is \(1, 5, 4\).*multiples of 2"):
        grid_pointing_game(torch.zeros(1, 5, 4), torch.tensor([0]))
    with pytest.raises(ShapeError, match=r"cells are \(1,\) of torch\.float32"):
        grid_pointing_game(torch.zeros(1, 4, 4), torch.tensor([0.0]))
    with pytest.raises(ValueError, match=r"cells are \[4\], and the mosaic has 4"):
        grid_pointing_game(torch.zeros(1, 4, 4), torch.tensor([4]))
    with pytest.raises(ValueError, match="side is 0"):
        grid_pointing_game(torch.zeros(1, 4, 4), torch.tensor([0]), side=0)
    with pytest.raises(NonFiniteError, match="saliency holds NaN"):
        grid_pointing_game(torch.full((1, 4, 4), torch.nan), torch.tensor([0]))
