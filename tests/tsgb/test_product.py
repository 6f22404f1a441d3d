"""The geometric mean of two methods' maps: values, sizes, passes, and what it refuses."""

from functools import partial

import pytest
import torch
from model_checks import Middle, images, small_net, unchanged
from torch import nn
from torch.nn import functional

from tsgb import (
    CAM,
    TSGB,
    GradCAM,
    GradualExtrapolation,
    InputXGradient,
    LayerCAM,
    Product,
    SmoothGrad,
    UnsupportedModelError,
)
from tsgb.method import Method

TARGETS = torch.tensor([[1, 3], [4, -1]])


class Fixed(Method):
    """Gives the maps that it was made with, whatever the image."""

    def __init__(self, model, maps):
        super().__init__(model)
        self.maps = maps

    def _maps(self, forward, targets):
        return self.maps


def mean_of(fine, coarse, net, pixels):
    """The formula from the maps of two calls."""
    one, other = (method(net).attribute(pixels, TARGETS) for method in (fine, coarse))
    other = functional.interpolate(other, one.shape[2:], mode="bilinear")
    shares = [m.clamp(min=0) / m.amax((2, 3), keepdim=True).clamp(min=1e-20) for m in (one, other)]
    return (shares[0] * shares[1]).sqrt()


def product_of(fine, coarse, **options):
    method = Product(
        small_net(), fine=partial(Fixed, maps=fine), coarse=partial(Fixed, maps=coarse), **options
    )
    return method.attribute(images(len(fine)), torch.zeros(fine.shape[:2], dtype=torch.int64))


def passes(net, method):
    """How often the network runs for one call."""
    calls = []
    handle = net.register_forward_hook(lambda *_: calls.append(1))
    method.attribute(images(), TARGETS)
    handle.remove()
    return len(calls)


def test_by_hand():
    fine = torch.tensor([[[[4.0, 1.0], [-1.0, 2.0]], [[0.5, 0.0], [0.0, 0.0]]]])
    coarse = torch.tensor([[[[1.0, 4.0], [4.0, -2.0]], [[0.0, 3.0], [3.0, 0.0]]]])

    maps = product_of(fine, coarse)

    assert maps.tolist() == [[[[0.5, 0.5], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]]


def test_the_weight_is_the_exponent_of_the_coarse_map():
    fine, coarse = torch.tensor([[[[16.0, 1.0]]]]), torch.tensor([[[[1.0, 16.0]]]])

    maps = product_of(fine, coarse, weight=0.25)

    torch.testing.assert_close(maps, torch.tensor([[[[0.5, 0.125]]]]))


@pytest.mark.parametrize(("fine", "coarse"), [((8, 6), (2, 3)), ((2, 3), (8, 6)), ((8, 2), (4, 6))])
def test_it_is_as_large_as_the_larger_height_and_width(fine, coarse):
    pixels = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 3, *fine, generator=pixels), torch.rand(2, 3, *coarse)

    maps = product_of(one, other)

    shares = []
    for values in (one, other):
        large = functional.interpolate(values, (8, 6), mode="bilinear").clamp(min=0)
        shares.append(large / large.amax((2, 3), keepdim=True))
    torch.testing.assert_close(maps, (shares[0] * shares[1]).sqrt())


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e30])
def test_the_size_of_the_values_does_not_matter(factor):
    fine, coarse = torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 4)

    torch.testing.assert_close(product_of(fine * factor, coarse), product_of(fine, coarse))


@pytest.mark.parametrize("layer", [None, "2", "4"])
@pytest.mark.parametrize("cam_layer", [None, "5"])
def test_cam_is_read_from_the_forward_pass_of_tsgb(layer, cam_layer):
    net, fine, coarse = (
        small_net(),
        partial(TSGB, kappa=0.5, layer=layer),
        partial(CAM, layer=cam_layer),
    )
    method = Product(net, fine=fine, coarse=coarse)

    torch.testing.assert_close(
        method.attribute(images(), TARGETS), mean_of(fine, coarse, net, images())
    )
    assert passes(net, method) == 1


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(lambda net, x: net.second(net.norm(x).relu()).relu(), id="norm-before"),
        pytest.param(lambda net, x: functional.relu6(net.norm(net.second(x))), id="norm-after"),
        pytest.param(lambda net, x: x.relu() + net.second(x.relu()).relu_(), id="residual"),
        pytest.param(lambda net, x: functional.relu(net.second(x)).clamp(0, 0.3), id="clipped"),
        pytest.param(lambda net, x: functional.silu(net.norm(net.second(x))), id="silu"),
    ],
)
def test_activations_are_the_same_under_the_rules_of_tsgb(block):
    net, fine = Middle(block), partial(TSGB, kappa=0.5, layer="first")

    maps = Product(net, fine=fine).attribute(images(), TARGETS)

    torch.testing.assert_close(maps, mean_of(fine, CAM, net, images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fine", "coarse"),
    [
        pytest.param(partial(LayerCAM, layer="2"), GradCAM, id="gradients"),
        pytest.param(CAM, partial(TSGB, kappa=0.5), id="turned-round"),
        pytest.param(partial(GradualExtrapolation, base=TSGB), CAM, id="wrapped"),
        pytest.param(partial(TSGB, layer="2"), partial(TSGB, kappa=0.0, layer="5"), id="twice"),
    ],
)
def test_any_other_pair_takes_a_pass_each(fine, coarse):
    net = small_net()
    method = Product(net, fine=fine, coarse=coarse)
    sizes = [m(net).attribute(images(), TARGETS).shape[2:] for m in (fine, coarse)]
    first, second = (fine, coarse) if sizes[0] >= sizes[1] else (coarse, fine)

    torch.testing.assert_close(
        method.attribute(images(), TARGETS), mean_of(first, second, net, images())
    )
    assert passes(net, method) == 2


def test_a_product_of_three():
    net = small_net()
    pair = partial(Product, fine=InputXGradient, coarse=GradCAM)

    maps = Product(net, fine=pair, coarse=CAM, weight=1 / 3).attribute(images(), TARGETS)

    inner = pair(net).attribute(images(), TARGETS)
    large = functional.interpolate(CAM(net).attribute(images(), TARGETS), (12, 10), mode="bilinear")
    shares = [
        m.clamp(min=0) / m.amax((2, 3), keepdim=True).clamp(min=1e-20) for m in (inner, large)
    ]
    torch.testing.assert_close(maps, shares[0] ** (2 / 3) * shares[1] ** (1 / 3))


def test_it_can_be_smoothed_and_sharpened():
    net = small_net()
    for wrapper in (partial(SmoothGrad, samples=2), GradualExtrapolation):
        maps = wrapper(net, base=Product).attribute(images(), TARGETS)

        assert maps.shape == (2, 2, 12, 10)
        assert (maps[0] > 0).any()


def test_the_model_is_left_as_it_was_by_both():
    net = small_net()

    with unchanged(net):
        Product(net, fine=LayerCAM, coarse=partial(TSGB, layer="2")).attribute(images(), TARGETS)


def test_the_logits_are_those_of_the_network():
    net = small_net()

    _, logits = Product(net, fine=GradCAM, coarse=CAM).attribute_with_logits(images(), TARGETS)

    torch.testing.assert_close(logits, net(images()).detach())


@pytest.mark.parametrize("before", [True, False])
def test_a_pointwise_classifier_in_one_pass(before):
    """CAM takes its weights from the pass of TSGB; Grad-CAM's map is CAM's but for its size."""
    torch.manual_seed(0)
    mean, conv = nn.AdaptiveAvgPool2d(1), nn.Conv2d(7, 5, 1)
    head = (mean, conv) if before else (conv, mean)
    net = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU(), *head, nn.Flatten()).eval()
    targets = torch.tensor([[0, 3], [4, -1]])

    maps = Product(net).attribute(images(), targets)

    coarse = partial(GradCAM, layer="1")
    expected = Product(net, coarse=coarse).attribute(images(), targets)
    torch.testing.assert_close(maps, expected)
    assert (Product(net).attribute(images(), torch.tensor([-1, -1])) == 0).all()


def test_a_classifier_of_windows_is_refused():
    layers = nn.Conv2d(3, 7, 3), nn.ReLU(), nn.Conv2d(7, 5, 3), nn.AdaptiveAvgPool2d(1)
    net = nn.Sequential(*layers, nn.Flatten()).eval()

    with pytest.raises(
        UnsupportedModelError,
        match=r"^Product: conv2d: the classifier has windows of 3 x 3 with stride 1; .* Use Grad",
    ):
        Product(net).attribute(images(), torch.tensor([0, 3]))


def test_what_either_method_refuses_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(320, 5)).eval()

    with pytest.raises(UnsupportedModelError, match=r"^CAM: the classifier receives \(2, 320\)"):
        Product(net).attribute(images(), TARGETS)


@pytest.mark.parametrize("side", ["fine", "coarse"])
def test_a_method_that_has_its_model_already(side):
    net = small_net()

    with pytest.raises(TypeError, match=rf"^Product: {side} is a GradCAM of some model\."):
        Product(net, **{side: GradCAM(net)})


@pytest.mark.parametrize("weight", [0.0, 1.0, -0.5, float("nan")])
def test_a_weight_that_leaves_one_out(weight):
    with pytest.raises(
        ValueError,
        match=r"^Product: weight is \S+\. One of the two maps would not count\. Use a number "
        r"between 0 and 1, or that method alone\.$",
    ):
        Product(small_net(), weight=weight)
