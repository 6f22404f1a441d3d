import math
from functools import partial

import pytest
import torch
from model_checks import images, small_net
from torch import nn

from tsgb import TSGB, GradCAM, GradualExtrapolation, Product, UnsupportedModelError
from tsgb.methods.gradient import Gradient, InputXGradient
from tsgb.methods.guided_backprop import GuidedBackprop
from tsgb.methods.integrated_gradients import IntegratedGradients
from tsgb.methods.smooth_grad import SmoothGrad

TARGETS = torch.tensor([[1, 3], [4, -1]])


def seen_by(net, pixels, **options):
    """The copies that SmoothGrad shows to a network, [1 + samples, B, C, H, W]."""
    copies = []
    handle = net.register_forward_pre_hook(lambda _, args: copies.append(args[0].detach()))
    SmoothGrad(net, **options).attribute(pixels, torch.zeros(len(pixels), dtype=torch.int64))
    handle.remove()
    return torch.stack(copies)


def test_the_noise_is_a_share_of_each_images_range():
    pixels = images(2, 24, 24) * torch.tensor([1.0, 10.0]).view(2, 1, 1, 1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(1728, 2)).eval()

    clean, *noisy = seen_by(net, pixels, samples=20, spread=0.1)

    noise = torch.stack(noisy) - pixels
    deviation = 0.1 * (pixels.amax((1, 2, 3)) - pixels.amin((1, 2, 3)))
    assert torch.equal(clean, pixels)
    assert len(noise) == 20
    torch.testing.assert_close(noise.std((0, 2, 3, 4)), deviation, rtol=0.02, atol=0)
    assert (noise.mean((0, 2, 3, 4)).abs() < 0.02 * deviation).all()
    correlation = torch.corrcoef(noise.flatten(1)) - torch.eye(20)
    assert correlation.abs().max() < 0.15


@pytest.mark.parametrize("base", [InputXGradient, GradCAM, partial(TSGB, kappa=0.5, layer="4")])
def test_maps_of_the_copies_are_averaged(base):
    net = small_net()
    _, *noisy = seen_by(net, images(), base=base, samples=4)

    maps = SmoothGrad(net, base=base, samples=4).attribute(images(), TARGETS)

    expected = torch.stack([base(net).attribute(copy, TARGETS) for copy in noisy]).mean(0)
    torch.testing.assert_close(maps, expected)


def test_integrated_gradients_of_the_copies_are_averaged():
    net, base = small_net(), partial(IntegratedGradients, steps=3)
    _, *noisy = seen_by(net, images(), samples=2)  # by the gradient: one pass for each copy

    maps = SmoothGrad(net, base=base, samples=2).attribute(images(), TARGETS)

    expected = torch.stack([base(net).attribute(copy, TARGETS) for copy in noisy]).mean(0)
    torch.testing.assert_close(maps, expected)


def test_signed_gradients_are_averaged_before_the_largest_is_taken():
    captum = pytest.importorskip("captum.attr")
    net, targets = small_net().double(), torch.tensor([1, 4])
    _, *noisy = seen_by(net, images().double(), samples=5)
    reference = captum.Saliency(net)

    gradients = [
        reference.attribute(copy.requires_grad_(), target=targets, abs=False) for copy in noisy
    ]

    maps = SmoothGrad(net, samples=5).attribute(images().double(), targets)
    expected = torch.stack(gradients).mean(0).abs().amax(1, keepdim=True)
    torch.testing.assert_close(maps, expected, rtol=1e-10, atol=1e-12)


def test_what_differs_from_copy_to_copy_cancels():
    class Step(nn.Module):
        def forward(self, x):
            return x.abs().sum((1, 2, 3))[:, None]

    pixels = torch.zeros(1, 1, 4, 4)
    pixels[..., 0, 0] = 4.0  # the gradient is 1 here, and +1 or -1 by chance elsewhere

    maps = SmoothGrad(Step().eval(), samples=400, spread=0.1).attribute(pixels, torch.tensor([0]))

    assert maps[0, 0, 0, 0] == 1
    assert maps.flatten()[1:].max() < 0.2


@pytest.mark.parametrize("base", [Gradient, GuidedBackprop, InputXGradient, GradCAM])
def test_without_noise_it_is_the_other_method(base):
    net = nn.Sequential(*list(small_net())[:5], nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()

    maps = SmoothGrad(net, base=base, spread=0.0, samples=2).attribute(images(), TARGETS)

    torch.testing.assert_close(maps, base(net).attribute(images(), TARGETS))


def test_the_noise_depends_on_the_random_seed_alone():
    net = small_net()
    method = SmoothGrad(net, samples=2)
    first = method.attribute(images(), TARGETS)
    torch.manual_seed(123)

    assert torch.equal(method.attribute(images(), TARGETS), first)
    assert torch.equal(SmoothGrad(net, samples=2).attribute(images(), TARGETS), first)
    other = SmoothGrad(net, samples=2, random_seed=1).attribute(images(), TARGETS)
    assert not torch.allclose(other, first)


def test_the_global_random_state_is_left_alone():
    method, state = SmoothGrad(small_net(), samples=2), torch.get_rng_state()

    method.attribute(images(), TARGETS)

    assert torch.equal(torch.get_rng_state(), state)


def test_what_the_other_method_refuses_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(320, 5)).eval()

    with pytest.raises(UnsupportedModelError, match=r"^GuidedBackprop: there is no backward rule"):
        SmoothGrad(net, base=GuidedBackprop).attribute(images(), TARGETS)


def test_a_method_that_has_its_model_already():
    net = small_net()

    with pytest.raises(
        TypeError,
        match=r"^SmoothGrad: base is a Gradient of some model\. It might be of another model than "
        r"the one that is explained\. Pass the class itself, or functools\.partial of the class "
        r"and its options\.$",
    ):
        SmoothGrad(net, base=Gradient(net))


@pytest.mark.parametrize(
    ("wrapper", "argument"),
    [(SmoothGrad, "base"), (GradualExtrapolation, "base"), (Product, "fine"), (Product, "coarse")],
)
@pytest.mark.parametrize("wrong", ["grad_cam", nn.Identity, lambda model: model])
def test_what_makes_no_method(wrapper, argument, wrong):
    with pytest.raises(
        TypeError, match=rf"^\w+: {argument} is .*, which does not make a saliency method\."
    ):
        wrapper(small_net(), **{argument: wrong})


@pytest.mark.parametrize(
    "options",
    [
        {"samples": 0},
        {"samples": 2.5},
        {"spread": -0.1},
        {"spread": math.nan},
        {"spread": math.inf},
    ],
)
def test_numbers_that_make_no_sense(options):
    with pytest.raises(ValueError, match=r"^SmoothGrad: samples=[.\d]+, spread=\S+\. There would"):
        SmoothGrad(small_net(), **options)
