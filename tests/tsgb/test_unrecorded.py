"""Below the first layer that is read nothing is recorded, and the maps are the same.

They are compared with maps from a pass that reads the very first layer too, and so records all.
"""

import weakref

import pytest
import torch
from model_checks import Middle, images, random_statistics, small_net, unchanged
from torch import nn
from torch.nn import functional

from tsgb import (
    CAM,
    PANE,
    TSGB,
    ContrastiveExcitationBackprop,
    ExcitationBackprop,
    GradCAM,
    GradualExtrapolation,
    GuidedBackprop,
    InputXGradient,
    UnsupportedModelError,
)

TARGETS = torch.tensor([[1, 3], [0, -1]])
METHODS = [
    TSGB,
    GradCAM,
    InputXGradient,
    GuidedBackprop,
    ExcitationBackprop,
    ContrastiveExcitationBackprop,
]


def both_ways(method, model, layer="second", first="first", **options):
    """Maps at ``layer`` from a pass that records from there on, and from the first layer on."""
    attribution = method(model, layer=layer, **options)
    with unchanged(model):
        lean = attribution.attribute(images(), TARGETS)
        full = attribution.attribute_layers(images(), TARGETS, [layer, first])[layer]
    assert (lean[0] != 0).any()
    return lean, full


def in_place(net, x):
    y = net.second(x.relu_())
    return y.add_(x).relu_()


WAYS = {
    "straight": lambda net, x: net.second(net.norm(x).relu()).relu(),
    "skip": lambda net, x: (x.relu() + net.second(x.relu())).relu(),
    "skip-of-the-pooled": lambda net, x: (
        functional.max_pool2d(net.norm(x), 3, 1, 1) + net.second(x)
    ),
    "concatenation": lambda net, x: torch.cat([net.norm(x).relu(), net.second(x).relu()], 1)[
        :, 4:12
    ],
    "convolved-together": lambda net, x: functional.conv2d(
        torch.cat([x.relu(), net.second(x)], 1), torch.linspace(-1, 1, 8 * 16 * 9).view(8, 16, 3, 3)
    ),
    "pooled-together": lambda net, x: functional.avg_pool2d(
        functional.relu6(x + net.second(x) * 2), 3, 2, 1
    ),
    "in-place": in_place,
    "in-place-on-the-skip": lambda net, x: net.second(x).add_(x.relu_()),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("method", METHODS)
def test_maps_at_a_layer_are_those_of_a_pass_that_keeps_everything(method, way):
    lean, full = both_ways(method, Middle(way))

    torch.testing.assert_close(lean, full)


def gate_before(net, x):
    """The gate is there before the layer that is read, and used after it."""
    gate = x.mean((2, 3), keepdim=True).sigmoid()
    return net.second(x) * gate


def clipped_against_a_bypass(net, x):
    part = net.norm(x)[:, :4]
    y = net.second(x).clamp(-0.5, 0.5)
    return torch.cat([y[:, 4:] - part, part.neg() / 2], 1)


@pytest.mark.parametrize("way", [gate_before, clipped_against_a_bypass])
@pytest.mark.parametrize("options", [{}, {"skip": "proportional", "saturation": "plain"}])
def test_what_tsgb_needs_to_know_of_a_bypass(way, options):
    lean, full = both_ways(TSGB, Middle(way), kappa=0.3, **options)

    torch.testing.assert_close(lean, full)


@pytest.mark.parametrize("method", [TSGB, GradCAM, ExcitationBackprop])
@pytest.mark.parametrize("order", [["2", "3", "5"], ["5", "2"], ["3", "5"]])
def test_the_first_layer_that_runs_counts(method, order):
    attribution = method(small_net())

    maps = attribution.attribute_layers(images(), TARGETS, order)

    everything = attribution.attribute_layers(images(), TARGETS, [*order, "0"])
    for layer in order:
        torch.testing.assert_close(maps[layer], everything[layer])


class UsedInside(nn.Module):
    """Gives a tensor back that it has used, and keeps what it made of it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.side = None

    def forward(self, x):
        x = self.conv(x)
        self.side = functional.avg_pool2d(x, 3, 1, 1)
        return x


@pytest.mark.parametrize("method", [GradCAM, InputXGradient, GuidedBackprop])
def test_a_layer_that_uses_what_it_returns_has_all_of_its_gradient(method):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block, self.head = nn.Identity(), UsedInside(), nn.Linear(4, 5)

        def forward(self, x):
            x = self.block(self.stem(x))
            return self.head(torch.relu(x * 2 + self.block.side).mean((2, 3)))

    torch.manual_seed(0)
    model = Net().eval()

    lean, full = both_ways(method, model, "block", "stem")

    torch.testing.assert_close(lean, full)


def test_pane_reads_the_same_where_the_output_was_used_before():
    """Then what is below has to be recorded."""

    def used(net, x):
        x = x.relu()
        net.second(x)
        return net.second(net.same(x)) + x

    def unused(net, x):
        x = x.relu()
        return net.second(net.same(x)) + net.same.kept

    class Same(nn.Module):
        def forward(self, x):
            self.kept = x
            return x

    models = [Middle(way) for way in (used, unused)]
    for model in models:
        model.same = Same().eval()

    maps = [PANE(model, layer="same").attribute(images(), TARGETS) for model in models]

    assert (maps[0][0] != 0).any()
    torch.testing.assert_close(*maps)


def test_gradual_extrapolation_sharpens_with_what_is_below():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
    ).eval()  # fmt: skip

    default, named = (
        GradualExtrapolation(model, base=base).attribute(images(), TARGETS)
        for base in (GradCAM, lambda model: GradCAM(model, layer="4"))
    )

    torch.testing.assert_close(named, default)


class Tripled(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return 3 * x

    @staticmethod
    def backward(_ctx, g):
        return 3 * g


@pytest.mark.parametrize(
    "below",
    [
        pytest.param(lambda x: x.softmax(1), id="without-a-rule"),
        pytest.param(Tripled.apply, id="custom"),
        pytest.param(lambda x: x @ x.transpose(2, 3) @ x, id="attention"),
        pytest.param(lambda x: x.detach().clamp_(min=0) + 0 * x, id="hidden-change"),
    ],
)
@pytest.mark.parametrize("method", [TSGB, GuidedBackprop, PANE])
def test_below_the_layer_any_operation_will_do(method, below):
    model = Middle(lambda net, x: net.second(below(x)))
    values = below(model.first(images())).detach()
    same = Middle(lambda net, x: net.second(values + 0 * x))

    torch.testing.assert_close(
        method(model, layer="second").attribute(images(), TARGETS),
        method(same, layer="second").attribute(images(), TARGETS),
    )
    with pytest.raises(UnsupportedModelError):
        method(model, layer="first").attribute(images(), TARGETS)


@pytest.mark.parametrize(
    ("way", "message"),
    [
        (lambda net, x: net.second(functional.dropout(x)), r"dropout: it is active"),
        (
            lambda net, x: net.second(functional.batch_norm(x, None, None, training=True)),
            r"normalises with the statistics of the batch",
        ),
        (lambda net, x: net.second(x) + x.softmax(1), r"operation 'softmax'"),
        (lambda net, x: net.second(x) + Tripled.apply(x), r"comes from Tripled"),
    ],
)
def test_chance_the_batch_and_ways_round_the_layer_are_refused_as_ever(way, message):
    with pytest.raises(UnsupportedModelError, match=message):
        TSGB(Middle(way), layer="second").attribute(images(), TARGETS)


def test_a_tensor_of_an_earlier_pass_is_refused():
    kept = []

    def remembering(net, x):
        kept.append(x)
        return net.second(x) + kept[0]

    method = TSGB(Middle(remembering), layer="second")
    method.attribute(images(), TARGETS)

    with pytest.raises(UnsupportedModelError, match=r"comes from an earlier forward pass"):
        method.attribute(images(), TARGETS)


def test_what_is_below_is_freed_and_images_are_left_alone():
    model = random_statistics(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 4, 3), nn.SiLU(),
            nn.Flatten(), nn.Linear(4 * 48, 5),
        )
    )  # fmt: skip
    alive, pixels = [], images()
    hooks = [
        model[place].register_forward_hook(lambda _m, _a, output: alive.append(weakref.ref(output)))
        for place in (0, 1, 2)
    ]
    hooks.append(model[0].register_forward_pre_hook(lambda _m, args: args[0].sub_(1)))
    counts = []
    hooks.append(model[6].register_forward_hook(lambda *_: counts.append([r() for r in alive])))
    try:
        for method in (TSGB, GradCAM):
            method(model, layer="3").attribute(pixels, TARGETS)
    finally:
        for hook in hooks:
            hook.remove()

    assert counts[0] == [None, None, None]
    assert torch.equal(pixels, images())


def test_cam_needs_no_gradient_at_all():
    expected = CAM(small_net()).attribute(images(), TARGETS)

    assert torch.equal(CAM(small_net(), layer="5").attribute(images(), TARGETS), expected)


@pytest.mark.parametrize("method", [GradCAM, InputXGradient])
def test_what_an_unseen_operation_made_of_the_layers_output_counts(method):
    """Nothing is seen of a custom function; its graph tells what it was made of."""

    def middle(net, x):
        x = net.norm(x)
        used = net.second(Tripled.apply(x))
        return used + net.drop(x)

    model = Middle(middle)
    model.drop = nn.Identity()

    lean, full = both_ways(method, model.eval(), layer="drop")

    torch.testing.assert_close(lean, full)


def test_a_model_that_takes_gradients_below_the_layer_is_recorded():
    def middle(net, x):
        x = net.norm(x)
        (slope,) = torch.autograd.grad(Tripled.apply(x.sin()).sum(), x, retain_graph=True)
        return net.second(x + slope.detach())

    lean, full = both_ways(GradCAM, Middle(middle))

    torch.testing.assert_close(lean, full)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("method", [TSGB, GradCAM, PANE])
def test_an_unseen_operation_may_overwrite_what_is_below(method):
    @torch.jit.script
    def clip(x):
        return x.clamp_(0.0, 1.0)

    maps = [
        method(Middle(way), layer="second").attribute(images(), TARGETS)
        for way in (
            lambda net, x: net.second(clip(net.norm(x))),
            lambda net, x: net.second(net.norm(x).clamp(0, 1)),
        )
    ]

    assert (maps[0][0] != 0).any()
    torch.testing.assert_close(*maps)


def test_a_mask_made_of_the_layers_output_is_refused_as_above():
    def middle(net, x):
        x = net.norm(x)
        mask = x > 0
        return net.second(net.drop(x) * mask.to(x))

    model = Middle(middle)
    model.drop = nn.Identity()

    with pytest.raises(UnsupportedModelError, match="gt"):
        GuidedBackprop(model.eval(), layer="drop").attribute(images(), TARGETS)
