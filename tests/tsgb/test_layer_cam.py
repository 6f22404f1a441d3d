import pytest
import torch
from cam_checks import ACTIVATION, GRADIENT, explained, flat_net, not_in_place
from model_checks import images, small_net

from tsgb.methods.hires_cam import HiResCAM
from tsgb.methods.layer_cam import LayerCAM


def test_by_hand():
    assert explained(LayerCAM, ACTIVATION, GRADIENT).tolist() == [[2.0, 1.0], [3.0, 0.0]]


@pytest.mark.parametrize("layer", ["0", "2", "4", "5"])
def test_against_torchcam(layer):
    torchcam = pytest.importorskip("torchcam.methods")
    net, targets = not_in_place(small_net()), [1, 4]
    with torchcam.LayerCAM(net, target_layer=layer) as extractor:
        (expected,) = extractor(targets, net(images()), normalized=False)

    maps = LayerCAM(small_net(), layer=layer).attribute(images(), torch.tensor(targets))

    torch.testing.assert_close(maps[:, 0].clamp(min=0), expected, rtol=1e-4, atol=1e-7)


def test_behind_a_relu_it_is_hires_cam_without_the_evidence_against():
    net, targets = flat_net(), torch.tensor([[0, 3], [-1, 4]])

    with_negative = HiResCAM(net).attribute(images(), targets)
    maps = LayerCAM(net).attribute(images(), targets)

    assert (maps >= 0).all()
    assert (maps >= with_negative).all()
    assert (maps > with_negative).any()
