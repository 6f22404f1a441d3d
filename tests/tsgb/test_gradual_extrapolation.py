"""Gradual extrapolation against a slow loop, and its quirks mended."""

from functools import partial

import pytest
import torch
from model_checks import unchanged
from torch import nn
from torch.nn import functional

from tsgb import (
    TSGB,
    GradCAM,
    GradualExtrapolation,
    LayerError,
    ShapeError,
    SmoothGrad,
    extrapolate,
)


def strided_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    ).double().eval()  # fmt: skip


def images(batch=2):
    torch.manual_seed(1)
    return torch.randn(batch, 3, 16, 12, dtype=torch.float64)


def test_against_the_formula_written_out():
    net, pixels, targets = strided_net(), images(), torch.tensor([[0, 2], [1, -1]])
    with torch.no_grad():
        strided = net[0](pixels)
        coarse = GradCAM(net).attribute(pixels, targets)  # at net[6], as large as the pool's output
        expected = []
        for image, maps in enumerate(coarse):
            for excitation in (strided[image], pixels[image]):
                size = excitation.shape[-2:]
                maps = functional.interpolate(maps[None], size, mode="bilinear")[0]
                maps = maps * excitation.sum(0) / excitation.max()
            expected.append(maps)

    maps = GradualExtrapolation(net).attribute(pixels, targets)

    torch.testing.assert_close(maps, torch.stack(expected))
    assert maps[1, 1].abs().max() == 0


def test_each_size_is_used_once_with_its_last_excitation():
    coarse = torch.ones(1, 1, 1, 1)
    first, second = torch.full((1, 1, 2, 2), 1.0), torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])

    maps = extrapolate(coarse, [torch.full((1, 2, 2, 2), 7.0), first, second])

    torch.testing.assert_close(maps, second / 8)


def test_a_map_is_never_made_smaller():
    maps = torch.rand(1, 2, 8, 8)

    assert extrapolate(maps, [torch.rand(1, 3, 4, 4), torch.rand(1, 3, 8, 8)]) is maps


def test_one_longer_side_is_enough_to_enlarge():
    assert extrapolate(torch.ones(1, 1, 4, 2), [torch.rand(1, 3, 4, 4)]).shape == (1, 1, 4, 4)


def test_an_excitation_of_zeros_changes_the_size_only():
    maps = extrapolate(torch.full((1, 1, 1, 1), 3.0), [torch.zeros(1, 2, 2, 2)])

    assert maps.tolist() == torch.full((1, 1, 2, 2), 3.0).tolist()


def test_rectified_excitations_keep_the_sign():
    coarse, excitation = torch.ones(1, 1, 1, 1), torch.tensor([[[[-3.0, 1.0]]]])

    assert extrapolate(coarse, [excitation]).min() == -3
    assert extrapolate(coarse, [excitation], rectify=True).min() == 0


def test_a_map_depends_on_its_neighbours_in_a_batch_only_if_asked():
    net, pixels, targets = strided_net(), images(), torch.tensor([0, 1])
    alone = GradualExtrapolation(net).attribute(pixels[:1], targets[:1])

    together = GradualExtrapolation(net).attribute(pixels, targets)[:1]
    published = GradualExtrapolation(net, statistics="batch").attribute(pixels, targets)[:1]

    torch.testing.assert_close(alone, together)
    assert not torch.allclose(alone, published)


@pytest.mark.parametrize("base", [GradCAM, partial(TSGB, kappa=0.5, layer="5")])
def test_one_forward_pass_makes_map_and_excitations(base):
    net, calls = strided_net(), []
    handle = net[0].register_forward_hook(lambda *_: calls.append(1))

    maps = GradualExtrapolation(net, base=base).attribute(images(), torch.tensor([0, 1]))
    handle.remove()

    assert len(calls) == 1
    assert maps.shape == (2, 1, 16, 12)


@pytest.mark.parametrize("base", [GradCAM, partial(TSGB, kappa=0.5, layer="6")])
def test_excitations_of_named_layers(base):
    net, pixels, targets = strided_net(), images(), torch.tensor([0, 1])
    coarse = base(net).attribute(pixels, targets)

    maps = GradualExtrapolation(net, base=base, layers=["1", "3"]).attribute(pixels, targets)

    with torch.no_grad():
        excitation = net[:4](pixels)  # as large as that of layer 1, which is not used any more
    torch.testing.assert_close(maps, extrapolate(coarse, [excitation]))
    with pytest.raises(LayerError, match=r"^GradualExtrapolation: the model has no layer 'pool'"):
        GradualExtrapolation(net, layers=["1", "pool"])


def test_excitations_from_before_the_layer_of_the_base():
    """Nothing is kept for the backward pass there."""
    net, pixels, targets = strided_net(), images(), torch.tensor([0, 1])
    expected = GradualExtrapolation(net).attribute(pixels, targets)  # at net[6]

    maps = GradualExtrapolation(net, base=partial(GradCAM, layer="6")).attribute(pixels, targets)

    assert torch.equal(maps, expected)


def test_it_sharpens_a_method_of_several_passes_too():
    base = partial(SmoothGrad, base=GradCAM, samples=2)

    maps = GradualExtrapolation(strided_net(), base=base).attribute(images(), torch.tensor([0, 1]))

    assert maps.shape == (2, 1, 16, 12)


def test_the_model_is_left_as_it_was():
    net = strided_net()
    with unchanged(net):
        GradualExtrapolation(net).attribute(images(), torch.tensor([0, 1]))


def test_wrong_shapes_and_choices_are_named():
    with pytest.raises(ShapeError, match=r"\(2, 1, 4, 4\), an excitation \(1, 3, 8, 8\)"):
        extrapolate(torch.rand(2, 1, 4, 4), [torch.rand(1, 3, 8, 8)])
    with pytest.raises(ValueError, match="statistics is 'all'"):
        GradualExtrapolation(strided_net(), statistics="all")
