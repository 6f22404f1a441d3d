import pytest
import torch
from model_checks import Middle, images, small_net, unchanged
from torch import nn

from tsgb import TSGB, GradCAM, LayerError, NonFiniteError, ShapeError, UnsupportedModelError

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
        (lambda net, x: mean(net.norm(x)), r"but from ConvRule\. What speaks"),
        (lambda net, x: mean(x), r"do not come from one classifier layer but from ConvRule"),
        (lambda net, x: net.head(mean(x)) + net.head(mean(x)), r"from LinearRule and LinearRule"),
        (lambda net, x: net.head(mean(x)).detach(), r"the logits do not depend on the images"),
        (lambda net, x: net.head(mean(x)).sigmoid(), r"^sigmoid: .* return the logits instead"),
        (lambda net, x: net.head(mean(x)).softmax(1), r"operation 'softmax'"),
    ],
)
def test_models_without_one_classifier(function, message):
    with pytest.raises(UnsupportedModelError, match=message):
        TSGB(logits_from(function)).attribute(images(), TARGETS)


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
