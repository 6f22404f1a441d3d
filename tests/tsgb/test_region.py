import copy
import pickle
from functools import partial

import pytest
import torch
from model_checks import images, random_statistics, unchanged
from torch import nn

import tsgb
from tsgb import TSGB, GradCAM, IntegratedGradients, LayerError, ShapeError, TSGBError
from tsgb.region import RegionLogits, region_mean

TARGETS = torch.tensor([[1, 3], [0, -1]])


def box(rows, columns, height=12, width=10):
    region = torch.zeros(height, width, dtype=torch.bool)
    region[rows, columns] = True
    return region


def dense_net(padding=1, last=3):
    """Convolutions only; five classes at every pixel."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=padding), nn.ReLU(),
        nn.Conv2d(8, 6, 3, padding=padding, groups=2), nn.ReLU(),
        nn.Conv2d(6, 5, last, padding=padding * (last // 2)),
    ).eval()  # fmt: skip


def test_the_mean_of_each_region():
    dense = torch.arange(16.0).view(2, 2, 2, 2)
    one = torch.tensor([[True, False], [False, True]])
    each = torch.tensor([[[True, False], [False, False]], [[True, True], [True, True]]])

    assert region_mean(dense, one).tolist() == [[1.5, 5.5], [9.5, 13.5]]
    assert region_mean(dense, each).tolist() == [[0.0, 4.0], [9.5, 13.5]]


@pytest.mark.parametrize(
    ("kappa", "expected"),
    [
        # Features 1 2 3 and 3 2 1, weights of class 0: 2 and -1. Evidence for it at the pixels:
        # 2, 4, 6, of which the outer two count one half each. What is left of it is 1 - kappa.
        pytest.param(0.0, [1.0, 0.0, 3.0], id="for-only"),
        pytest.param(0.5, [0.5, 0.0, 1.5], id="half"),
        pytest.param(1.0, [0.0, 0.0, 0.0], id="balanced-at-each-pixel"),
    ],
)
def test_tsgb_by_hand(kappa, expected):
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        net[0].bias.copy_(torch.tensor([0.0, 4.0]))
        net[2].weight.copy_(torch.tensor([[2.0, -1.0], [1.0, 3.0]])[..., None, None])
        net[2].bias.fill_(9.0)  # ignored
    region = torch.tensor([[True, False, True]])
    pixels = torch.tensor([[[[1.0, 2.0, 3.0]]]])

    maps = TSGB(RegionLogits(net, region), kappa=kappa).attribute(pixels, torch.tensor([0]))

    torch.testing.assert_close(maps[0, 0], torch.tensor([expected]))


@pytest.mark.parametrize(
    "method",
    [TSGB, partial(TSGB, kappa=0.3), tsgb.Gradient, tsgb.InputXGradient, tsgb.GuidedBackprop,
     tsgb.ExcitationBackprop, tsgb.ContrastiveExcitationBackprop, tsgb.PANE],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("last", [1, 3])
def test_one_pixel_is_the_classifier_on_its_field_of_view(method, last):
    net = dense_net(padding=0, last=last).double()
    field = 5 + last - 1  # what a pixel of the dense logits sees
    pixels, targets = images(2, 11, 9).double(), torch.tensor([[1, 3], [0, 2]])
    size = (11 - field + 1, 9 - field + 1)

    whole = method(RegionLogits(net, box(2, 1, *size))).attribute(pixels, targets)
    seen = method(nn.Sequential(net, nn.Flatten()).eval()).attribute(
        pixels[..., 2 : 2 + field, 1 : 1 + field], targets
    )

    torch.testing.assert_close(whole[..., 2 : 2 + field, 1 : 1 + field], seen)
    torch.testing.assert_close(whole.abs().sum(), seen.abs().sum())
    assert seen.abs().sum() > 0


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_map_of_a_region_is_the_mean_of_those_of_its_parts(align_corners):
    resize = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)
    net = nn.Sequential(dense_net(), resize).double().eval()
    first, second = box(slice(2, 5), slice(1, 7), 24, 20), box(slice(14, 22), 9, 24, 20)

    whole, *parts = (
        TSGB(RegionLogits(net, region), kappa=0.6).attribute(images().double(), TARGETS)
        for region in (first | second, first, second)
    )

    weights = first.sum() / (first | second).sum(), second.sum() / (first | second).sum()
    torch.testing.assert_close(whole, weights[0] * parts[0] + weights[1] * parts[1])
    assert not torch.allclose(*parts)


def test_pixels_out_of_sight_get_nothing():
    maps = TSGB(RegionLogits(dense_net(), box(4, 3))).attribute(images(), TARGETS)

    seen = box(slice(1, 8), slice(0, 7))
    assert (maps[..., ~seen] == 0).all()
    assert (maps[0, 0][seen] != 0).any()


def test_a_region_for_each_image_is_the_images_one_by_one():
    regions = torch.stack([box(slice(0, 4), slice(2, 9)), box(7, 7)])

    together = TSGB(RegionLogits(dense_net(), regions)).attribute(images(), TARGETS)

    for i in range(2):
        alone = TSGB(RegionLogits(dense_net(), regions[i])).attribute(
            images()[i : i + 1], TARGETS[i : i + 1]
        )
        torch.testing.assert_close(together[i : i + 1], alone)


# What comes out of each method for segmentation networks: a map, or the operation it refuses.
_GATHERING = "interpolate"
CELLS = {
    # method                           Unet         DeepLabV3Plus  FPN
    "CAM":                           ("dense",      "dense",       "dense"),
    "ContrastiveExcitationBackprop": (_GATHERING,   _GATHERING,    _GATHERING),
    "Deconvnet":                     ("right",      "right",       "group_norm"),
    "ExcitationBackprop":            (_GATHERING,   _GATHERING,    _GATHERING),
    "GGM":                           ("right",      "right",       "right"),
    "GradCAM":                       ("right",      "right",       "right"),
    "GradCAMPlusPlus":               ("right",      "right",       "right"),
    "Gradient":                      ("right",      "right",       "right"),
    "GradualExtrapolation":          ("right",      "right",       "right"),
    "GuidedBackprop":                ("right",      "right",       "group_norm"),
    "HiResCAM":                      ("right",      "right",       "right"),
    "InputXGradient":                ("right",      "right",       "right"),
    "IntegratedGradients":           ("right",      "right",       "right"),
    "LayerCAM":                      ("right",      "right",       "right"),
    "PANE":                          (_GATHERING,   _GATHERING,    _GATHERING),
    "SmoothGrad":                    ("right",      "right",       "right"),
    "TSGB":                          ("right",      "right",       "right"),
}  # fmt: skip
NETWORKS = ("Unet", "DeepLabV3Plus", "FPN")
OPTIONS = {
    "GradualExtrapolation": {"base": partial(GradCAM, layer="encoder.layer4")},
    "IntegratedGradients": {"steps": 2, "batch_size": 1},
    "SmoothGrad": {"samples": 2},
} | {name: {"layer": "encoder.layer4"} for name in ("GGM", "GradCAM", "GradCAMPlusPlus",
                                                    "HiResCAM", "LayerCAM")}  # fmt: skip
REFUSED = {
    "dense": r"the last feature map is that of the dense logits\. .* Name a layer with layer=",
    "interpolate": r"there is no backward rule for the operation 'interpolate'",
    "group_norm": r"there is no backward rule for the operation 'group_norm'",
}


def smp_network(name, encoder="resnet18"):
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    return random_statistics(getattr(smp, name)(encoder, encoder_weights=None, classes=5))


@pytest.fixture(scope="module", params=range(3), ids=NETWORKS)
def column(request):
    regions = torch.stack([box(slice(4, 20), slice(30, 50), 32, 64), box(9, 9, 32, 64)])
    return request.param, RegionLogits(smp_network(NETWORKS[request.param]), regions)


@pytest.mark.parametrize("name", CELLS)
def test_segmentation_networks_and_methods(name, column):
    index, model = column
    expected, method = CELLS[name][index], getattr(tsgb, name)(model, **OPTIONS.get(name, {}))
    pixels = images(2, 32, 64)
    if expected != "right":
        with unchanged(model), pytest.raises(TSGBError, match=rf"^{name}: {REFUSED[expected]}"):
            method.attribute(pixels, TARGETS)
        return

    with unchanged(model):
        maps, logits = method.attribute_with_logits(pixels, TARGETS)

    assert maps.isfinite().all()
    assert (maps[0].flatten(1).abs().amax(1) > 0).all() or name == "GGM"
    assert (maps[1, 1] == 0).all()
    torch.testing.assert_close(logits, model(pixels).detach())


def without_constants(model):
    """No bias anywhere: nothing that an empty window could answer."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.running_mean)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    return model


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("name", NETWORKS)
def test_relevance_is_conserved_from_the_evidence_in_the_region(name, encoder):
    net = without_constants(smp_network(name, encoder)).double()
    model = RegionLogits(net, box(slice(4, 20), slice(30, 50), 32, 64))
    pixels, targets = images(2, 32, 64).double(), torch.tensor([[1], [4]])
    head, seen = net.segmentation_head[0], []
    handle = head.register_forward_hook(lambda _module, args, y: seen.extend((args[0], y)))
    logits = model(pixels).gather(1, targets).sum()
    handle.remove()
    x, y = seen
    (share,) = torch.autograd.grad(logits, y)  # of each pixel of the head in the logit
    x, weight = x.detach(), head.weight.detach()
    evidence = sum(
        nn.functional.conv2d(x.clamp(**side), weight.clamp(**side), padding=head.padding)
        for side in ({"min": 0}, {"max": 0})
    )

    maps = TSGB(model, kappa=0.0).attribute(pixels, targets)

    expected = (share * evidence).sum((1, 2, 3))
    torch.testing.assert_close(maps.sum((2, 3))[:, 0], expected, rtol=1e-6, atol=0)
    assert (expected > 0).all()


def test_layers_keep_their_names():
    model = RegionLogits(smp_network("Unet"), box(3, 3, 32, 64))

    maps = [
        GradCAM(model, layer=layer).attribute(images(1, 32, 64), torch.tensor([2]))
        for layer in ("encoder.layer3", "model.encoder.layer3")
    ]

    assert torch.equal(*maps)
    assert model.encoder is model.model.encoder
    with pytest.raises(AttributeError, match="no attribute 'encodr'"):
        _ = model.encodr
    with pytest.raises(LayerError, match=r"no layer 'encoder\.layer9'"):
        GradCAM(model, layer="encoder.layer9")


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_and_a_pickle(twin):
    model = RegionLogits(dense_net(), box(4, 3))

    assert torch.equal(twin(model)(images()), model(images()))


def test_the_wrapper_adds_nothing_to_the_network():
    net = dense_net()

    with unchanged(net):
        model = RegionLogits(net.train(), box(4, 3))
        assert model.training
        assert model.double().regions.dtype == torch.bool
        net.float().eval()
    assert [key.removeprefix("model.") for key in model.state_dict()] == [*net.state_dict()]


def test_copies_of_a_batch_and_a_region_for_each_image():
    model = RegionLogits(dense_net(), torch.stack([box(4, 3), box(1, 1)]))

    with pytest.raises(ShapeError, match=r"there are 2 regions for 16 images\. .* batch_size is 1"):
        IntegratedGradients(model).attribute(images(), TARGETS)
    maps, logits = IntegratedGradients(model, batch_size=1).attribute_with_logits(images(), TARGETS)
    black = model(torch.zeros(2, 3, 12, 10)).detach()
    change = (logits - black).gather(1, TARGETS.clamp(min=0)) * (TARGETS >= 0)
    torch.testing.assert_close(maps.sum((2, 3)), change, rtol=0.1, atol=0.01)


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (torch.ones(4, 4), r"regions are \(4, 4\) of torch\.float32, expected bool \[h, w\] or"),
        (torch.ones(1, 1, 4, 4) > 0, r"regions are \(1, 1, 4, 4\) of torch\.bool"),
        ([[True]], r"regions are list, expected bool"),
        (torch.zeros(4, 4) > 0, r"the region is empty\. A mean over no pixels is not a number\."),
        (torch.eye(2)[..., None] > 1, r"the region of image 0 is empty"),
        (torch.tensor([[[True]], [[False]]]), r"the region of image 1 is empty\. .* Leave such"),
    ],
)
def test_what_is_no_region(regions, message):
    with pytest.raises(ShapeError, match=rf"^RegionLogits: {message}"):
        RegionLogits(dense_net(), regions)


@pytest.mark.parametrize(
    ("network", "regions", "message"),
    [
        (dense_net(), box(1, 1, 6, 5), r"regions are \(6, 5\), the dense logits \(2, 5, 12, 10\)"),
        (dense_net(), box(1, 1)[None], r"there are 1 regions for 2 images\. Pass one for"),
        (nn.Flatten(), box(1, 1), r"the model returned \(2, 360\), expected dense logits \[B"),
        (nn.LSTM(10, 3), box(1, 1), r"the model returned tuple, .* for torchvision\."),
    ],
)
def test_logits_that_do_not_fit(network, regions, message):
    model = RegionLogits(network.eval(), regions)
    pixels = images()[:, 0] if isinstance(network, nn.LSTM) else images()

    with pytest.raises(ShapeError, match=rf"^RegionLogits: {message}"):
        model(pixels)
