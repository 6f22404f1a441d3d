import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from model_checks import Middle, images, small_net, unchanged
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tsgb import (
    CAM,
    PANE,
    TSGB,
    ExcitationBackprop,
    GradCAM,
    Gradient,
    GuidedBackprop,
    LayerError,
    NonFiniteError,
    ShapeError,
    UnsupportedModelError,
)

TARGETS = torch.tensor([1, 3])


def test_a_missing_layer_names_its_neighbours():
    with pytest.raises(
        LayerError, match=r"^TSGB: the model has no layer 'secnd'\. .* such as: second\.$"
    ):
        TSGB(Middle(lambda net, x: x), layer="secnd")


@pytest.mark.parametrize(
    ("middle", "layer", "message"),
    [
        (lambda net, x: net.second(net.second(x)), "second", r"'second' ran 2 times in one"),
        (lambda net, x: x, "second", r"layer 'second' ran 0 times"),
        (lambda net, x: x, "head", r"layer 'head' gives \(2, 5\), not a feature map"),
        (lambda net, x: x + net.second(x).detach(), "second", r"no relevance arrives there"),
        (lambda net, x: x * net.second(x).sigmoid(), "second", r"only acts through a gate"),
    ],
)
def test_unreadable_layers(middle, layer, message):
    model = Middle(middle)

    with unchanged(model), pytest.raises(LayerError, match=message):
        TSGB(model, layer=layer).attribute(images(), TARGETS)


def test_a_layer_without_a_tensor():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    model = Middle(lambda net, x: net.pair(x)[0])
    model.pair = Pair().eval()

    with pytest.raises(LayerError, match=r"layer 'pair' gives tuple, not a feature map"):
        GradCAM(model, layer="pair").attribute(images(), TARGETS)


@pytest.mark.parametrize("layer", ["2", "4", "5"])
def test_relevance_at_a_layer_is_that_at_the_image(layer):
    net = small_net().double()
    at_image, at_layer = (
        TSGB(net, kappa=0.2, layer=where).attribute(images().double(), TARGETS)
        for where in (None, layer)
    )

    assert at_layer.shape[-2:] != at_image.shape[-2:] or layer == "2"
    torch.testing.assert_close(at_layer.sum((2, 3)), at_image.sum((2, 3)))


def logits_from(function):
    model = Middle(lambda net, x: x)
    model.forward = lambda x: function(model, model.first(x))
    return model


def mean(x):
    return x.mean((2, 3))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda net, x: mean(functional.conv2d(x, torch.ones(8, 1, 3, 3), groups=8)),
            r"^TSGB: the logits do not come from one classifier layer but from a convolution with "
            r"groups\. What speaks for a class .* ends in one Linear layer or",
        ),
        (
            lambda net, x: mean(x + net.second(x)),
            r"but from a convolution and a convolution\. What",
        ),
        (
            lambda net, x: net.head(mean(x)) + net.head(mean(x)),
            r"a linear layer and a linear layer",
        ),
        (lambda net, x: net.head(mean(x)).detach(), r"the logits do not depend on the images"),
        (
            lambda net, x: net.head(mean(x)).sigmoid(),
            r"^\w+: sigmoid: .* return the logits instead",
        ),
        (lambda net, x: net.head(mean(x)).softmax(1), r"operation 'softmax'"),
    ],
)
def test_models_without_one_classifier(function, message):
    with pytest.raises(UnsupportedModelError, match=message):
        TSGB(logits_from(function)).attribute(images(), TARGETS)


def test_a_model_without_weights():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()

    with pytest.raises(
        UnsupportedModelError, match=r"classifier layer but from the image, past every such layer\."
    ):
        TSGB(model).attribute(images(), torch.tensor([0, 2]))


@pytest.mark.parametrize(
    ("method", "layer", "found"),
    [
        (TSGB, None, "a convolution and a linear layer"),
        (TSGB, "first", "a linear layer and the layer that is read or one before it, past every"),
        (CAM, None, "a linear layer and the image, past every such layer"),
    ],
)
def test_a_way_round_the_classifier(method, layer, found):
    model = logits_from(lambda net, x: net.head(mean(net.second(x))) + mean(x)[:, :5])

    with pytest.raises(
        UnsupportedModelError, match=rf"from {found}.* with nothing around it, and read below that"
    ):
        method(model, layer=layer).attribute(images(), TARGETS)
    assert GradCAM(model).attribute(images(), TARGETS).isfinite().all()


def test_a_classifier_below_the_layer_that_is_read():
    model = logits_from(lambda net, x: (mean(x), net.second(x))[0])

    with pytest.raises(UnsupportedModelError, match=r"but from the layer that is read or one bef"):
        TSGB(model, layer="first").attribute(images(), TARGETS)
    assert TSGB(model).attribute(images(), TARGETS).abs().amax() > 0


def test_a_weight_of_a_custom_function_is_not_taken_for_the_image():
    model = logits_from(lambda net, x: Doubled.apply(net.head(mean(x)), net.norm.weight))

    with pytest.raises(
        UnsupportedModelError, match=r"a linear layer and a weight of a custom autograd function\."
    ):
        CAM(model).attribute(images(), TARGETS)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda net, x: x, r"\(2, 8, 12, 10\)"),
        (lambda net, x: (net.head(mean(x)), x), "tuple"),
        (lambda net, x: net.head(mean(x))[:1], r"\(1, 5\)"),
    ],
)
def test_models_without_logits(function, found):
    with pytest.raises(
        ShapeError, match=rf"returned {found}, expected logits of shape \(2, classes"
    ):
        TSGB(logits_from(function)).attribute(images(), TARGETS)


def test_logits_that_are_not_finite():
    model = small_net()
    model[0].bias.data[0] = torch.nan

    with pytest.raises(NonFiniteError, match=r"^TSGB: the logits hold NaN or infinity"):
        TSGB(model).attribute(images(), TARGETS)


def test_an_auxiliary_head_that_runs_last_is_not_the_classifier():
    expected = TSGB(Middle(lambda net, x: net.second(x))).attribute(images(), TARGETS)
    model = Middle(lambda net, x: net.second(x))
    model.extra = nn.Linear(5, 2).eval()
    forward = model.forward

    def with_extra(x):
        logits = forward(x)
        model.extra(logits)
        return logits

    model.forward = with_extra

    assert torch.equal(TSGB(model).attribute(images(), TARGETS), expected)


def test_scaled_logits_scale_the_map():
    plain = TSGB(logits_from(lambda net, x: net.head(mean(x)))).attribute(images(), TARGETS)
    scaled = TSGB(logits_from(lambda net, x: net.head(mean(x)) / 4)).attribute(images(), TARGETS)

    torch.testing.assert_close(scaled * 4, plain)


class Doubled(torch.autograd.Function):
    """An operation whose gradient works for one class at a time only."""

    @staticmethod
    def forward(_ctx, x, *_weights):
        return 2 * x

    @staticmethod
    def backward(_ctx, g):
        return 2 * g if bool(g.any()) else g


class Stacked(nn.Module):
    """Several linear layers, as in VGG."""

    def __init__(self, odd=lambda x: x):
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.one, self.two, self.three = nn.Linear(60, 20), nn.Linear(20, 10), nn.Linear(10, 5)
        self.odd = odd

    def forward(self, x):
        x = functional.dropout(torch.relu_(self.one(self.maps(x))), training=self.training)
        return self.three(torch.relu(self.odd(self.two(x))))


@pytest.mark.parametrize("method", [TSGB, Gradient, GuidedBackprop, GradCAM, ExcitationBackprop])
def test_linear_layers_are_swept_for_all_classes_at_once(method):
    torch.manual_seed(0)
    attribution = method(Stacked().double().eval())
    pixels = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    targets = torch.tensor([[0, 4, -1, 2], [3, 3, 1, -1]])

    maps = attribution.attribute(pixels, targets)

    single = [attribution.attribute(pixels, column) for column in targets.T]
    torch.testing.assert_close(maps, torch.cat(single, dim=1))
    assert (maps[0, 2] == 0).all()
    assert maps[0, 0].abs().max() > 0


@pytest.mark.parametrize("method", [TSGB, Gradient, GradCAM, ExcitationBackprop])
def test_a_part_of_a_vector_is_not_taken_for_another_part(method):
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.unused = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(4, 2)
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            first, second = torch.relu(self.conv(x)).mean((2, 3)).chunk(2, 1)
            self.unused(second)
            return self.two(torch.relu(self.one(first)))

    torch.manual_seed(0)
    attribution = method(Parts().eval(), layer="conv")
    pixels, targets = torch.randn(2, 3, 8, 8), torch.tensor([[0, 4], [3, 1]])

    maps = attribution.attribute(pixels, targets)

    single = [attribution.attribute(pixels, column) for column in targets.T]
    torch.testing.assert_close(maps, torch.cat(single, dim=1))
    assert (maps != 0).any()


class Checkpointed(nn.Module):
    """A square linear layer whose backward pass looks the same with its weight transposed."""

    def __init__(self, keep):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        self.hidden = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.head = nn.Linear(8, 5)
        self.keep = keep

    def forward(self, x):
        x = self.body(x).mean((2, 3))
        if self.keep:
            return self.head(self.hidden(x))
        return self.head(checkpoint(self.hidden, x, use_reentrant=False))


@pytest.mark.parametrize("method", [TSGB, GuidedBackprop, ExcitationBackprop, Gradient, GradCAM])
@pytest.mark.parametrize("layer", [None, "body"])
def test_checkpointing_changes_nothing(method, layer):
    """Where it would bring back wrong values unnoticed if it had its way."""
    pixels, targets = images(), torch.tensor([[1, 2], [0, 3]])
    model, plain = Checkpointed(keep=False).eval(), Checkpointed(keep=True).eval()

    with unchanged(model):
        maps = method(model, layer=layer).attribute(pixels, targets)

    assert torch.equal(maps, method(plain, layer=layer).attribute(pixels, targets))
    assert torch.equal(model(pixels), plain(pixels))  # and works as it did afterwards


@pytest.mark.parametrize("method", [TSGB, GuidedBackprop, GradCAM, CAM])
def test_keeping_tensors_elsewhere_changes_nothing(method):
    expected = method(small_net()).attribute(images(), TARGETS)

    with torch.autograd.graph.save_on_cpu():
        maps = method(small_net()).attribute(images(), TARGETS)

    assert torch.equal(maps, expected)


def reentrant(net, x):
    return net.second(checkpoint(net.norm, x, use_reentrant=True))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpointing_is_refused_where_a_gradient_has_to_pass():
    model = Middle(reentrant)

    with unchanged(model):
        with pytest.raises(UnsupportedModelError, match=r"^Gradient: .* use_reentrant=False\.$"):
            Gradient(model).attribute(images(), TARGETS)
        with pytest.raises(UnsupportedModelError, match=r"^TSGB: .* comes from CheckpointFunction"):
            TSGB(model).attribute(images(), TARGETS)
    for method in (TSGB, Gradient, CAM):  # above it
        expected = method(Middle(lambda net, x: net.second(net.norm(x))), layer="second")
        torch.testing.assert_close(
            method(model, layer="second").attribute(images(), TARGETS),
            expected.attribute(images(), TARGETS),
        )


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("layer", [None, "first", "norm"])
@pytest.mark.parametrize("method", [TSGB, Gradient])
def test_logits_that_come_out_of_reentrant_checkpointing(method, layer):
    def top(net, x):
        return checkpoint(lambda x: net.head(mean(net.norm(x))), x, use_reentrant=True)

    model = logits_from(top)

    message = r"^\w+: the model uses gradient checkpointing with .* use_reentrant=False\.$"
    with unchanged(model), pytest.raises(UnsupportedModelError, match=message):
        method(model, layer=layer).attribute(images(), TARGETS)


def test_a_custom_function_in_a_checkpointed_model_is_refused():
    """Its tensors would still be brought back by another forward pass."""

    def middle(net, x):
        return checkpoint(lambda x: net.second(Doubled.apply(net.norm(x))), x, use_reentrant=False)

    with pytest.raises(UnsupportedModelError, match=r"comes from Doubled, .* Switch gradient chec"):
        GradCAM(Middle(middle), layer="first").attribute(images(), TARGETS)
    assert GradCAM(Middle(middle), layer="second").attribute(images(), TARGETS).isfinite().all()


@pytest.mark.parametrize("method", [TSGB, Gradient, GradCAM, ExcitationBackprop])
def test_weights_that_were_made_in_inference_mode(method):
    with torch.inference_mode():
        model = Middle(lambda net, x: net.second(x))

    with pytest.raises(
        UnsupportedModelError, match=r"^\w+: 'first\.weight' of the model was made under torch\.inf"
    ):
        method(model).attribute(images(), TARGETS)
    maps = method(copy.deepcopy(model)).attribute(images(), TARGETS)
    assert torch.equal(maps, method(Middle(model.middle)).attribute(images(), TARGETS))


def test_threads_share_a_model_and_its_layers():
    """Hooks of one pass are silent in the others, and chains of PANE do not get mixed up."""
    methods = [
        TSGB(small_net(), layer="3"),
        GradCAM(small_net(), layer="3"),
        PANE(small_net(), kind="positive"),
    ]
    pixels, targets = images(2, 24, 24), torch.tensor([[1, 2], [0, 3]])
    for method in methods:
        expected = method.attribute(pixels, targets)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: method.attribute(pixels, targets), range(24)))  # noqa: B023
        assert all(torch.equal(maps, expected) for maps in found)


def test_a_custom_function_between_linear_layers_is_swept_class_by_class():
    torch.manual_seed(0)
    model = Stacked(Doubled.apply).eval()
    pixels, targets = torch.randn(1, 3, 8, 12), torch.tensor([[0, 4]])

    maps = Gradient(model).attribute(pixels, targets)

    leaf = pixels.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(leaf)[0, 4], leaf)
    torch.testing.assert_close(maps[:, 1], expected.abs().amax(1))
