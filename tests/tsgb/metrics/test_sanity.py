import copy
import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from tsgb import TSGB, GradCAM, SmoothGrad
from tsgb.errors import LayerError, NonFiniteError, ShapeError, UnsupportedModelError
from tsgb.metrics import (
    cascading_randomisation,
    complexity_rise,
    histogram_entropy,
    label_randomisation,
    randomised,
    spearman,
)

TARGETS = torch.tensor([1, 3])


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    ).eval()


def images(seed=0):
    return torch.randn(2, 3, 9, 10, generator=torch.Generator().manual_seed(seed))


def first_layer(model, pixels, targets):
    return model[0](pixels).detach()[:, :2]


def logits_on_pixels(model, pixels, targets):
    """Maps [B, H, W] that depend on every layer."""
    return pixels.mean(1) * model(pixels)[:, :1, None].detach() + pixels[:, 0]


@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 8),
    width=st.integers(2, 8),
    levels=st.sampled_from([0.5, 2.0, 1e6]),  # many ties to none
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=40, deadline=None)
def test_spearman_against_scipy(seed, height, width, levels, dtype):
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, 3, 2, height, width, generator=generator, dtype=dtype)
    first, second = (first * levels).round(), ((second + first) * levels).round()

    found = spearman(first, second)

    assert found.dtype == dtype
    assert found.shape == (3, 2)
    for one, other, correlation in zip(
        first.flatten(0, 1), second.flatten(0, 1), found.flatten(), strict=True
    ):
        if one.unique().numel() == 1 or other.unique().numel() == 1:
            expected = 0.0
        else:
            expected = stats.spearmanr(one.numpy().ravel(), other.numpy().ravel()).statistic
        assert correlation.item() == pytest.approx(expected, abs=1e-5)


def test_spearman_by_hand():
    first = torch.tensor([[[1.0, 2.0, 2.0, 5.0]]])  # ranks 1, 2.5, 2.5, 4
    second = torch.tensor([[[0.0, 7.0, -1.0, 9.0]]])  # ranks 2, 3, 1, 4

    # Deviations (-1.5, 0, 0, 1.5) and (-0.5, 0.5, -1.5, 1.5).
    expected = torch.tensor([3.0 / (4.5 * 5.0) ** 0.5])

    torch.testing.assert_close(spearman(first, second), expected)


def test_spearman_looks_at_ranks_only():
    one, other = images()[:, 0], images(1)[:, 0]

    torch.testing.assert_close(spearman(one.exp(), other), spearman(one, other))
    torch.testing.assert_close(spearman(one, -other), -spearman(one, other))
    torch.testing.assert_close(spearman(one, one), torch.ones(2))
    assert torch.equal(spearman(one, torch.full_like(one, 0.1)), torch.zeros(2))
    assert torch.equal(spearman(0 * one, 0 * one), torch.zeros(2))


@pytest.mark.parametrize("compare", [spearman, label_randomisation])
def test_maps_that_cannot_be_compared(compare):
    with pytest.raises(ShapeError, match=r"is \(1, 4, 4\) but (second|maps_random) is \(1, 8, 8\)"):
        compare(torch.rand(1, 4, 4), torch.rand(1, 8, 8))
    with pytest.raises(ShapeError, match=r"first is \(4,\) of torch\.float32"):
        compare(torch.rand(4), torch.rand(4))
    with pytest.raises(NonFiniteError, match=r"second holds NaN"):
        compare(torch.rand(1, 4, 4), torch.full((1, 4, 4), torch.nan))


def test_label_randomisation_by_hand():
    maps_true = torch.tensor([[[[1.0, -2.0], [3.0, -4.0]]]])
    maps_random = torch.tensor([[[[-1.0, 2.0], [-3.0, 4.0]]]])

    signed, absolute = label_randomisation(maps_true, maps_random)

    torch.testing.assert_close(signed, torch.tensor([[-1.0]]))
    torch.testing.assert_close(absolute, torch.tensor([[1.0]]))


def test_layers_fall_from_the_last_to_the_first():
    found = cascading_randomisation(net(), first_layer, images(), TARGETS)

    assert list(found) == ["7", "3", "1", "0"]
    for name in ("7", "3", "1"):
        torch.testing.assert_close(found[name].signed, torch.ones(2, 2))
        torch.testing.assert_close(found[name].absolute, torch.ones(2, 2))
    assert (found["0"].signed.abs() < 0.9).any()
    assert not torch.equal(found["0"].signed, found["0"].absolute)


def test_layers_stay_random():
    model, pixels = net(), images()

    found = cascading_randomisation(model, logits_on_pixels, pixels, TARGETS, random_seed=5)

    original, random = logits_on_pixels(model, pixels, TARGETS), copy.deepcopy(model)
    with torch.random.fork_rng():
        for position, (name, (signed, absolute)) in enumerate(found.items()):
            torch.manual_seed(5 + position)
            random[int(name)].reset_parameters()
            maps = logits_on_pixels(random, pixels, TARGETS)
            assert torch.equal(signed, spearman(original, maps))
            assert torch.equal(absolute, spearman(original.abs(), maps.abs()))
            assert signed.shape == (2,)


def test_a_map_that_ignores_the_model_is_found_out():
    found = cascading_randomisation(net(), lambda model, x, targets: x[:, 0], images(), TARGETS)

    for signed, absolute in found.values():
        torch.testing.assert_close(signed, torch.ones(2))
        torch.testing.assert_close(absolute, torch.ones(2))


@pytest.mark.parametrize("method", [TSGB, GradCAM])
def test_methods_of_the_library(method):
    def attribute(model, pixels, targets):
        return method(model).attribute(pixels, targets)

    targets = torch.tensor([[0, 2], [3, -1]])
    found = cascading_randomisation(net(), attribute, images(), targets)

    for values in found.values():
        for correlation in values:
            assert correlation.shape == (2, 2)
            assert ((correlation >= -1) & (correlation <= 1)).all()
            assert correlation[1, 1] == 0  # no class, no map
    assert (found["0"].signed < 0.99).all()


def test_the_model_and_the_random_state_are_left_as_they_were():
    model = net()
    model[0].weight.requires_grad_(False)
    model(images()).sum().backward()
    parameters = list(model.parameters())
    gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
    values = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()

    cascading_randomisation(model, first_layer, images(), TARGETS)

    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(values[name], value) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in parameters] == [False] + 7 * [True]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)


def norms():
    utils, new = nn.utils, nn.utils.parametrizations
    yield pytest.param(utils.weight_norm, r"remove_weight_norm\(\)", id="old weight norm")
    yield pytest.param(utils.spectral_norm, r"remove_spectral_norm\(\)", id="old spectral norm")
    yield pytest.param(new.weight_norm, r"remove_parametrizations\(\)", id="weight norm")
    yield pytest.param(new.spectral_norm, r"remove_parametrizations\(\)", id="spectral norm")
    pruned = functools.partial(prune.l1_unstructured, name="weight", amount=0.5)
    yield pytest.param(pruned, r"prune\.remove\(\)", id="pruning")


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("layers", [None, ["3"]])
@pytest.mark.parametrize(("normalise", "remedy"), list(norms()))
def test_a_weight_that_is_computed_is_refused(normalise, remedy, layers):
    model = net()
    normalise(model[3])

    with pytest.raises(
        UnsupportedModelError,
        match=rf"^cascading_randomisation: '3' computes its 'weight' from other.*{remedy}",
    ):
        cascading_randomisation(model, first_layer, images(), TARGETS, layers=layers)


def test_other_layers_than_those_may_be_randomised():
    model = net()
    nn.utils.parametrizations.weight_norm(model[3])

    found = cascading_randomisation(model, first_layer, images(), TARGETS, 1, layers=["0"])

    assert (found["0"].signed < 0.9).all()


def test_the_random_seed_decides():
    def first(seed):
        torch.rand(1)  # the global state does not matter
        found = cascading_randomisation(net(), first_layer, images(), TARGETS, seed)
        return found["0"].signed

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_inference_mode_has_no_effect():
    def attribute(model, pixels, targets):
        return TSGB(model).attribute(pixels, targets)

    model = net()
    expected = cascading_randomisation(model, attribute, images(), TARGETS)["0"]
    with torch.inference_mode():
        found = cascading_randomisation(model, attribute, images(), TARGETS)["0"]

    assert torch.equal(found.signed, expected.signed)


def test_chosen_layers_in_the_chosen_order():
    found = cascading_randomisation(net(), first_layer, images(), TARGETS, layers=["0", "7"])

    assert list(found) == ["0", "7"]
    assert torch.equal(found["0"].signed, found["7"].signed)  # the last layer is not read


def test_statistics_without_parameters_are_reset_too():
    model = net()
    model[1] = nn.BatchNorm2d(6, affine=False).eval()
    model[4] = nn.BatchNorm2d(6, affine=False, track_running_stats=False).eval()  # holds nothing

    assert list(cascading_randomisation(model, first_layer, images(), TARGETS)) == [*"7310"]


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()
        self.gain = nn.Parameter(torch.rand(3, 1, 1))

    def forward(self, x):
        return self.inner(x * self.gain)


def test_parameters_that_would_stay_trained_are_refused():
    def attribute(model, pixels, targets):
        return first_layer(model.inner, pixels, targets)

    with pytest.raises(
        UnsupportedModelError,
        match=r"^cascading_randomisation: '<the model itself>' \(Scaled\) holds 'gain' but has no "
        r"reset_parameters\(\)\. They would stay as trained",
    ):
        cascading_randomisation(Scaled(), attribute, images(), TARGETS)
    found = cascading_randomisation(Scaled(), attribute, images(), TARGETS, layers=["inner.7"])
    assert list(found) == ["inner.7"]


@pytest.mark.parametrize("layer", ["8", "2"])
def test_layers_that_cannot_be_randomised(layer):
    with pytest.raises(
        LayerError,
        match=rf"the model has no layer '{layer}' with reset_parameters\(\)\. .*'0', '1', '3', '7'",
    ):
        cascading_randomisation(net(), first_layer, images(), TARGETS, layers=[layer])


@pytest.mark.gpu
def test_weights_are_the_same_on_every_device():
    state = torch.cuda.get_rng_state()
    expected = cascading_randomisation(net(), first_layer, images(), TARGETS)["0"].signed

    found = cascading_randomisation(net().cuda(), first_layer, images().cuda(), TARGETS.cuda())

    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert found["0"].signed.is_cuda
    torch.testing.assert_close(found["0"].signed.cpu(), expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize("bins", [1, 7, 100])
def test_entropy_against_numpy_and_scipy(bins):
    stats = pytest.importorskip("scipy.stats")
    maps = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(4)).double()

    found = histogram_entropy(maps, bins)

    for values, entropy in zip(maps.flatten(0, 1), found.flatten(), strict=True):
        counts, _ = np.histogram(values.numpy(), bins)
        assert entropy.item() == pytest.approx(stats.entropy(counts, base=2), abs=1e-9)


def test_the_rise_by_hand():
    one_bit, two_bits = [[0.0, 0.0], [1.0, 1.0]], [[0.0, 1.0], [2.0, 3.0]]
    none = [[5.0, 5.0], [5.0, 5.0]]
    maps, random = (
        torch.tensor([one_bit, two_bits, one_bit, none, one_bit]),
        torch.tensor([two_bits, one_bit, none, two_bits, one_bit]),
    )

    rise = complexity_rise(maps, random)

    torch.testing.assert_close(rise, torch.tensor([1.0, -0.5, -1.0, 0.0, 0.0]))


def test_the_rise_does_not_depend_on_scale_or_order():
    maps, random = images()[:, 0], images(1)[:, 0].square()

    rise = complexity_rise(maps, random)

    torch.testing.assert_close(complexity_rise(4 * maps - 8, random.flip(-1)), rise)


def test_maps_of_other_shapes_do_not_rise():
    with pytest.raises(ShapeError, match=r"maps is \(1, 4, 4\) but maps_random is \(1, 8, 8\)"):
        complexity_rise(torch.rand(1, 4, 4), torch.rand(1, 8, 8))


def test_the_model_is_as_random_as_at_the_end_of_the_cascade():
    model, seen = net(), []

    def attribute(model, pixels, targets):
        seen.append(logits_on_pixels(model, pixels, targets))
        return seen[-1]

    cascading_randomisation(model, attribute, images(), TARGETS, random_seed=3)
    attribute(randomised(model, 3), images(), TARGETS)
    attribute(model, images(), TARGETS)

    assert torch.equal(seen[-2], seen[-3])
    assert torch.equal(seen[-1], seen[0])  # the model itself knows what it knew


def test_only_the_named_layers_are_randomised():
    model = net()

    found = randomised(model, layers=["3"])

    assert torch.equal(found[0].weight, model[0].weight)
    assert not torch.equal(found[3].weight, model[3].weight)


def test_complexity_of_a_single_value_or_without_bins():
    assert histogram_entropy(torch.ones(2, 1, 1)).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="bins is 0"):
        histogram_entropy(torch.ones(1, 2, 2), bins=0)
    with pytest.raises(NonFiniteError, match="maps holds NaN"):
        histogram_entropy(torch.full((1, 2, 2), torch.nan))


def test_smooth_randomisation_is_a_cascade_over_smoothed_maps():
    def smooth(model, pixels, targets):
        return SmoothGrad(model, base=GradCAM, samples=4).attribute(pixels, targets)

    found = cascading_randomisation(net(), smooth, images(), TARGETS, layers=["0", "3", "7"])

    assert list(found) == ["0", "3", "7"]
    assert (found["7"].signed < 0.99).all()
