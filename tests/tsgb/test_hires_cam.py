import pytest
import torch
from cam_checks import ACTIVATION, GRADIENT, explained, flat_net, not_in_place
from model_checks import images, small_net

from tsgb import GradCAM
from tsgb.methods.hires_cam import HiResCAM


def test_by_hand():
    assert explained(HiResCAM, ACTIVATION, GRADIENT).tolist() == [[2.0, -1.0], [3.0, 0.0]]


@pytest.mark.parametrize("layer", ["0", "2", "4", "5"])
def test_against_captum(layer):
    captum = pytest.importorskip("captum.attr")
    net, targets = not_in_place(small_net()), torch.tensor([1, 4])
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
