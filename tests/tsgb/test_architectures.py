"""Unmodified torchvision, timm and segmentation-models-pytorch networks with random weights."""

import pytest
import timm
import torch
import torchvision
from model_checks import images, random_statistics, unchanged
from torch import nn

import tsgb
from tsgb import CAM, TSGB, GradCAM, InputXGradient, LayerError, TSGBError, UnsupportedModelError

TARGETS = torch.tensor([[1, 3], [0, -1]])

FAMILIES = {
    "CAM": ("CAM",),
    "excitation": ("ExcitationBackprop", "ContrastiveExcitationBackprop", "PANE"),
    "guided": ("GuidedBackprop", "Deconvnet"),
    "TSGB": ("TSGB",),
    "maps": ("GradCAM", "GradCAMPlusPlus", "GGM", "HiResCAM", "LayerCAM", "GradualExtrapolation"),
    "gradients": ("Gradient", "InputXGradient", "IntegratedGradients", "SmoothGrad"),
}

# What becomes of each network under each family of methods: a right map, or why it is refused.
TABLE = {
    # network                     CAM         excitation  guided   TSGB     maps      gradients
    "vgg16":                     ("no mean",  "right",    "right", "right", "right",  "right"),
    "vgg16_bn":                  ("no mean",  "right",    "right", "right", "right",  "right"),
    "resnet50":                  ("right",    "right",    "right", "right", "right",  "right"),
    "resnext50_32x4d":           ("right",    "right",    "right", "right", "right",  "right"),
    "densenet121":               ("right",    "right",    "right", "right", "right",  "right"),
    "googlenet":                 ("right",    "right",    "right", "right", "right",  "right"),
    "mobilenet_v2":              ("right",    "right",    "right", "right", "right",  "right"),
    "efficientnet_b0":           ("right",    "silu",     "silu",  "right", "right",  "right"),
    "regnet_x_400mf":            ("right",    "right",    "right", "right", "right",  "right"),
    "squeezenet1_1":             ("gated",    "right",    "right", "right", "right",  "right"),
    "convnext_tiny":             ("no mean",  "norm",     "norm",  "norm",  "right",  "right"),
    "timm:resnet50":             ("right",    "right",    "right", "right", "right",  "right"),
    "timm:res2net50_26w_4s":     ("right",    "right",    "right", "right", "right",  "right"),
    "smp:DeepLabV3Plus":         ("right",    "right",    "right", "right", "right",  "right"),
    "swin_t":                    ("right",    "norm",     "norm",  "norm",  "right",  "right"),
    "timm:vit_tiny_patch16_224": ("tokens",   "norm",     "norm",  "norm",  "tokens", "right"),
}  # fmt: skip

REASONS = {
    "no mean": r"the classifier receives .* which is neither the spatial mean nor the sum .* or "
    r"use GradCAM\.$",
    "gated": r"the logits are not the output of .* 1 x 1 convolution, nor its mean or sum over the "
    r"pixels \(an activation function .* or use GradCAM\.$",
    "silu": r"there is no backward rule for the operation 'silu' .* such as GradCAM\.$",
    "norm": r"there is no backward rule for the operation 'layer_norm' .* such as GradCAM\.$",
    "tokens": r"the last activation with positions is the output of 'layer_norm', \(2, 17, 192\), "
    r"not a feature map .* Name a layer .* such as InputXGradient\.$",
}

OPTIONS = {"IntegratedGradients": {"steps": 2}, "SmoothGrad": {"samples": 2}}

# Networks whose maps are also made a second time and image by image; the others take too long. In
# double precision, since what signed maps of deep networks leave of the evidence is tiny.
LIGHT = {"googlenet", "mobilenet_v2", "efficientnet_b0", "regnet_x_400mf", "squeezenet1_1",
         "smp:DeepLabV3Plus"}  # fmt: skip

CELLS = [(family, method) for family, methods in FAMILIES.items() for method in methods]


class Encoder(nn.Module):
    """The encoder of a segmentation network as a classifier."""

    def __init__(self, name):
        super().__init__()
        smp = pytest.importorskip("segmentation_models_pytorch")
        self.inner = getattr(smp, name)("resnet18", encoder_weights=None)
        self.classifier = nn.Linear(self.inner.encoder.out_channels[-1], 6)

    def forward(self, x):
        return self.classifier(self.inner.encoder(x)[-1].mean((2, 3)))


def build(name):
    torch.manual_seed(11)
    library, _, architecture = name.rpartition(":")
    if library == "smp":
        return random_statistics(Encoder(architecture))
    if library == "timm":
        extra = {"img_size": 64} if architecture.startswith("vit") else {}
        return random_statistics(timm.create_model(architecture, num_classes=6, **extra))
    extra = {"init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, num_classes=6, **extra)
    if name.startswith("vgg"):  # the two hidden linear layers hold 120 million weights
        model.classifier[0], model.classifier[3] = nn.Linear(25088, 64), nn.Linear(64, 64)
        model.classifier[6] = nn.Linear(64, 6)
    return random_statistics(model)


@pytest.fixture(scope="module", params=TABLE)
def network(request):
    """Name and model; after all methods nothing about the model may have changed."""
    model = build(request.param)
    model = model.double() if request.param in LIGHT else model
    with unchanged(model):
        yield request.param, model


def images_for(architecture):
    pixels = images(2, 64, 64 if "vit" in architecture else 48)
    return pixels.double() if architecture in LIGHT else pixels


@pytest.mark.parametrize(("family", "name"), CELLS, ids=[name for _, name in CELLS])
def test_right_or_refused(network, family, name):
    architecture, model = network
    expected = TABLE[architecture][list(FAMILIES).index(family)]
    method = getattr(tsgb, name)(model, **OPTIONS.get(name, {}))
    pixels = images_for(architecture)
    if expected != "right":
        base = "GradCAM" if name == "GradualExtrapolation" else name
        with pytest.raises(TSGBError, match=rf"^{base}: {REASONS[expected]}"):
            method.attribute(pixels, TARGETS)
        return

    maps, logits = method.attribute_with_logits(pixels, TARGETS)

    assert maps.isfinite().all()
    assert (maps[1, 1] == 0).all()
    assert (maps[0].flatten(1).abs().amax(1) > 0).all() or name == "GGM"  # two factors of any sign
    torch.testing.assert_close(logits, model(pixels).detach())
    if architecture in LIGHT:
        assert torch.equal(method.attribute(pixels, TARGETS), maps)
        for i in range(2):
            alone = method.attribute(pixels[i : i + 1], TARGETS[i : i + 1])
            assert (alone - maps[i]).abs().max() <= 1e-3 * maps[i].abs().max()


# A middle layer, and one at the very beginning.
MIDDLE = {"googlenet": ("inception4c", "conv1"), "mobilenet_v2": ("features.13", "features.0"),
          "efficientnet_b0": ("features.5", "features.0"), "squeezenet1_1": ("features.8",
          "features.0"), "regnet_x_400mf": ("trunk_output.block3", "stem"),
          "smp:DeepLabV3Plus": ("inner.encoder.layer3", "inner.encoder.conv1")}  # fmt: skip


@pytest.mark.parametrize("name", ["TSGB", "GradCAM", "ExcitationBackprop", "GuidedBackprop"])
def test_maps_at_a_layer_do_not_depend_on_what_is_kept_below(network, name):
    architecture, model = network
    family = next(number for number, names in enumerate(FAMILIES.values()) if name in names)
    if architecture not in MIDDLE or TABLE[architecture][family] != "right":
        pytest.skip("too slow, or refused")
    layer, first = MIDDLE[architecture]
    method = getattr(tsgb, name)(model, layer=layer)

    lean = method.attribute(images_for(architecture), TARGETS)

    full = method.attribute_layers(images_for(architecture), TARGETS, [first, layer])[layer]
    assert (lean - full).abs().max() <= 1e-9 * full.abs().max()


def test_the_mean_of_cam_is_the_logit_without_bias(network):
    architecture, model = network
    if TABLE[architecture][0] != "right":
        pytest.skip("refused by CAM")

    maps, logits = CAM(model).attribute_with_logits(images_for(architecture), TARGETS)

    bias = last_linear(model).bias.detach()
    expected = (logits - bias).gather(1, TARGETS.clamp(min=0)) * (TARGETS >= 0)
    torch.testing.assert_close(maps.mean((2, 3)), expected, rtol=1e-4, atol=1e-5)


# By how much the map of TSGB at kappa = 0 may fail to sum to the supporting evidence. Batch norm
# before the convolution (DenseNet) and layers with many groups answer to windows of zeros, which
# carry no relevance.
CONSERVED = {"resnet50": 1e-4, "resnext50_32x4d": 0.05, "googlenet": 1e-4, "regnet_x_400mf": 1e-4,
             "efficientnet_b0": 1e-4, "timm:resnet50": 1e-4, "timm:res2net50_26w_4s": 1e-4,
             "smp:DeepLabV3Plus": 1e-4, "densenet121": 0.05}  # fmt: skip


def test_tsgb_hands_down_the_supporting_evidence(network):
    architecture, model = network
    if architecture not in CONSERVED:
        pytest.skip("relevance of constants is lost, or there is no linear classifier")

    check_conservation(model, CONSERVED[architecture])


def last_linear(model):
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]


def evidence_for(model, pixels):
    """Supporting evidence P of the targets at the input of the last Linear, [B, K]."""
    inputs = []
    head = last_linear(model)
    handle = head.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    with torch.no_grad():
        model(pixels)
    handle.remove()
    contributions = inputs[0][:, None] * head.weight.detach()[TARGETS.clamp(min=0)]
    return contributions.clamp(min=0).sum(2) * (TARGETS >= 0)


def check_conservation(model, tolerance):
    pixels = images(2, 72, 64).to(next(model.parameters()))

    with unchanged(model):
        maps, logits = TSGB(model, kappa=0.0).attribute_with_logits(pixels, TARGETS)

    assert maps.isfinite().all()
    assert torch.equal(logits, model(pixels).detach())
    torch.testing.assert_close(
        maps.sum((2, 3)), evidence_for(model, pixels), rtol=tolerance, atol=1e-7
    )


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("timm:resnet26d", 1e-4),
        ("timm:regnety_002", 1e-4),
        ("timm:efficientnet_b0", 1e-4),
    ],
)
def test_unmodified_networks_conserve_relevance(name, tolerance):
    check_conservation(build(name), tolerance)


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "shufflenet_v2_x0_5", "mobilenet_v3_small", "vgg16_bn"]
)
def test_unmodified_networks_that_answer_to_nothing_with_nothing(name):
    """Depthwise windows of zeros and linear layers cannot carry the relevance of constants."""
    model = build(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.running_mean)
        if isinstance(module, nn.BatchNorm2d | nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)

    check_conservation(model, 1e-4)


def test_the_answer_of_a_depthwise_layer_to_zeros_is_dropped():
    model = build("mobilenet_v2")

    maps = TSGB(model, kappa=0.0).attribute(images(2, 72, 64), TARGETS)

    assert maps.isfinite().all()
    assert (maps.sum((2, 3)) <= evidence_for(model, images(2, 72, 64))).all()
    assert (maps.sum((2, 3))[TARGETS >= 0] > 0).all()


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_networks_sum_to_zero_at_kappa_one(name):
    maps = TSGB(build(name).double()).attribute(images(2, 72, 64).double(), TARGETS)

    assert (maps[0].abs().sum((1, 2)) > 0).all()
    assert (maps.sum((2, 3)).abs() <= 1e-8 * maps.abs().sum((2, 3))).all()


def test_torchvision_and_timm_resnet_agree():
    """Same weights, one with reused and one with separate activation modules."""
    torch.manual_seed(0)
    ours = build("resnet18")
    theirs = timm.create_model("resnet18", num_classes=6).eval()
    theirs.load_state_dict(ours.state_dict())

    torch.testing.assert_close(
        TSGB(ours).attribute(images(2, 64, 64), TARGETS),
        TSGB(theirs).attribute(images(2, 64, 64), TARGETS),
    )


def test_an_exception_deep_inside_leaves_no_trace():
    model = build("resnet18")

    def fail(_module, _args):
        raise RuntimeError("interrupted")

    model.layer3[1].register_forward_pre_hook(fail)

    with unchanged(model), pytest.raises(RuntimeError, match="interrupted"):
        TSGB(model, layer="layer2").attribute(images(1, 64, 64), torch.tensor([0]))


@pytest.mark.parametrize(
    ("name", "operation"), [("timm:convnext_atto", "layer_norm"), ("timm:resnest14d", "softmax")]
)
def test_networks_that_are_refused(name, operation):
    model = build(name)

    with unchanged(model), pytest.raises(UnsupportedModelError, match=f"operation '{operation}'"):
        TSGB(model).attribute(images(1, 64, 64), torch.tensor([0]))
    assert GradCAM(model).attribute(images(1, 64, 64), torch.tensor([0])).isfinite().all()


@pytest.mark.parametrize("layer", ["features.1.0.block.0", "features.1.0.block.5"])
def test_layers_with_channels_last(layer):
    """ConvNeXt computes inside of a block with channels last; the block itself gives a map."""
    model = build("convnext_tiny")
    pixels = images(2, 64, 48)
    if layer.endswith("0"):  # still a convolution
        assert GradCAM(model, layer=layer).attribute(pixels, TARGETS).shape == (2, 2, 16, 12)
        return

    with pytest.raises(LayerError, match=r"gives \(2, 16, 12, 96\) with rows and columns in oth"):
        InputXGradient(model, layer=layer).attribute(pixels, TARGETS)


def test_the_default_layer_is_a_feature_map_where_others_come_later():
    """ConvNeXt normalises what it has averaged as [B, 1, 1, C]."""
    model, pixels = build("convnext_tiny"), images(2, 64, 96)

    default = GradCAM(model).attribute(pixels, TARGETS)

    assert torch.equal(default, GradCAM(model, layer="features.7").attribute(pixels, TARGETS))


def test_attention_is_no_feature_map():
    """Unless it is named, and then only what gives [B, C, H, W]."""
    model = build("timm:vit_tiny_patch16_224")
    at_patches = GradCAM(model, layer="patch_embed.proj").attribute(images(2, 64, 64), TARGETS)

    assert at_patches.shape == (2, 2, 4, 4)
    with pytest.raises(LayerError, match=r"'blocks\.3' gives \(2, 17, 192\), not a feature map"):
        GradCAM(model, layer="blocks.3").attribute(images(2, 64, 64), TARGETS)
