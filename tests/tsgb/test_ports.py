"""Short cuts for relevance: the same maps, with and without them."""

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_checks import close_all_ports, random_statistics
from torch import nn
from torch.nn import functional

from tsgb import TSGB, LayerError
from tsgb._rules.state import trace_of


class Net(nn.Module):
    """Convolutions with everything between them that relevance passes."""

    def __init__(self, groups=1, stride=1, pool=(2, 2, 0), norm=True):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.middle = nn.Conv2d(8, 8, 3, stride, 1, groups=groups)
        self.pool = nn.MaxPool2d(*pool)
        self.branch = nn.Conv2d(8, 8, 1, groups=groups)
        self.last = nn.Conv2d(8, 12, 3, padding=1)
        self.classifier = nn.Linear(12, 5)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.normal_(module.bias)

    def forward(self, x):
        x = functional.relu6(self.norm(self.first(x)))
        x = self.pool(torch.relu(self.middle(x) * 2))
        x = torch.relu(self.branch(x) + x)
        return self.classifier(functional.leaky_relu(self.last(x)).mean((2, 3)))


class Shift(nn.Module):
    def forward(self, x):
        return x + 0.7


def net_of(seed, **options):
    torch.manual_seed(seed)
    return Net(**options).double().eval()


@pytest.fixture
def no_ports(monkeypatch):
    """Every convolution answers with one value a channel."""
    return lambda: close_all_ports(monkeypatch)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"norm": False}, id="without-norm"),
        pytest.param({"groups": 2}, id="groups"),
        pytest.param({"groups": 8}, id="depthwise"),
        pytest.param({"stride": 2}, id="stride"),
        pytest.param({"pool": (3, 2, 1)}, id="overlapping-pool"),
        pytest.param({"pool": (2, 3, 0)}, id="pool-with-gaps"),
        pytest.param({"pool": ((2, 3), None, 0)}, id="unequal-pool"),
    ],
)
@pytest.mark.parametrize("layer", [None, "first", "norm", "middle", "pool", "last"])
def test_maps_are_the_same_with_and_without_ports(options, layer, no_ports):
    model = net_of(0, **options)
    images = torch.randn(2, 3, 13, 11, dtype=torch.float64)
    targets = torch.tensor([[0, 3, -1], [4, 4, 1]])

    short = TSGB(model, kappa=0.5, layer=layer).attribute(images, targets)
    no_ports()
    long = TSGB(model, kappa=0.5, layer=layer).attribute(images, targets)

    assert long.abs().max() > 0
    torch.testing.assert_close(short, long)


@given(
    groups=st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 3), (6, 1), (1, 6), (6, 6), (2, 6)]),
    seed=st.integers(0, 50),
)
@settings(max_examples=25, deadline=None)
def test_any_groups_on_both_sides_of_a_port(groups, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=groups[0]), nn.LeakyReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=groups[1]), nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).double().eval()  # fmt: skip
    images = torch.randn(1, 3, 8, 8, dtype=torch.float64)

    short = TSGB(model).attribute(images, torch.tensor([1]))
    with pytest.MonkeyPatch.context() as patch:
        close_all_ports(patch)
        long = TSGB(model).attribute(images, torch.tensor([1]))

    torch.testing.assert_close(short, long)


@pytest.mark.parametrize(
    "between",
    [
        pytest.param([nn.ReLU(), nn.BatchNorm2d(6)], id="norm"),
        pytest.param([nn.ReLU6(), nn.GroupNorm(2, 6), nn.LeakyReLU()], id="group-norm"),
        pytest.param([nn.Hardtanh(0, 0.4), Shift()], id="constant"),
        pytest.param([nn.ReLU(), nn.MaxPool2d(2), Shift()], id="pooled"),
    ],
)
@pytest.mark.parametrize("groups", [1, 6])
def test_a_silent_unit_that_is_shifted_afterwards_gets_nothing(between, groups, no_ports):
    """``g * y / x`` is 0 where ``x`` is, also where a port would lead past the zero."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=groups), *between, nn.Conv2d(6, 4, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).eval()  # fmt: skip
    random_statistics(model).double()
    images, targets = torch.randn(2, 3, 13, 11, dtype=torch.float64), torch.tensor([[0, 2], [1, 1]])

    short = TSGB(model, kappa=0.5).attribute(images, targets)
    no_ports()

    assert (short != 0).any()
    torch.testing.assert_close(short, TSGB(model, kappa=0.5).attribute(images, targets))


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(nn.Conv2d(3, 6, 3), id="convolution"),
        pytest.param(nn.Sequential(Shift(), nn.Conv2d(3, 6, 3)), id="shifted"),
        pytest.param(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 6, 3, groups=3)), id="groups"),
        pytest.param(nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 6, 1)), id="pooled"),
        pytest.param(nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 6, 3)), id="padded"),
        pytest.param(nn.Flatten(), id="linear"),
    ],
)
def test_a_map_of_the_image_is_that_of_a_layer_that_returns_the_image(first):
    """The image has a port, the output of a layer has none."""
    torch.manual_seed(0)
    rest = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    model = nn.Sequential(nn.Identity(), first, rest).double().eval()
    images, targets = torch.randn(2, 3, 9, 8, dtype=torch.float64), torch.tensor([[0, 2], [1, -1]])
    images[:, :, 2:5] = 0
    model(images)

    maps = TSGB(model, kappa=0.5).attribute(images, targets)

    assert (maps != 0).any()
    torch.testing.assert_close(maps, TSGB(model, kappa=0.5, layer="0").attribute(images, targets))


@pytest.mark.parametrize("before", [[], [nn.BatchNorm2d(8)]], ids=["alone", "norm before"])
@pytest.mark.parametrize(
    "after",
    [
        pytest.param([], id="alone"),
        pytest.param([nn.ReLU()], id="rectified"),
        pytest.param([nn.LeakyReLU(), nn.MaxPool2d(2)], id="pooled"),
    ],
)
def test_a_convolution_as_classifier_answers_through_the_port(before, after, no_ports):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), *before, nn.ReLU(), nn.Conv2d(8, 5, 1), *after,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).double().eval()  # fmt: skip
    images, targets = torch.randn(2, 3, 9, 7, dtype=torch.float64), torch.tensor([1, 4])

    short = TSGB(model, kappa=0.0).attribute(images, targets)
    no_ports()

    assert (short.abs().sum((2, 3)) > 0).all()
    torch.testing.assert_close(short, TSGB(model, kappa=0.0).attribute(images, targets))


class ConvolutionalHead(nn.Module):
    """A convolution as classifier right behind what divides relevance by size, or ``linear``."""

    def __init__(self, groups, pool, kernel=1):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=groups)
        self.norm = random_statistics(nn.BatchNorm2d(8))
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.head = nn.Conv2d(8, 5, kernel)
        self.linear = False

    def forward(self, x):
        x = self.norm(self.second(torch.relu(self.first(x))))
        x = self.pool(torch.relu(x))
        if self.linear:
            pixels = x.permute(0, 2, 3, 1)
            return functional.linear(pixels, self.head.weight.flatten(1)).mean((1, 2))
        return self.head(x).mean((2, 3))


@pytest.mark.parametrize(("groups", "pool"), [(1, True), (2, True), (2, False), (8, False)])
@pytest.mark.parametrize("layer", [None, "first", "second"])
def test_a_classifier_says_what_each_channel_gets_whatever_is_below(groups, pool, layer):
    torch.manual_seed(0)
    model = ConvolutionalHead(groups, pool).double().eval()
    images, targets = (
        torch.randn(2, 3, 15, 12, dtype=torch.float64),
        torch.tensor([[0, 3], [4, -1]]),
    )
    attribution = TSGB(model, kappa=0.5, layer=layer)

    convolution = attribution.attribute(images, targets)
    again = attribution.attribute(images, targets)
    model.linear = True

    torch.testing.assert_close(
        convolution, TSGB(model, kappa=0.5, layer=layer).attribute(images, targets)
    )
    assert torch.equal(convolution, again)


@pytest.mark.parametrize("pool", [True, False])
def test_a_large_classifier_behind_a_grouped_convolution(pool, no_ports):
    torch.manual_seed(0)
    model = ConvolutionalHead(4, pool, kernel=3).double().eval()
    images, targets = torch.randn(1, 3, 15, 12, dtype=torch.float64), torch.tensor([[0, 3]])

    short = TSGB(model, kappa=0.5).attribute(images, targets)
    no_ports()

    torch.testing.assert_close(short, TSGB(model, kappa=0.5).attribute(images, targets))


def test_a_layer_whose_output_was_used_inside_of_it_is_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = torch.relu(self.one(x))
            self.extra = self.two(x)
            return x

    odd = Odd()
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    model = nn.Sequential(odd, head).eval()

    with pytest.raises(LayerError, match=r"TSGB: the output of layer '0' was used before"):
        TSGB(model, layer="0").attribute(torch.rand(1, 3, 6, 6), torch.tensor([0]))


@pytest.mark.parametrize("stored", [True, False])
def test_a_layer_that_also_stores_what_it_returns(stored):
    """Whoever uses the stored one later uses what was read."""

    class Storing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            self.kept = self.norm(self.conv(x))
            return self.kept

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder, self.head = Storing(), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

        def forward(self, x):
            x = self.encoder(x)
            return self.head((self.decoder(self.encoder.kept if stored else x) + x).mean((2, 3)))

    torch.manual_seed(0)
    model = random_statistics(Net()).double()
    pixels, targets = torch.randn(1, 3, 6, 6, dtype=torch.float64), torch.tensor([1])

    at_layer, at_image = (
        TSGB(model, layer=layer, kappa=0.0).attribute(pixels, targets).sum()
        for layer in ("encoder", None)
    )

    torch.testing.assert_close(at_layer, at_image)


def test_what_lies_between_two_convolutions_is_skipped():
    """Between them no gradient of the size of an activation is made."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(),
                          nn.Linear(4 * 16, 2)).eval()  # fmt: skip
    seen = []
    hook = model[1].register_forward_hook(lambda _m, _a, output: seen.append(output))
    try:
        TSGB(model).attribute(torch.rand(1, 3, 8, 8), torch.tensor([0]))
    finally:
        hook.remove()

    assert trace_of(seen[0]).port is not None


def test_what_lies_between_two_convolutions_is_freed_in_the_forward_pass():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3),
        nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 2),
    ).eval()  # fmt: skip
    alive = []
    hooks = [
        model[place].register_forward_hook(lambda _m, _a, output: alive.append(weakref.ref(output)))
        for place in (0, 1, 2)
    ]
    counts = []
    hooks.append(model[6].register_forward_hook(lambda *_: counts.append([r() for r in alive])))
    try:
        TSGB(model).attribute(torch.rand(1, 3, 8, 8), torch.tensor([0]))
    finally:
        for hook in hooks:
            hook.remove()

    assert counts == [[None, None, None]]
