import pytest
import torch
import torchvision
from model_checks import Middle, images, random_statistics, small_net
from relevance_checks import (
    FIRST,
    NETWORKS,
    SECOND,
    Chain,
    LayerByLayer,
    activations,
    by_hand,
    pane_chains,
    pixels,
    vgg11_bn,
)
from torch import nn
from torch.nn import functional

from tsgb import UnsupportedModelError
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


@NORMALISERS
def test_bias_as_an_input_against_dense_matrices(normaliser):
    net, batch = LayerByLayer(), pixels(1)
    values = activations(net.blocks(), batch)

    chains = PANE(net, normaliser=normaliser, bias="input").chains(batch, torch.tensor([3]))

    expected = pane_chains(net.blocks(), values, 3, normaliser, bias=True)
    for found, chain in zip(chains, expected, strict=True):
        torch.testing.assert_close(found[0, 0], chain)
        assert (found > 0).any()
    left_out = PANE(net, normaliser=normaliser).chains(batch, torch.tensor([3]))
    assert sum(chains).sum() < sum(left_out).sum()


@pytest.mark.parametrize(
    ("normaliser", "expected"),
    [
        pytest.param("joint", (6 / 10, 1 / 10), id="joint"),  # the bias has 3 / 10
        pytest.param("separate", (6 / 9 / 2, 1 / 2), id="separate"),  # and 3 / 9 of one side
    ],
)
def test_bias_by_hand(normaliser, expected):
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1)).eval()
    net[1].weight.data, net[1].bias.data = torch.tensor([[3.0, -1.0]]), torch.tensor([3.0])
    image = torch.tensor([2.0, 1.0]).view(1, 1, 1, 2)

    positive, negative = PANE(net, normaliser=normaliser, bias="input").chains(
        image, torch.tensor([0])
    )

    torch.testing.assert_close(positive.flatten(), torch.tensor([expected[0], 0.0]))
    torch.testing.assert_close(negative.flatten(), torch.tensor([0.0, expected[1]]))


def test_bias_as_an_input_without_biases_changes_nothing():
    net = Chain()
    for module in (net.first, net.second, net.head, net.norm, net.second_norm):
        nn.init.zeros_(module.bias)
    for norm in (net.norm, net.second_norm):
        nn.init.zeros_(norm.running_mean)

    maps = [PANE(net, bias=bias).attribute(pixels(), TARGETS) for bias in ("left_out", "input")]

    torch.testing.assert_close(*maps)


@pytest.mark.parametrize("bias", ["left_out", "input"])
def test_a_batch_norm_whose_scale_is_computed_from_the_image(bias):
    def scaled(net, x):
        statistics = net.norm.running_mean, net.norm.running_var
        return functional.batch_norm(x.relu(), *statistics, x.mean((0, 2, 3)), net.norm.bias)

    with pytest.raises(UnsupportedModelError, match=r"^PANE: batch_norm: its \w+ is computed from"):
        PANE(Middle(scaled), bias=bias).attribute(images(), TARGETS)


@pytest.mark.parametrize(("skip", "shares"), [("proportional", (0.2, 0.8)), ("equal", (0.5, 0.5))])
def test_the_two_sides_of_an_addition(skip, shares):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)
            self.one.weight.data.fill_(1.0)
            self.other.weight.data.fill_(4.0)

        def forward(self, x):
            return (self.one(x) + self.other(x)).relu().flatten(1)

    image, target = torch.tensor([[[[2.0, 3.0]]]]), torch.tensor([1])

    totals = [
        PANE(Sum().eval(), layer=layer, skip=skip).attribute(image, target).sum().item()
        for layer in ("one", "other")
    ]

    assert totals == pytest.approx(shares)


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
            r"^PANE: kind is 'both'\. Use one of combined, positive, negative\.$",
        ),
        ({"normaliser": "sum"}, r"^PANE: normaliser is 'sum'\. Use one of joint, separate\.$"),
        ({"bias": True}, r"^PANE: bias is True\. Use one of left_out, input\.$"),
        ({"skip": "plain"}, r"^PANE: skip is 'plain'\. Use one of proportional, equal\.$"),
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


def test_a_linear_layer_at_each_place_is_a_convolution_of_one_pixel():
    """Also with the bias as an input; features are as many as rows, so that shapes say nothing."""

    class Places(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, padding=1)
            self.inner = nn.Linear(8, 8)
            self.head = nn.Linear(8, 4)

        def forward(self, x):
            x = self.first(x).relu().permute(0, 2, 3, 1)
            return self.head(self.inner(x).relu().mean((1, 2)))

    torch.manual_seed(0)
    places = Places().double().eval()
    inner = nn.Conv2d(8, 8, 1).double()
    inner.weight.data, inner.bias.data = (
        places.inner.weight[..., None, None].data,
        places.inner.bias.data,
    )
    same = nn.Sequential(
        places.first,
        nn.ReLU(),
        inner,
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        places.head,
    ).eval()
    images, targets = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([[0, 3], [1, 2]])

    for normaliser in ("joint", "separate"):
        options = {"bias": "input", "normaliser": normaliser}
        torch.testing.assert_close(
            PANE(places, **options).attribute(images, targets),
            PANE(same, **options).attribute(images, targets),
        )
