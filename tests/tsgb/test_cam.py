import pytest
import torch
from model_checks import Middle, images, small_net
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tsgb import CAM, GGM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, UnsupportedModelError


def test_by_hand():
    activation = torch.tensor([[[[1.0, 2.0], [0.0, 1.0]], [[-1.0, 1.0], [3.0, 0.0]]]])
    net = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    net[3].weight.data = torch.tensor([[1.0, 2.0], [4.0, -1.0]])

    maps = CAM(net.eval(), layer="0").attribute(activation, torch.tensor([[0, 1]]))

    assert maps[0].tolist() == [[[-1.0, 4.0], [6.0, 1.0]], [[5.0, 7.0], [-3.0, 4.0]]]


def test_against_torchcam():
    torchcam = pytest.importorskip("torchcam.methods")
    net, targets = small_net(), [1, 4]
    with torchcam.CAM(net, target_layer="5", fc_layer="8") as extractor:
        net(images())
        (expected,) = extractor(targets, normalized=False)

    maps = CAM(net).attribute(images(), torch.tensor(targets))

    torch.testing.assert_close(maps[:, 0], expected.detach())


def test_the_mean_of_the_map_is_the_logit_without_bias():
    net, targets = small_net(), torch.tensor([[0, 2], [4, 1]])

    maps, logits = CAM(net).attribute_with_logits(images(), targets)

    torch.testing.assert_close(
        maps.mean((2, 3)), (logits - net[8].bias.detach()).gather(1, targets)
    )


def test_equals_grad_cam_up_to_the_size_of_the_map():
    net, targets = small_net(), torch.tensor([[0, 2], [4, 1]])

    cam, grad_cam = (method(net).attribute(images(), targets) for method in (CAM, GradCAM))

    torch.testing.assert_close(cam / cam.shape[2:].numel(), grad_cam)


@pytest.mark.parametrize(
    "mean",
    [
        pytest.param(lambda x: x.mean((2, 3)), id="mean"),
        pytest.param(lambda x: functional.adaptive_avg_pool2d(x, 1)[..., 0, 0], id="adaptive"),
        pytest.param(lambda x: functional.avg_pool2d(x, x.shape[-2:]).squeeze(), id="avg-pool"),
        pytest.param(lambda x: x.flatten(2).sum(2) / 120, id="sum"),
    ],
)
def test_every_spelling_of_the_mean(mean):
    model, targets = Middle(lambda net, x: x), torch.tensor([0, 3])
    expected = CAM(model).attribute(images(), targets)

    model.forward = lambda x: model.head(mean(model.first(x)))

    torch.testing.assert_close(CAM(model).attribute(images(), targets), expected)


def test_flattened_features_are_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(320, 4)).eval()

    with pytest.raises(
        UnsupportedModelError,
        match=r"^CAM: the classifier receives \(2, 320\), which is neither the spatial mean nor "
        r"the sum of the layer that is read, \(2, 4, 10, 8\)\. The weights of the classes would "
        r"not belong to the channels of the feature map\. "
        r"Read the layer that is averaged, or use GradCAM\.$",
    ):
        CAM(net).attribute(images(), torch.tensor([0, 1]))


def test_another_layer_than_the_averaged_one_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"receives \(2, 12\), which is neither the sp"):
        CAM(small_net(), layer="4").attribute(images(), torch.tensor([0, 1]))


class GlobalSum(nn.Module):
    def forward(self, x):
        return x.sum((2, 3), keepdim=True)


MEAN = nn.AdaptiveAvgPool2d(1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "head",
    [
        pytest.param(lambda conv: [MEAN, conv, nn.Flatten()], id="mean-conv"),
        pytest.param(lambda conv: [conv, MEAN, nn.Flatten()], id="conv-mean"),
        pytest.param(
            lambda conv: [nn.Dropout2d(), conv, nn.AvgPool2d((10, 8)), nn.Flatten()],
            id="dropout-conv-mean",
        ),
        pytest.param(lambda conv: [conv, nn.Flatten(2), Last()], id="conv-mean-of-view"),
        pytest.param(lambda conv: [GlobalSum(), conv, nn.Flatten()], id="sum-conv"),
        pytest.param(lambda conv: [conv, GlobalSum(), nn.Flatten()], id="conv-sum"),
    ],
)
def test_a_pointwise_convolution_equals_grad_cam_times_the_size(head, bias):
    """The heads of IRN, PSA and SEAM."""
    torch.manual_seed(0)
    layers = head(nn.Conv2d(7, 5, 1, bias=bias))
    net = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU(), nn.Conv2d(7, 7, 1), *layers).eval()
    targets = torch.tensor([[0, 3], [4, -1]])

    cam = CAM(net).attribute(images(), targets)

    size = 1 if any(isinstance(layer, GlobalSum) for layer in layers) else cam.shape[2:].numel()
    expected = GradCAM(net, layer="2").attribute(images(), targets) * size
    torch.testing.assert_close(cam, expected)
    assert torch.equal(CAM(net, layer="2").attribute(images(), targets), cam)


class Last(nn.Module):
    def forward(self, x):
        return x.mean(-1)


def test_a_pointwise_classifier_by_hand():
    activation = torch.tensor([[[[1.0, 2.0], [0.0, 1.0]], [[-1.0, 1.0], [3.0, 0.0]]]])
    net = nn.Sequential(nn.Identity(), nn.Conv2d(2, 2, 1), MEAN, nn.Flatten())
    net[1].weight.data = torch.tensor([[1.0, 2.0], [4.0, -1.0]])[..., None, None]

    maps, logits = CAM(net.eval()).attribute_with_logits(activation, torch.tensor([[0, 1]]))

    assert maps[0].tolist() == [[[-1.0, 4.0], [6.0, 1.0]], [[5.0, 7.0], [-3.0, 4.0]]]
    torch.testing.assert_close(maps.mean((2, 3)) + net[1].bias.detach(), logits)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        pytest.param(
            [nn.Conv2d(7, 5, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten()],
            r"the logits are not the output of a Linear layer or a 1 x 1 convolution, nor its mean",
            id="maximum-of-the-classifier",
        ),
        pytest.param(
            [nn.Conv2d(7, 5, 1), nn.ReLU(), MEAN, nn.Flatten()],
            r"\(an activation function or a maximum after the classifier is not linear\)",
            id="squeezenet",
        ),
        pytest.param(
            [nn.AdaptiveMaxPool2d(1), nn.Conv2d(7, 5, 1), nn.Flatten()],
            r"receives \(2, 7\), which is the spatial maximum, neither the mean nor the sum, of "
            r"the layer that is read, \(2, 7, 10, 8\)",
            id="maximum",
        ),
        pytest.param(
            [nn.Conv2d(7, 5, 3), MEAN, nn.Flatten()],
            r"one Linear layer or one convolution without groups \(for CAM: of 1 x 1\)",
            id="3x3",
        ),
    ],
)
def test_heads_that_are_not_linear_in_the_mean_are_refused(head, message):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU(), *head).eval()

    with pytest.raises(UnsupportedModelError, match=f"^CAM: .*{message}"):
        CAM(net, layer="1").attribute(images(), torch.tensor([0, 3]))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            "0",
            r"receives \(2, 7, 10, 8\), which is not the output of the layer that is read, \(2, 7",
        ),
        ("2", r"from the layer that is read or one before it.* and read below that layer"),
    ],
)
def test_another_layer_than_that_of_a_pointwise_classifier_is_refused(layer, message):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 7, 3), nn.ReLU(), nn.Conv2d(7, 5, 1), MEAN, nn.Flatten()

    with pytest.raises(UnsupportedModelError, match=message):
        CAM(nn.Sequential(*layers).eval(), layer=layer).attribute(images(), torch.tensor([0, 3]))


def test_logits_that_are_not_those_of_the_linear_layer():
    model = nn.Sequential(small_net(), nn.Softmax(1)).eval()

    with pytest.raises(UnsupportedModelError, match=r"^CAM: the logits are not the output of a Li"):
        CAM(model).attribute(images(), torch.tensor([0, 1]))


def checkpointed(part):
    """``part`` of a network under the older form of gradient checkpointing."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.maps = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
            if part == "further maps":
                self.add_module(part, nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()))
            self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.head = nn.Linear(8, 5)
            self.eval()

        def forward(self, x):
            for name, module in self.named_children():
                x = checkpoint(module, x, use_reentrant=True) if name == part else module(x)
            return x

    return Net()


@pytest.mark.parametrize(
    ("method", "part", "layer"),
    [
        *((m, "maps", None) for m in (CAM, GGM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM)),
        *((m, "maps", "maps.0") for m in (CAM, GradCAM)),
        *((m, "head", layer) for m in (CAM, GradCAM) for layer in (None, "maps")),
        (CAM, "further maps", None),
    ],
)
def test_feature_maps_and_a_classifier_inside_of_reentrant_checkpointing(method, part, layer):
    model, targets = checkpointed(part), torch.tensor([0, 3])

    with pytest.raises(
        UnsupportedModelError,
        match=r"^\w+: the model uses gradient checkpointing with use_reentrant=True.*Switch it off",
    ):
        method(model, layer=layer).attribute(images(), targets)


@pytest.mark.parametrize("method", [CAM, GradCAM])
def test_a_layer_whose_output_leaves_reentrant_checkpointing_is_read(method):
    targets = torch.tensor([0, 3])
    expected = method(checkpointed(None)).attribute(images(), targets)

    maps = method(checkpointed("maps"), layer="maps").attribute(images(), targets)

    assert torch.equal(maps, expected)
