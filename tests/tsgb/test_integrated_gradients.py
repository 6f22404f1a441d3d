import pytest
import torch
from model_checks import images, small_net
from torch import nn

from tsgb import NonFiniteError, ShapeError
from tsgb.methods.gradient import Gradient
from tsgb.methods.integrated_gradients import IntegratedGradients

TARGETS = torch.tensor([1, 4])


class Pixelwise(nn.Module):
    """Logit of class k: the sum over all values of ``function(x)``, times k + 1."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, x):
        return self.function(x).sum((1, 2, 3))[:, None] * torch.arange(1.0, 4.0)


def test_a_saturated_unit_has_no_gradient_and_still_its_share():
    net = Pixelwise(lambda x: 1 - torch.relu(1 - x))  # the example of the paper, section 2.1
    pixel, target = torch.full((1, 1, 1, 1), 2.0), torch.tensor([0])

    assert Gradient(net).attribute(pixel, target).item() == 0
    assert IntegratedGradients(net, steps=4).attribute(pixel, target).item() == 1


def test_by_hand():
    net = Pixelwise(lambda x: x * x)  # its gradient is linear, so one midpoint is enough
    pixels = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])

    maps = IntegratedGradients(net, steps=1).attribute(pixels, torch.tensor([[0, 1]]))
    from_one = IntegratedGradients(net, steps=1, baseline=1.0).attribute(pixels, torch.tensor([0]))

    assert maps.tolist() == [[[[10.0, 5.0]], [[20.0, 10.0]]]]
    assert from_one.tolist() == [[[[8.0, 3.0]]]]


def smooth_net():
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(120, 5)
    )
    return net.double().eval()


def incompleteness(net, steps, baseline=0.0):
    """Sum of the map minus what the logit gains from baseline to image, for each image."""
    pixels = images().double()
    maps = IntegratedGradients(net, steps=steps, baseline=baseline).attribute(pixels, TARGETS)
    gain = net(pixels) - net(torch.zeros_like(pixels) + baseline)
    return (maps.sum((1, 2, 3)) - gain[[0, 1], TARGETS]).abs().detach()


@pytest.mark.parametrize("baseline", [0.0, images(1, seed=9).double()], ids=["zero", "image"])
def test_the_map_sums_to_the_gain_of_the_logit(baseline):
    few, many = (incompleteness(smooth_net(), steps, baseline) for steps in (10, 100))

    assert (many < 1e-4).all()
    assert (many < few / 50).all()  # second order: a hundredth


def test_the_map_sums_to_the_gain_of_the_logit_in_a_network_of_relus():
    assert (incompleteness(small_net().double(), 400) < 2e-3).all()


@pytest.mark.parametrize("baseline", [0.0, 0.7, images(seed=5).double()], ids=["0", "0.7", "image"])
def test_against_captum(baseline):
    captum = pytest.importorskip("captum.attr")
    net, pixels = small_net().double(), images().double()

    expected = captum.IntegratedGradients(net).attribute(
        pixels, baselines=baseline, target=TARGETS, n_steps=8, method="riemann_middle"
    )

    method = IntegratedGradients(net, steps=8, baseline=baseline)
    maps = method.attribute(images().double(), TARGETS)
    expected = expected.detach().sum(1, keepdim=True)
    torch.testing.assert_close(maps, expected, rtol=1e-10, atol=1e-12)


def test_a_colour_as_baseline():
    colour = torch.tensor([0.1, -0.2, 0.3])

    maps = IntegratedGradients(small_net(), baseline=colour.view(3, 1, 1), steps=3)

    whole = IntegratedGradients(
        small_net(), baseline=colour.view(1, 3, 1, 1).expand(2, 3, 12, 10), steps=3
    )
    assert torch.equal(maps.attribute(images(), TARGETS), whole.attribute(images(), TARGETS))


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [
        pytest.param(1, [3] * 8, id="at-least-one-of-each-image"),
        pytest.param(7, [3, 6, 6, 6, 3], id="no-more-than-fit"),
        pytest.param(100, [3, 21], id="all-at-once"),
    ],
)
def test_the_size_of_a_forward_pass_is_bounded(batch_size, sizes):
    net, targets, seen = small_net(), torch.tensor([[0, 1], [2, -1], [4, 4]]), []
    method = IntegratedGradients(net, steps=7, batch_size=batch_size)

    handle = net.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    maps = method.attribute(images(3), targets)
    handle.remove()

    assert seen == sizes  # the first pass is that of the images
    expected = IntegratedGradients(net, steps=7, batch_size=3).attribute(images(3), targets)
    torch.testing.assert_close(maps, expected)


def test_an_image_that_is_the_baseline():
    method = IntegratedGradients(small_net(), baseline=images()[0], steps=3)

    maps = method.attribute(images(), TARGETS)

    assert (maps[0] == 0).all()
    assert (maps[1] != 0).any()


def test_a_baseline_of_the_wrong_shape():
    with pytest.raises(
        ShapeError,
        match=r"^IntegratedGradients: the baseline has shape \(3,\), the images \(2, 3, 12, 10\)\. "
        r"Pass a number, \[C, 1, 1\], \[C, H, W\] or one baseline for each image\.$",
    ):
        IntegratedGradients(small_net(), baseline=torch.zeros(3)).attribute(images(), TARGETS)


def test_a_baseline_that_is_not_finite():
    with pytest.raises(NonFiniteError, match=r"the baseline's values hold NaN or infinity"):
        IntegratedGradients(small_net(), baseline=torch.nan).attribute(images(), TARGETS)


@pytest.mark.parametrize("value", [0, 2.5])
@pytest.mark.parametrize("name", ["steps", "batch_size"])
def test_numbers_that_make_no_sense(name, value):
    with pytest.raises(ValueError, match=rf"^IntegratedGradients: {name} is {value}\. .* from 1"):
        IntegratedGradients(small_net(), **{name: value})
