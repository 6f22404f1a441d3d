"""Every method on a GPU that is not there: nothing stays on the CPU, and hardly anything waits."""

import pytest
import torch
from model_checks import images, small_net
from test_method import CLASSES, VARIANTS, class_of, label
from torch import nn

import tsgb
from tests.fake_gpu import GPU, fake_gpu
from tsgb._rules import classifier, convolution


def convolutional_head():
    """Convolution - ReLU - convolution of 1 x 1 to five classes - mean."""
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


METHODS = pytest.mark.parametrize("method", [*CLASSES, *VARIANTS], ids=label)

# How often a call waits for the GPU: for the images, and for logits and maps together at the end.
# CAM also compares its layer with what the classifier gets. Of the others, each further pass waits.
ONCE = 2
WAITS = {"CAM": 3, "Product": 3, "IntegratedGradients": 2 + 7, "SmoothGrad": 2 + 1 + 25 * 2,
         "IntegratedGradients-5-4": 2 + 3, "SmoothGrad-3": 2 + 1 + 3 * 2}  # fmt: skip


@METHODS
def test_maps_are_made_on_the_gpu_and_waited_for_at_the_end(method):
    with fake_gpu() as waits:
        with torch.device(GPU):
            attribution, pixels = method(small_net()), torch.rand(2, 3, 12, 10)
        targets = torch.tensor([[1, 3], [0, -1]])
        waits.places.clear()

        maps = attribution.attribute(pixels, targets)

        assert maps.device.type == GPU
        assert len(waits.places) == WAITS.get(label(method), ONCE), waits.places


def test_targets_on_the_gpu_are_waited_for_once():
    with fake_gpu() as waits:
        with torch.device(GPU):
            attribution, pixels = tsgb.TSGB(small_net()), torch.rand(2, 3, 12, 10)
            targets = torch.zeros(2, 3, dtype=torch.int64)
        waits.places.clear()

        attribution.attribute(pixels, targets)

        assert len(waits.places) == ONCE + 1, waits.places


@METHODS
def test_a_batch_and_further_classes_cost_no_further_wait(method):
    if not class_of(method).facts.one_pass:
        pytest.skip("it makes several passes")
    with fake_gpu() as waits:
        with torch.device(GPU):
            attribution, pixels = method(small_net()), torch.rand(8, 3, 12, 10)
        targets = torch.zeros(8, 20, dtype=torch.int64)
        waits.places.clear()

        attribution.attribute(pixels, targets)

        assert len(waits.places) == WAITS.get(label(method), ONCE), waits.places


@pytest.mark.parametrize("model", [small_net, convolutional_head])
@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
def test_the_classes_that_a_gpu_does_not_leave_out_add_nothing(model, kappa, monkeypatch):
    network, targets = model(), torch.tensor([[1, 3], [0, -1]])
    expected = tsgb.TSGB(network, kappa=kappa).attribute(images(), targets)
    asked = []
    for module in (classifier, convolution):
        monkeypatch.setattr(module, "classes_reached", lambda g: asked.append(g) or slice(None))

    maps = tsgb.TSGB(network, kappa=kappa).attribute(images(), targets)

    assert asked
    torch.testing.assert_close(maps, expected)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda x: x.sum().item(), id="item"),
        pytest.param(lambda x: bool(x.isfinite().all()), id="bool"),
        pytest.param(lambda x: torch.equal(x, x), id="equal"),
        pytest.param(lambda x: x.cpu(), id="to-the-cpu"),
        pytest.param(lambda x: x + torch.rand(3).to(GPU), id="from-the-cpu"),
        pytest.param(lambda x: x + torch.tensor(1.0, device=GPU), id="constant"),
    ],
)
def test_the_gpu_that_is_not_there_notices_who_waits(operation):
    with fake_gpu() as waits:
        operation(torch.rand(3, device=GPU))

        assert len(waits.places) == 1


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda x: x.nonzero(), id="nonzero"),
        pytest.param(lambda x: x[x > 0], id="boolean-index"),
        pytest.param(lambda x: x + torch.rand(3), id="two-devices"),
    ],
)
def test_the_gpu_that_is_not_there_refuses(operation):
    with fake_gpu(), pytest.raises(Exception, match=r"nonzero|same device"):
        operation(torch.rand(3, device=GPU))
