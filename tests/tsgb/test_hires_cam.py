import pytest
import torch
from model_checks import images, small_net
from torch import nn

from tsgb import GradCAM
from tsgb.methods.hires_cam import HiResCAM

TARGETS = torch.tensor([[0, 3], [-1, 4], [2, 2]])


def flat_net():
    """Conv - ReLU in place - linear: another gradient at every position."""
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(480, 5))
    return nn.Sequential(*layers).eval()


def test_by_hand():
    activation = torch.tensor([[[[1.0, 2.0], [0.0, 1.0]], [[-1.0, 1.0], [3.0, 0.0]]]])
    gradient = torch.tensor([[[4.0, -1.0], [0.5, 0.0]], [[2.0, 1.0], [1.0, -5.0]]])
    net = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(8, 1)).eval()
    net[2].weight.data = gradient.reshape(1, 8)

    maps = HiResCAM(net, layer="0").attribute(activation, torch.tensor([0]))

    assert maps.tolist() == [[[[2.0, -1.0], [3.0, 0.0]]]]


@pytest.mark.parametrize("layer", ["0", "2", "4", "5"])
def test_against_captum(layer):
    captum = pytest.importorskip("captum.attr")
    net, targets = small_net(), torch.tensor([1, 4])
    for module in net:
        if hasattr(module, "inplace"):
            module.inplace = False
    products = captum.LayerGradientXActivation(net, net[int(layer)])
    expected = products.attribute(images(), target=targets).sum(1, keepdim=True)

    maps = HiResCAM(small_net(), layer=layer).attribute(images(), targets)

    torch.testing.assert_close(maps, expected.detach(), rtol=1e-4, atol=1e-7)


def test_below_a_linear_head_the_map_sums_to_the_logit_without_bias():
    net, targets = flat_net(), torch.tensor([[0, 2], [4, 1]])

    maps, logits = HiResCAM(net).attribute_with_logits(images(), targets)

    evidence = (logits - net[3].bias.detach()).gather(1, targets)
    torch.testing.assert_close(maps.sum((2, 3)), evidence)
    assert (maps < 0).any()
    assert not torch.allclose(GradCAM(net).attribute(images(), targets).sum((2, 3)), evidence)


def test_below_global_average_pooling_it_is_grad_cam():
    net, targets = small_net(), torch.tensor([[0, 2], [4, 1]])

    hires_cam, grad_cam = (
        method(net).attribute(images(), targets) for method in (HiResCAM, GradCAM)
    )

    torch.testing.assert_close(hires_cam, grad_cam)
