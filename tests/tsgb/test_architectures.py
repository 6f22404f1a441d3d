"""Unmodified torchvision and timm networks with random weights."""

import pytest
import timm
import torch
import torchvision
from model_checks import images, random_statistics, unchanged
from torch import nn

from tsgb import TSGB, GradCAM, UnsupportedModelError

TARGETS = torch.tensor([[1, 3], [0, -1]])


def build(name):
    torch.manual_seed(11)
    if name.startswith("timm:"):
        return random_statistics(timm.create_model(name.removeprefix("timm:"), num_classes=6))
    extra = {"init_weights": False} if name == "googlenet" else {}
    return random_statistics(torchvision.models.get_model(name, num_classes=6, **extra))


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
    pixels = images(2, 72, 64)

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
        ("resnet50", 1e-4),
        ("googlenet", 1e-4),
        ("regnet_x_400mf", 1e-4),
        ("timm:resnet26d", 1e-4),
        ("timm:regnety_002", 1e-4),
        ("timm:efficientnet_b0", 1e-4),
        ("densenet121", 0.05),  # batch norm comes before the convolution and meets zeros
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
