"""The contract that every method keeps."""

import copy
import gc
import inspect
import pickle
from functools import partial

import pytest
import torch
from model_checks import Middle, images, small_net, unchanged
from torch import nn

import tsgb
from tsgb import (
    LayerError,
    NonFiniteError,
    ShapeError,
    TargetError,
    TSGBError,
    UnsupportedModelError,
)
from tsgb.index import methods

CLASSES = list(methods().values())
VARIANTS = [  # what the defaults leave out
    partial(tsgb.IntegratedGradients, steps=5, batch_size=4),
    partial(tsgb.PANE, kind="negative", normaliser="separate", bias="input", skip="equal"),
    partial(tsgb.GGM, guidance="channel"),
    partial(tsgb.SmoothGrad, base=tsgb.InputXGradient, samples=3),
    partial(tsgb.TSGB, kappa=0.5, saturation="plain", grouped="slim", skip="proportional"),
]


def class_of(method):
    return getattr(method, "func", method)


def label(method):
    options = [str(v) for v in getattr(method, "keywords", {}).values() if not isinstance(v, type)]
    return "-".join([class_of(method).__name__, *options])


METHODS = pytest.mark.parametrize("method", [*CLASSES, *VARIANTS], ids=label)
AT_THE_LAST_MAP = [method for method in CLASSES if method.facts.read_out == "last map"]
TARGETS = torch.tensor([[1, 3], [0, -1]])


@METHODS
def test_shape_and_detachment(method):
    pixels = images(2, 12, 10)
    maps = method(small_net()).attribute(pixels, TARGETS)

    size = (4, 3) if class_of(method) in AT_THE_LAST_MAP else (12, 10)  # first pool: of the image
    assert maps.shape == (2, 2, *size)
    assert maps.dtype == torch.float32
    assert maps.device == pixels.device
    assert not maps.requires_grad
    assert (maps > 0).any()


@pytest.mark.parametrize("method", CLASSES)
def test_the_sign_is_the_one_in_the_facts(method):
    maps = method(small_net()).attribute(images(), TARGETS)

    assert method.facts.signed in (None, bool((maps < 0).any()))


@METHODS
def test_several_classes_equal_separate_calls(method):
    attribution = method(small_net())
    targets = torch.tensor([[0, 1, 4], [2, 2, 3]])

    together = attribution.attribute(images(), targets)
    apart = [attribution.attribute(images(), targets[:, k]) for k in range(3)]

    torch.testing.assert_close(together, torch.cat(apart, 1))


@METHODS
def test_a_batch_equals_its_images(method):
    attribution = method(small_net())
    pixels = images(3) * torch.tensor([1.0, 3.0, 0.5]).view(3, 1, 1, 1)
    targets = torch.tensor([[0, 1], [-1, 4], [2, 2]])

    together = attribution.attribute(pixels, targets)
    apart = [attribution.attribute(pixels[i : i + 1], targets[i : i + 1]) for i in range(3)]

    torch.testing.assert_close(together, torch.cat(apart))


@METHODS
def test_no_class_gives_a_zero_map(method):
    targets = torch.tensor([[-1, 0, 1, 2, 3, 4], [-1] * 6])

    maps = method(small_net()).attribute(images(), targets)

    assert (maps[0, 0] == 0).all()
    assert (maps[1] == 0).all()
    assert (maps[0, 1:] != 0).any()


@pytest.mark.parametrize("method", AT_THE_LAST_MAP)
def test_the_default_layer_is_the_last_one_before_the_pooling(method):
    net, targets = small_net(), torch.tensor([1, 4])

    default = method(net).attribute(images(), targets)

    assert torch.equal(default, method(net, layer="5").attribute(images(), targets))


@METHODS
def test_the_model_is_left_as_it_was(method):
    model = small_net()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[1].weight.requires_grad_(False)
    pixels = images()

    with unchanged(model):
        method(model).attribute(pixels, TARGETS)

    assert torch.equal(pixels, images())
    assert not pixels.requires_grad


@METHODS
def test_the_model_is_left_as_it_was_after_an_exception(method):
    passes_to_go = 1 if class_of(method).facts.one_pass else 2

    def fail(net, x):
        nonlocal passes_to_go
        passes_to_go -= 1
        x = net.second(x).relu_()
        if passes_to_go == 0:
            raise RuntimeError("no such luck")
        return x

    model = Middle(fail)

    layer = {"layer": "second"} if "layer" in inspect.signature(method).parameters else {}
    with unchanged(model), pytest.raises(RuntimeError, match=r"^no such luck$"):
        method(model, **layer).attribute(images(), TARGETS)
    assert torch.equal(torch.zeros(2).add_(1), torch.ones(2))  # nothing is intercepted any more


@METHODS
def test_a_second_call_gives_the_same_map(method):
    attribution = method(small_net())

    assert torch.equal(
        attribution.attribute(images(), TARGETS), attribution.attribute(images(), TARGETS)
    )


@METHODS
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_modes_have_no_effect(method, mode):
    attribution = method(small_net())
    expected = attribution.attribute(images(), TARGETS)

    with mode():
        maps = attribution.attribute(images(), TARGETS)

    assert torch.equal(maps, expected)


@METHODS
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(method, precision):
    pixels = images().to(precision)
    expected = method(small_net().to(precision).float()).attribute(pixels.float(), TARGETS)

    maps = method(small_net().to(precision)).attribute(pixels, TARGETS)

    torch.testing.assert_close(maps, expected)


@METHODS
def test_images_that_carry_a_graph(method):
    pixels = images().requires_grad_()

    maps = method(small_net()).attribute(pixels * 1, TARGETS)

    assert torch.equal(maps, method(small_net()).attribute(images(), TARGETS))
    assert pixels.grad is None


@METHODS
def test_logits_come_from_the_same_forward_pass(method):
    model = small_net()
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))

    maps, logits = method(model).attribute_with_logits(images(), torch.arange(6).view(2, 3) % 5)
    handle.remove()

    assert (len(calls) == 1) == class_of(method).facts.one_pass
    assert maps.shape[1] == 3
    assert not logits.requires_grad
    torch.testing.assert_close(logits, model(images()).detach())


@METHODS
@pytest.mark.parametrize("kind", ["model", "in-place", "submodule", "traced"])
def test_compiled_models_give_right_maps(method, kind):
    model = small_net()
    expected = method(model).attribute(images(), TARGETS)
    compiled = copy.deepcopy(model)
    if kind == "model":
        compiled = torch.compile(compiled, backend="eager")
    elif kind == "in-place":
        compiled.compile(backend="eager")
    elif kind == "traced":
        compiled = torch.fx.symbolic_trace(compiled)
    else:
        compiled[4] = torch.compile(compiled[4], backend="eager")
    with torch.no_grad():
        compiled(images())

    assert torch.equal(method(compiled).attribute(images(), TARGETS), expected)


@METHODS
@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(lambda method: pickle.loads(pickle.dumps(method)), id="pickle"),
        pytest.param(copy.deepcopy, id="deepcopy"),
    ],
)
def test_a_method_can_be_copied_with_its_model(method, copied):
    model = small_net()
    attribution = method(model)
    expected = attribution.attribute(images(), TARGETS)

    other = copied(attribution)
    torch.nn.init.zeros_(model[8].weight)  # the copy has a model of its own

    assert torch.equal(other.attribute(images(), TARGETS), expected)
    assert not torch.equal(attribution.attribute(images(), TARGETS), expected)


def living_tensors():
    return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())


@METHODS
def test_nothing_is_kept_alive(method):
    attribution = method(small_net())
    attribution.attribute(images(), TARGETS)
    gc.collect()
    gc.disable()
    try:
        before = living_tensors()
        attribution.attribute(images(), TARGETS)
        assert living_tensors() == before
    finally:
        gc.enable()


@METHODS
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            torch.tensor([[0, 1], [2, 5]]),
            r"target 5 of image 1 is not a class of a model with 5 classes\. Use 0 to 4, or -1 for "
            r"no class\.$",
        ),
        (torch.tensor([-2, 0]), r"target -2 of image 0 is not a class of a model with 5 classes"),
    ],
)
def test_targets_out_of_range(method, targets, message):
    with pytest.raises(TargetError, match=rf"^\w+: {message}"):
        method(small_net()).attribute(images(), targets)


@METHODS
@pytest.mark.parametrize(
    ("pixels", "targets", "message"),
    [
        (
            images()[0],
            TARGETS,
            r"images have shape \(3, 12, 10\) and type torch\.float32, expected",
        ),
        (images().to(torch.uint8), TARGETS, r"and type torch\.uint8, expected floating"),
        (images(), TARGETS[:1], r"targets have shape \(1, 2\) for 2 images"),
        (images(), TARGETS[..., None], r"targets have shape \(2, 2, 1\) for 2 images"),
        (images(), TARGETS[:, :0], r"targets have shape \(2, 0\) for 2 images"),
        (images(), torch.rand(2, 5), r"targets have type torch\.float32, expected whole numbers"),
        (images(), TARGETS > 0, r"targets have type torch\.bool, expected whole numbers"),
    ],
)
def test_arguments_of_the_wrong_shape(method, pixels, targets, message):
    with pytest.raises(ShapeError, match=message):
        method(small_net()).attribute(pixels, targets)


@METHODS
@pytest.mark.parametrize(
    ("pixels", "targets", "message"),
    [
        (images().numpy(), TARGETS, r"images are of type ndarray, expected a torch\.Tensor"),
        (
            images(),
            [1, 2],
            r"targets are of type list, expected .* with torch\.tensor\(\[\[207, 281\]\]\)",
        ),
        (images(), 1, r"targets are of type int, expected a torch\.Tensor"),
    ],
    ids=["array", "list", "number"],
)
def test_arguments_that_are_no_tensors(method, pixels, targets, message):
    with pytest.raises(ShapeError, match=rf"^\w+: {message}"):
        method(small_net()).attribute(pixels, targets)


@METHODS
@pytest.mark.parametrize("model", ["resnet50", lambda pixels: pixels], ids=["name", "function"])
def test_what_is_no_module_is_refused(method, model):
    with pytest.raises(UnsupportedModelError, match=r"the model is of type \w+, expected a tor"):
        method(model)


@pytest.mark.parametrize("layer", [2, nn.ReLU(), ("2", "4")], ids=["number", "module", "several"])
def test_a_layer_that_is_no_name(layer):
    with pytest.raises(LayerError, match=r"^GradCAM: layers are given as .*layer='layer4', or for"):
        tsgb.GradCAM(small_net(), layer=layer)


@pytest.mark.parametrize("layers", ["2", [], [2]], ids=["text", "none", "number"])
def test_layers_that_are_no_names(layers):
    with pytest.raises(
        LayerError, match=r"^TSGB: layers are given as .*layers=\['layer3', 'layer4"
    ):
        tsgb.TSGB(small_net()).attribute_layers(images(), TARGETS, layers)


@METHODS
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_images_that_are_not_finite(method, value):
    pixels = images()
    pixels[1, 0, 2, 3] = value

    with pytest.raises(NonFiniteError, match=r"the images hold NaN or infinity"):
        method(small_net()).attribute(pixels, TARGETS)


@METHODS
@pytest.mark.parametrize(
    "targets",
    [
        pytest.param([[0, 1, 0, 0, 0], [0, 0, 0, 0, 1]], id="one-hot"),
        pytest.param([[0, 1, 1, 0, 0], [1, 1, 1, 1, 1]], id="several-hot"),
        pytest.param([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], id="none-hot"),
    ],
)
def test_one_hot_rows_are_not_taken_for_indices(method, targets):
    with pytest.raises(
        TargetError,
        match=r"^\w+: targets \(2, 5\) hold only 0 and 1, for a model with 5 classes\. As one-hot "
        r"rows.* pass targets\.argmax\(1\)",
    ):
        method(small_net()).attribute(images(), torch.tensor(targets))


@pytest.mark.parametrize(
    ("classes", "targets"),
    [
        (2, [[0, 1], [1, 0]]),  # both classes, in either order
        (1, [[0], [0]]),
        (5, [[0, 1, 0, 1], [1, 1, 1, 1]]),  # fewer than there are classes
        (5, [[0, 1, -1, -1, -1], [0, 1, -1, -1, -1]]),
    ],
)
def test_indices_of_the_first_two_classes_are_indices(classes, targets):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(320, classes)).eval()
    targets = torch.tensor(targets)

    maps = tsgb.GradCAM(net).attribute(images(), targets)

    for k in range(targets.shape[1]):
        alone = tsgb.GradCAM(net).attribute(images(), targets[:, k])
        torch.testing.assert_close(maps[:, k : k + 1], alone)


@METHODS
@pytest.mark.parametrize(
    ("images_in", "model_in", "remedy"),
    [
        (torch.float64, torch.float32, r"images\.to\(torch\.float32\), or model\.to\(torch\.fl"),
        (torch.float32, torch.float64, r"images\.to\(torch\.float64\), or model\.to\(torch\.fl"),
        (torch.float64, torch.float16, r"images\.to\(torch\.float32\)"),
        (torch.bfloat16, torch.float64, r"images\.to\(torch\.float64\)"),
    ],
)
def test_mixed_precisions_are_named(method, images_in, model_in, remedy):
    with pytest.raises(
        ShapeError,
        match=rf"^\w+: images are {images_in}, but '0\.weight' of the model is {model_in} "
        rf".*{remedy}",
    ):
        method(small_net().to(model_in)).attribute(images().to(images_in), TARGETS)


@METHODS
def test_half_precision_may_be_mixed_with_single(method):
    net = small_net().half()

    maps = method(net).attribute(images().half().float(), TARGETS)

    assert torch.equal(maps, method(net).attribute(images().half(), TARGETS))


def test_another_runtime_error_stays_what_it_is():
    model = Middle(lambda _, x: x.view(7))
    model.register_buffer("unused", torch.zeros(1, dtype=torch.float64))

    with pytest.raises(RuntimeError, match=r"^shape '\[7\]' is invalid for input"):
        tsgb.GradCAM(model).attribute(images(), TARGETS)


class _QuantisedWeight(nn.Parameter):
    """Stands for the weights of torchao."""

    __module__ = "torchao.dtypes"


@pytest.mark.parametrize("kind", ["eager", "torchao"])
def test_quantised_networks_are_refused(kind):
    net = small_net()
    if kind == "eager":
        layer = type(
            "Linear", (nn.Linear,), {"__module__": "torch.ao.nn.quantized.dynamic.modules"}
        )
        net[8] = layer(12, 5)
    else:
        net[8].weight = _QuantisedWeight(net[8].weight.data)

    with pytest.raises(
        UnsupportedModelError,
        match=r"^TSGB: submodule '8' \(Linear\) is quantised\. .* the network in floating point",
    ):
        tsgb.TSGB(net)


@METHODS
def test_training_mode_is_refused(method):
    model = small_net()
    model[1].train()

    with unchanged(model), pytest.raises(UnsupportedModelError, match=r"'1' is in training mode\."):
        method(model).attribute(images(), TARGETS)


@METHODS
@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_torchscript_is_refused(method):
    traced = torch.jit.trace(small_net(), images())

    with pytest.raises(
        UnsupportedModelError,
        match=rf"^{class_of(method).__name__}: submodule '<the model itself>' is TorchScript\. Its "
        r"operations .* Pass the eager model that was given to torch\.jit\.script\(\) instead\.$",
    ):
        method(traced)
    with pytest.raises(UnsupportedModelError, match=r"submodule '0' is TorchScript"):
        method(nn.Sequential(traced))


def test_exported_programs_are_refused():
    program = torch.export.export(small_net(), (images(),))
    for model in (program.module(), torch.export.unflatten(program)):
        with pytest.raises(UnsupportedModelError, match=r"exported program\. .* Pass the eager mo"):
            tsgb.TSGB(model)


@METHODS
def test_data_parallel_is_refused(method):
    with pytest.raises(UnsupportedModelError, match=r"is DataParallel\. .* Pass its \.module"):
        method(nn.DataParallel(small_net()))


def test_every_error_has_one_base():
    for error in (NonFiniteError, ShapeError, TargetError, UnsupportedModelError):
        assert issubclass(error, TSGBError)


@METHODS
@pytest.mark.gpu
def test_cuda_equals_cpu(method):
    model = small_net()
    expected = method(model).attribute(images(), TARGETS)

    maps = method(model.cuda()).attribute(images().cuda(), TARGETS)

    assert maps.is_cuda
    torch.testing.assert_close(maps.cpu(), expected, rtol=1e-3, atol=1e-5)
