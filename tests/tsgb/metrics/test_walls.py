import pytest
import torch

from tsgb.errors import ShapeError
from tsgb.index import methods
from tsgb.metrics import WalledNetwork

ALL = {name: method for name, method in methods().items() if name not in ("cam", "product")}
THROUGH_WALLS = {"grad_cam", "grad_cam_plus_plus", "gradual_extrapolation"}


def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def test_the_network_sees_the_row_above_the_wall_and_none_below():
    network, pixels = WalledNetwork(), images()
    lowest_seen = ~network.hidden & network.hidden.roll(-1, 0)
    assert lowest_seen.any(1).nonzero().tolist() == [[45]]

    with torch.no_grad():
        logits = network(pixels)
        below = network(torch.where(network.hidden, 1e3, pixels))
        above = network(torch.where(lowest_seen, 1e3, pixels))

    assert torch.equal(logits, below)
    assert (logits != above).any(1).all()


@pytest.mark.parametrize("name", ALL)
def test_only_methods_of_mean_gradients_see_through_walls(name):
    network = WalledNetwork(1)

    maps = ALL[name](network).attribute(images(), torch.tensor([0, 4]))[:, 0]

    share = network.share_hidden(maps)
    assert (maps != 0).any()
    assert (share > 0).any() if name in THROUGH_WALLS else (share == 0).all()


def test_the_share_is_that_of_the_absolute_saliency():
    maps = torch.zeros(3, 64, 64)
    maps[0, 45], maps[0, 46] = 3.0, -1.0
    maps[1] = 1.0

    share = WalledNetwork().share_hidden(maps)

    torch.testing.assert_close(share, torch.tensor([0.25, 18 / 64, 0.0]))


def test_the_random_seed_decides_and_the_global_state_is_left_alone():
    state = torch.get_rng_state()

    first, again, other = (WalledNetwork(seed)(images()) for seed in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_maps_of_several_classes_are_refused():
    with pytest.raises(ShapeError, match=r"maps are \(1, 2, 8, 8\), expected \[B, h, w\]"):
        WalledNetwork().share_hidden(torch.zeros(1, 2, 8, 8))
