import pytest
import torch
from model_checks import images, small_net
from torch import nn

from tsgb.methods.hires_cam import HiResCAM
from tsgb.methods.layer_cam import LayerCAM

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

    maps = LayerCAM(net, layer="0").attribute(activation, torch.tensor([0]))

    assert maps.tolist() == [[[[2.0, 1.0], [3.0, 0.0]]]]


@pytest.mark.parametrize("layer", ["0", "2", "4", "5"])
def test_against_torchcam(layer):
    torchcam = pytest.importorskip("torchcam.methods")
    net, targets = small_net(), [1, 4]
    for module in net:
        if hasattr(module, "inplace"):
            module.inplace = False
    with torchcam.LayerCAM(net, target_layer=layer) as extractor:
        (expected,) = extractor(targets, net(images()), normalized=False)

    maps = LayerCAM(small_net(), layer=layer).attribute(images(), torch.tensor(targets))

    torch.testing.assert_close(maps[:, 0].clamp(min=0), expected, rtol=1e-4, atol=1e-7)


def test_behind_a_relu_it_is_hires_cam_without_the_evidence_against():
    net = flat_net()

    with_negative = HiResCAM(net).attribute(images(), TARGETS[:2])
    maps = LayerCAM(net).attribute(images(), TARGETS[:2])

    assert (maps >= 0).all()
    assert (maps >= with_negative).all()
    assert (maps > with_negative).any()
