from functools import partial

import pytest
import torch
from model_checks import Middle, images, random_statistics, small_net, unchanged
from torch import nn

from tsgb import TargetError, UnsupportedModelError
from tsgb.methods.gradient import Gradient, InputXGradient
from tsgb.methods.guided_backprop import Deconvnet, GuidedBackprop
from tsgb.methods.integrated_gradients import IntegratedGradients
from tsgb.methods.smooth_grad import SmoothGrad

TARGETS = torch.tensor([[1, 3], [0, -1]])
FAMILY = pytest.mark.parametrize(
    "method",
    [
        pytest.param(Gradient, id="gradient"),
        pytest.param(InputXGradient, id="input-x-gradient"),
        pytest.param(GuidedBackprop, id="guided"),
        pytest.param(Deconvnet, id="deconvnet"),
        pytest.param(partial(IntegratedGradients, steps=5, batch_size=4), id="integrated"),
        pytest.param(partial(SmoothGrad, samples=3), id="smooth"),
        pytest.param(partial(SmoothGrad, base=InputXGradient, samples=3), id="smooth-x-input"),
    ],
)


@FAMILY
def test_several_classes_equal_separate_calls(method):
    attribution = method(small_net())
    targets = torch.tensor([[0, 1, 4], [2, 2, 3]])

    together = attribution.attribute(images(), targets)
    apart = [attribution.attribute(images(), targets[:, k]) for k in range(3)]

    assert together.shape == (2, 3, 12, 10)
    assert not together.requires_grad
    torch.testing.assert_close(together, torch.cat(apart, 1))


@FAMILY
def test_a_batch_equals_its_images(method):
    attribution = method(small_net())
    pixels = images(3) * torch.tensor([1.0, 3.0, 0.5]).view(3, 1, 1, 1)
    targets = torch.tensor([[0, 1], [-1, 4], [2, 2]])

    together = attribution.attribute(pixels, targets)
    apart = [attribution.attribute(pixels[i : i + 1], targets[i : i + 1]) for i in range(3)]

    torch.testing.assert_close(together, torch.cat(apart))


@FAMILY
def test_no_class_gives_a_zero_map(method):
    maps = method(small_net()).attribute(images(), torch.tensor([[-1, 1], [-1, -1]]))

    assert (maps[[0, 1, 1], [0, 0, 1]] == 0).all()
    assert (maps[0, 1] != 0).any()


@FAMILY
def test_the_model_is_left_as_it_was(method):
    model, pixels = small_net(), images()
    model[0].weight.grad = torch.ones_like(model[0].weight)

    with unchanged(model):
        method(model).attribute(pixels, TARGETS)

    assert torch.equal(pixels, images())
    assert not pixels.requires_grad


@FAMILY
def test_the_model_is_left_as_it_was_after_an_exception(method):
    calls = []

    def fail_the_second_time(net, x):
        calls.append(1)
        if len(calls) > 1 or method in (Gradient, InputXGradient, GuidedBackprop, Deconvnet):
            net.second(x).relu_()
            raise RuntimeError("no such luck")
        return net.second(x)

    model = Middle(fail_the_second_time)

    with unchanged(model), pytest.raises(RuntimeError, match=r"^no such luck$"):
        method(model).attribute(images(), TARGETS)


@FAMILY
def test_logits_are_those_of_the_images(method):
    model = small_net()

    _, logits = method(model).attribute_with_logits(images(), TARGETS)

    assert not logits.requires_grad
    torch.testing.assert_close(logits, model(images()).detach())


@FAMILY
def test_half_precision_is_computed_in_single(method):
    pixels = images().bfloat16()

    maps = method(small_net().bfloat16()).attribute(pixels, TARGETS)

    expected = method(small_net().bfloat16().float()).attribute(pixels.float(), TARGETS)
    torch.testing.assert_close(maps, expected)


@FAMILY
def test_wrong_calls_are_refused_as_everywhere(method):
    with pytest.raises(TargetError, match=r"target 5 of image 1 is not a class"):
        method(small_net()).attribute(images(), torch.tensor([0, 5]))
    with pytest.raises(UnsupportedModelError, match=r"is in training mode"):
        method(small_net().train()).attribute(images(), TARGETS)


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


def test_gradient_against_captum():
    captum = pytest.importorskip("captum.attr")
    net, targets = small_net().double(), torch.tensor([1, 4])
    pixels = images().double().requires_grad_()

    expected = captum.Saliency(net).attribute(pixels, target=targets).amax(1, keepdim=True)

    maps = Gradient(net).attribute(images().double(), targets)
    torch.testing.assert_close(maps, expected, rtol=1e-10, atol=1e-12)


def test_input_x_gradient_against_captum():
    captum = pytest.importorskip("captum.attr")
    net, targets = small_net().double(), torch.tensor([1, 4])
    pixels = images().double().requires_grad_()

    expected = captum.InputXGradient(net).attribute(pixels, target=targets).sum(1, keepdim=True)

    maps = InputXGradient(net).attribute(images().double(), targets)
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-10, atol=1e-12)


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
