import pytest
import torch
import torchvision
from model_checks import images, random_statistics, small_net
from relevance_checks import (
    FIRST,
    NETWORKS,
    SECOND,
    Chain,
    activations,
    by_hand,
    pane_chains,
    pixels,
    vgg11_bn,
)
from torch import nn

from tsgb.methods.pane import PANE

TARGETS = torch.tensor([[0, 3], [4, 1]])
NORMALISERS = pytest.mark.parametrize("normaliser", ["joint", "separate"])
BELOW = torch.tensor([[1.0, 0.0], [0.0, 0.0]]) / 3  # of SECOND, where the image is not 0


@pytest.mark.parametrize(
    ("normaliser", "layer", "expected"),
    [
        # class 0 = 4 * channel 0 - channel 1 with means 3/2 and 3/4: contributions 6 and -3/4
        pytest.param("joint", "1", (8 / 9 * FIRST, 1 / 9 * SECOND), id="joint"),
        pytest.param("separate", "1", (FIRST / 2, SECOND / 2), id="separate"),
        # the weight of channel 1 is negative: what speaks against it speaks for the class
        pytest.param("joint", None, (8 / 9 * FIRST + 1 / 9 * BELOW, 0 * FIRST), id="image"),
    ],
)
def test_by_hand(normaliser, layer, expected):
    net, image = by_hand()
    options = {"layer": layer, "normaliser": normaliser}
    target = torch.tensor([0])

    positive, negative = PANE(net, **options).chains(image, target)

    torch.testing.assert_close(positive[0, 0], expected[0])
    torch.testing.assert_close(negative[0, 0], expected[1])
    combined = PANE(net, **options).attribute(image, target)
    torch.testing.assert_close(combined[0, 0], expected[0] - expected[1])


@NORMALISERS
@pytest.mark.parametrize("network", NETWORKS)
def test_against_dense_matrices(network, normaliser):
    net, batch = network(), pixels()

    positive, negative = PANE(net, normaliser=normaliser).chains(batch, TARGETS)

    for index in range(2):
        values = activations(net.blocks(), batch[index : index + 1])
        for column, target in enumerate(TARGETS[index].tolist()):
            expected = pane_chains(net.blocks(), values, target, normaliser)
            torch.testing.assert_close(positive[index, column], expected[0])
            torch.testing.assert_close(negative[index, column], expected[1])
    assert (negative > 0).any()


@pytest.mark.parametrize(("layer", "block"), [("relu", 2), ("pool", 3), ("second_relu", 5)])
def test_middle_layers_against_dense_matrices(layer, block):
    net, batch = Chain(), pixels(1)
    values = activations(net.blocks(), batch)

    chains = PANE(net, layer=layer).chains(batch, torch.tensor([2]))

    expected = pane_chains(net.blocks()[block:], values[block:], 2, "joint")
    for found, chain in zip(chains, expected, strict=True):
        torch.testing.assert_close(found[0, 0], chain)


@NORMALISERS
@pytest.mark.parametrize("layer", [None, "0", "1", "2", "3", "4", "5"])
def test_the_two_chains_together_sum_to_one(normaliser, layer):
    positive, negative = PANE(small_net(), layer=layer, normaliser=normaliser).chains(
        images(), TARGETS
    )

    torch.testing.assert_close((positive + negative).sum((2, 3)), torch.ones(2, 2))
    assert (positive >= 0).all()
    assert (negative >= 0).all()


@NORMALISERS
@pytest.mark.parametrize("layer", [None, "1", "3"])
def test_kinds(normaliser, layer):
    def maps(kind):
        method = PANE(small_net().double(), kind=kind, layer=layer, normaliser=normaliser)
        return method.attribute(images().double(), TARGETS)

    positive, negative = maps("positive"), maps("negative")

    torch.testing.assert_close(positive - negative, maps("combined"))
    assert (positive > 0).any()
    assert (negative > 0).any()


@NORMALISERS
def test_negating_hidden_units_changes_nothing(normaliser):
    torch.manual_seed(1)
    first, second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)]
    net = nn.Sequential(first, second, *head).double().eval()
    expected = PANE(net, normaliser=normaliser).attribute(images().double(), TARGETS)

    with torch.no_grad():
        first.weight[::2].neg_()
        first.bias[::2].neg_()
        second.weight[:, ::2].neg_()

    maps = PANE(net, normaliser=normaliser).attribute(images().double(), TARGETS)
    torch.testing.assert_close(maps, expected)


@NORMALISERS
def test_zeros_give_no_nan(normaliser):
    batch = images()
    batch[0] = 0
    batch[1, :, :7] = 0

    maps = PANE(small_net(), normaliser=normaliser).attribute(batch, TARGETS)

    assert (maps[0] == 0).all()
    assert (maps[1, :, :7] == 0).all()
    assert (maps[1] != 0).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kind": "both"},
            r"^PANE: kind is 'both'\. .* Use one of combined, positive, negative\.$",
        ),
        ({"normaliser": "sum"}, r"^PANE: normaliser is 'sum'\. .* Use one of joint, separate\.$"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        PANE(small_net(), **options)


@NORMALISERS
@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: torchvision.models.resnet18(num_classes=6), id="resnet18"),
        pytest.param(vgg11_bn, id="vgg11_bn"),
    ],
)
def test_known_networks(build, normaliser):
    torch.manual_seed(0)
    net = random_statistics(build())

    positive, negative = PANE(net, normaliser=normaliser).chains(
        images(1, 64, 48), torch.tensor([1])
    )

    assert positive.shape == (1, 1, 64, 48)
    torch.testing.assert_close((positive + negative).sum(), torch.tensor(1.0), rtol=1e-3, atol=0)
    assert (positive > 0).any()
