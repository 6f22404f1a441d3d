import pytest
import torch
from model_checks import images, random_statistics, small_net
from torch import nn

from tsgb.methods.gradient import Gradient, InputXGradient

TARGETS = torch.tensor([[1, 3], [0, -1]])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        pytest.param(Gradient, [[3.0, 2.0], [0.0, 1.0]], id="gradient"),
        pytest.param(InputXGradient, [[-5.0, 4.0], [0.0, 7.0]], id="input-x-gradient"),
    ],
)
def test_by_hand(method, expected):
    pixels = torch.tensor([[[[1.0, 2.0], [5.0, 3.0]], [[2.0, -1.0], [-9.0, 4.0]]]])
    weight = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[-3.0, 0.0], [0.0, 1.0]]])
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 1)).eval()
    net[1].weight.data = weight.reshape(1, 8)

    assert method(net).attribute(pixels, torch.tensor([0])).tolist() == [[expected]]


@pytest.mark.parametrize(
    ("method", "reference", "over_channels"),
    [
        pytest.param(Gradient, "Saliency", torch.amax, id="gradient"),
        pytest.param(InputXGradient, "InputXGradient", torch.sum, id="input-x-gradient"),
    ],
)
def test_against_captum(method, reference, over_channels):
    captum = pytest.importorskip("captum.attr")
    net, targets = small_net().double(), torch.tensor([1, 4])
    pixels = images().double().requires_grad_()

    theirs = getattr(captum, reference)(net).attribute(pixels, target=targets)

    maps = method(net).attribute(images().double(), targets)
    expected = over_channels(theirs.detach(), 1, keepdim=True)
    torch.testing.assert_close(maps, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layer", ["2", "4", "5"])
def test_gradients_at_a_layer(layer):
    net, targets = small_net(), torch.tensor([1, 4])
    rest = net[int(layer) + 1 :]
    activation = net[: int(layer) + 1](images()).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(rest(activation * 1)[[0, 1], targets].sum(), activation)

    maps = Gradient(net, layer=layer).attribute(images(), targets)
    products = InputXGradient(net, layer=layer).attribute(images(), targets)

    torch.testing.assert_close(maps[:, 0], gradient.abs().amax(1))
    torch.testing.assert_close(products[:, 0], (gradient * activation.detach()).sum(1))


def test_every_channel_for_itself():
    net = small_net()

    signed = Gradient(net).per_channel().attribute(images(), TARGETS)

    assert signed.shape == (2, 2, 3, 12, 10)
    assert (signed < 0).any()
    assert torch.equal(signed.abs().amax(2), Gradient(net).attribute(images(), TARGETS))


def test_input_x_gradient_of_a_network_without_biases_sums_to_the_logit():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 5 * 4, 5, bias=False),
    ).eval()

    maps, logits = InputXGradient(net).attribute_with_logits(images(), torch.tensor([0, 3]))

    torch.testing.assert_close(maps.sum((1, 2, 3)), logits[[0, 1], [0, 3]])


@pytest.mark.parametrize("method", [Gradient, InputXGradient])
def test_any_operation_is_allowed(method):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(320, 3)
    )

    maps = method(random_statistics(net)).attribute(images(), torch.tensor([0, 2]))

    assert (maps != 0).any()
