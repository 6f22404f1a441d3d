import pytest
import torch
from torch import nn

from tsgb import Gradient
from tsgb.errors import NonFiniteError, ShapeError
from tsgb.metrics import max_sensitivity

TARGETS = torch.tensor([1, 3])


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 48, 4)).eval()


def images():
    return torch.randn(2, 3, 8, 10, generator=torch.Generator().manual_seed(1))


def test_against_captum():
    metrics = pytest.importorskip("captum.metrics")
    method, generator = Gradient(net()), torch.Generator().manual_seed(7)

    def nearby(pixels):
        return pixels + 0.3 * (torch.rand(pixels.shape, generator=generator) * 2 - 1)

    def explain(pixels, targets):
        pixels = pixels[0] if isinstance(pixels, tuple) else pixels
        return (method.attribute(pixels, targets).flatten(1),)

    expected = metrics.sensitivity_max(
        explain, images(), nearby, n_perturb_samples=5, max_examples_per_batch=2, targets=TARGETS
    )

    found = max_sensitivity(
        method.attribute, images(), TARGETS, radius=0.3, samples=5, random_seed=7
    )

    torch.testing.assert_close(found[:, 0], expected)


def test_a_map_that_is_the_image_changes_by_the_noise():
    pixels = torch.zeros(1, 1, 20, 20)
    pixels[0, 0, 0, 0] = 4.0  # the norm of the map

    found = max_sensitivity(lambda x, _: x[:, 0], pixels, TARGETS[:1], radius=0.5, samples=3)

    # The norm of 400 uniform numbers in [-0.5, 0.5] is near sqrt(400 / 12).
    assert found.item() == pytest.approx((400 / 12) ** 0.5 / 4, rel=0.1)


def test_the_scale_of_a_map_does_not_matter_and_more_samples_never_lower_it():
    method = Gradient(net())

    few = max_sensitivity(method.attribute, images(), TARGETS, samples=2)
    more = max_sensitivity(method.attribute, images(), TARGETS, samples=6)
    scaled = max_sensitivity(
        lambda x, t: 1000 * method.attribute(x, t), images(), TARGETS, samples=2
    )

    assert few.shape == (2, 1)
    assert (more >= few).all()
    assert (few > 0).all()
    torch.testing.assert_close(few, scaled)


def test_empty_and_constant_maps_do_not_change():
    for value in (0.0, 3.0):
        found = max_sensitivity(
            lambda x, t, v=value: torch.full(x[:, 0].shape, v), images(), TARGETS
        )
        assert found.tolist() == [0.0, 0.0]


def test_the_random_seed_decides_and_the_global_state_is_left_alone():
    method, state = Gradient(net()), torch.get_rng_state()

    first, again, other = (
        max_sensitivity(method.attribute, images(), TARGETS, random_seed=seed) for seed in (0, 0, 1)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_measured():
    calls = []

    def growing(pixels, targets):
        calls.append(1)
        return torch.ones(2, len(calls), 4)

    with pytest.raises(ValueError, match=r"radius is 0\. No image would change"):
        max_sensitivity(growing, images(), TARGETS, radius=0)
    with pytest.raises(ValueError, match="samples is 0"):
        max_sensitivity(growing, images(), TARGETS, samples=0)
    with pytest.raises(ShapeError, match=r"\(2, 1, 4\) of the images but \(2, 2, 4\)"):
        max_sensitivity(growing, images(), TARGETS)
    with pytest.raises(NonFiniteError, match="maps holds NaN"):
        max_sensitivity(lambda x, _: x[:, 0] / 0, images(), TARGETS)
