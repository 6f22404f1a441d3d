import copy

import pytest
import torch
from model_checks import Middle, images, unchanged
from torch.nn import functional

from tsgb import (
    CAM,
    TSGB,
    ExcitationBackprop,
    GradCAM,
    GuidedBackprop,
    UnsupportedModelError,
)
from tsgb._engine.torch_calls import operation_name

TARGETS = torch.tensor([1, 3])
METHODS = pytest.mark.parametrize("method", [TSGB, GradCAM, CAM])


def maps_of(method, middle):
    model = Middle(middle)
    with unchanged(model):
        return method(model).attribute(images(), TARGETS)


def statement_style(net, x):
    x.relu_()
    y = net.second(x)
    y += x
    y.clamp_(0, 6)
    return y


def returned_style(net, x):
    x = functional.relu(x, inplace=True)
    y = net.second(x)
    return functional.hardtanh(y.add_(x), 0.0, 6.0, True)


def low_level_style(net, x):
    torch.ops.aten.relu_.default(x)
    y = torch.ops.aten.add_(net.second(x), x)
    return torch.ops.aten.clamp_(y, 0, 6)


def out_of_place(net, x):
    x = functional.relu(x)
    return functional.relu6(net.second(x) + x)


@METHODS
@pytest.mark.parametrize("style", [statement_style, returned_style])
def test_in_place_equals_out_of_place(method, style):
    torch.testing.assert_close(maps_of(method, style), maps_of(method, out_of_place))


@pytest.mark.parametrize("layer", ["first", "second"])
@pytest.mark.parametrize("method", [TSGB, GradCAM])
def test_a_layer_is_read_before_an_in_place_operation_changes_it(method, layer):
    maps = [
        method(Middle(style), layer=layer).attribute(images(), TARGETS)
        for style in (statement_style, out_of_place)
    ]

    torch.testing.assert_close(*maps)


@pytest.mark.parametrize("layer", ["first", "second"])
def test_low_level_operations_overwrite_nothing_either(layer):
    maps = [
        GradCAM(Middle(style), layer=layer).attribute(images(), TARGETS)
        for style in (low_level_style, out_of_place)
    ]

    torch.testing.assert_close(*maps)
    with pytest.raises(
        UnsupportedModelError, match=r"TSGB: there is no backward rule .* 'aten\.relu_"
    ):
        TSGB(Middle(low_level_style)).attribute(images(), TARGETS)


@METHODS
def test_assignment_to_a_part_equals_concatenation(method):
    def assigned(net, x):
        y = torch.zeros_like(x)
        y[:, :4] = x[:, 4:]
        y[:, 4:].shape  # noqa: B018  (reading an attribute is harmless)
        return net.second(y)

    def concatenated(net, x):
        return net.second(torch.cat([x[:, 4:], torch.zeros_like(x[:, :4])], 1))

    torch.testing.assert_close(maps_of(method, assigned), maps_of(method, concatenated))


@METHODS
@pytest.mark.parametrize("way", ["copy_", "__iadd__"])
def test_filling_a_constant_tensor(method, way):
    def filled(net, x):
        y = torch.zeros_like(x)
        if way == "copy_":
            y.copy_(x)
        else:
            y += x
        return net.second(y)

    expected = maps_of(method, lambda net, x: net.second(x))
    torch.testing.assert_close(maps_of(method, filled), expected)


def base_used_later(net, x):
    x.flatten(2).relu_()
    return net.second(x)


def old_view_used_later(net, x):
    part = x[:, :4]
    x.relu_()
    return torch.cat([part, net.second(x)[:, 4:]], 1)


@METHODS
@pytest.mark.parametrize("middle", [base_used_later, old_view_used_later])
def test_writing_through_a_view_is_refused_when_it_matters(method, middle):
    with pytest.raises(UnsupportedModelError, match=r"changed through another view of the same"):
        maps_of(method, middle)


def through_data(net, x):
    x.data.clamp_(min=0)
    return net.second(x)


def through_detach(net, x):
    functional.relu(x.detach(), inplace=True)
    return net.second(x)


def another_value(net, x):
    x.data = x.data.sign()
    return net.second(x)


@pytest.mark.parametrize("middle", [through_data, through_detach, another_value])
@pytest.mark.parametrize("method", [TSGB, GuidedBackprop])
def test_a_change_behind_the_back_of_the_gradient_is_refused_by_methods_with_rules(method, middle):
    with pytest.raises(UnsupportedModelError, match=r"changes an activation of shape .* behind"):
        maps_of(method, middle)
    assert maps_of(GradCAM, middle).isfinite().all()


def test_changing_a_copy_of_a_constant_is_fine():
    def copied(net, x):
        other = x.detach().clone()
        other.relu_()
        return net.second(x)

    expected = maps_of(TSGB, lambda net, x: net.second(x))
    torch.testing.assert_close(maps_of(TSGB, copied), expected)


def own_gradient(net, x):
    (slope,) = torch.autograd.grad(net.norm(x).relu().sum(), x, retain_graph=True)
    return net.second(x + slope.detach())


@pytest.mark.parametrize("layer", [None, "second"])
@pytest.mark.parametrize("method", [TSGB, GuidedBackprop, ExcitationBackprop])
def test_a_gradient_inside_of_the_model_is_refused_by_methods_with_rules(method, layer):
    model = Middle(own_gradient)

    with pytest.raises(UnsupportedModelError, match=r"^\w+: the model calls grad\(\) in its forw"):
        method(model, layer=layer).attribute(images(), TARGETS)
    _, logits = GradCAM(model, layer=layer).attribute_with_logits(images(), TARGETS)
    torch.testing.assert_close(logits, model(images().requires_grad_()).detach())


@METHODS
def test_writing_to_a_view_is_fine_when_nothing_else_is_read(method):
    view = maps_of(method, lambda net, x: x[:, :].relu_())

    torch.testing.assert_close(view, maps_of(method, lambda net, x: x.relu()))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g


@pytest.mark.parametrize(
    "middle",
    [
        pytest.param(lambda net, x: net.second(Doubled.apply(x)), id="inside"),
        pytest.param(lambda net, x: Doubled.apply(net.second(x)), id="before-the-head"),
    ],
)
def test_a_custom_function_is_refused_by_methods_with_rules(middle):
    with pytest.raises(UnsupportedModelError, match=r"comes from Doubled, a custom autograd func"):
        maps_of(TSGB, middle)
    assert maps_of(GradCAM, middle).isfinite().all()


def test_a_custom_function_at_the_very_end_is_refused():
    model = Middle(lambda net, x: x)
    model.forward = lambda x: Doubled.apply(Middle.forward(model, x))

    with pytest.raises(UnsupportedModelError, match=r"through operations that can be seen"):
        TSGB(model).attribute(images(), TARGETS)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_scripted_function_is_refused():
    @torch.jit.script
    def swish(x):
        return x * torch.sigmoid(x)

    with pytest.raises(UnsupportedModelError, match=r"custom autograd function or compiled code"):
        maps_of(TSGB, lambda net, x: net.second(swish(x)))


@METHODS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(method, dtype):
    model = Middle(lambda net, x: net.second(net.norm(x).relu())).to(dtype)
    pixels = images().to(dtype)

    with unchanged(model):
        maps = method(model).attribute(pixels, TARGETS)

    assert maps.dtype == torch.float32
    expected = method(copy.deepcopy(model).float()).attribute(pixels.float(), TARGETS)
    torch.testing.assert_close(maps, expected)


@METHODS
def test_double_precision_stays(method):
    model = Middle(lambda net, x: net.second(x.relu()))
    single = method(model).attribute(images(), TARGETS)

    double = method(model.double()).attribute(images().double(), TARGETS)

    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-6)


@METHODS
def test_autocast_has_no_effect(method):
    def autocast_inside(net, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return net.second(x.relu())

    expected = maps_of(method, lambda net, x: net.second(x.relu()))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        outside = maps_of(method, lambda net, x: net.second(x.relu()))

    assert torch.equal(outside, expected)
    assert torch.equal(maps_of(method, autocast_inside), expected)


def test_no_gradient_of_a_weight_is_computed():
    model = Middle(lambda net, x: net.second(x.relu()))
    seen = []
    handles = [p.register_hook(seen.append) for p in model.parameters()]

    for method in (TSGB, GradCAM, CAM):
        method(model).attribute(images(), TARGETS)

    assert not seen
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (torch.relu, ("relu", False)),
        (torch.Tensor.relu_, ("relu", True)),
        (torch.Tensor.__iadd__, ("add", True)),
        (torch.Tensor.__setitem__, ("__setitem__", True)),
        (torch.Tensor.__rsub__, ("rsub", False)),
        (torch.Tensor.__getitem__, ("__getitem__", False)),
        (torch.conv2d, ("conv2d", False)),
        (functional.batch_norm, ("batch_norm", False)),
        (torch.ops.aten.relu.default, ("aten.relu.default", False)),
    ],
)
def test_operation_names(function, expected):
    assert operation_name(function) == expected


def test_functions_with_other_arguments_keep_another_name():
    name, _ = operation_name(torch.batch_norm)

    assert name != "batch_norm"
