import pytest
import torch
import torchvision
from model_checks import images, random_statistics, small_net
from relevance_checks import (
    FIRST,
    NETWORKS,
    SECOND,
    Chain,
    activations,
    by_hand,
    excitation_map,
    pixels,
    vgg11_bn,
)
from torch import nn

from tsgb import LayerError, UnsupportedModelError
from tsgb.methods.excitation_backprop import ContrastiveExcitationBackprop, ExcitationBackprop

TARGETS = torch.tensor([[0, 3], [4, 1]])


@pytest.mark.parametrize(
    ("layer", "target", "expected"),
    [
        # class 0 is excited by channel 0 alone; class 1 by 1 * 3/2 and 3 * 3/4, that is 2 : 3.
        pytest.param("1", 0, FIRST, id="one-channel"),
        pytest.param("1", 1, 0.4 * FIRST + 0.6 * SECOND, id="two-channels"),
        # the image inhibits channel 1, which is active by its bias only
        pytest.param(None, 1, 0.4 * FIRST, id="image"),
    ],
)
def test_by_hand(layer, target, expected):
    net, image = by_hand()

    maps = ExcitationBackprop(net, layer=layer).attribute(image, torch.tensor([target]))

    torch.testing.assert_close(maps[0, 0], expected)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(0, FIRST - SECOND, id="both"),
        pytest.param(1, 0.4 * FIRST + 0.6 * SECOND, id="nothing-excites-the-dual"),
    ],
)
def test_contrast_by_hand(target, expected):
    net, image = by_hand()

    maps = ContrastiveExcitationBackprop(net, layer="1").attribute(image, torch.tensor([target]))

    torch.testing.assert_close(maps[0, 0], expected)


def dense_maps(net, image, targets):
    blocks, values = net.blocks(), activations(net.blocks(), image)
    return torch.stack([excitation_map(blocks, values, t) for t in targets.tolist()])


@pytest.mark.parametrize("network", NETWORKS)
def test_against_dense_matrices(network):
    net, batch = network(), pixels()

    maps = ExcitationBackprop(net).attribute(batch, TARGETS)

    for index in range(2):
        expected = dense_maps(net, batch[index : index + 1], TARGETS[index])
        torch.testing.assert_close(maps[index], expected)
    assert (maps > 0).any()


@pytest.mark.parametrize("network", NETWORKS)
def test_contrast_against_two_chains_of_dense_matrices(network):
    net, batch = network(), pixels()
    dual = network()
    dual.head.weight.data.neg_()

    maps = ContrastiveExcitationBackprop(net).attribute(batch, TARGETS)

    for index in range(2):
        image, targets = batch[index : index + 1], TARGETS[index]
        expected = dense_maps(net, image, targets) - dense_maps(dual, image, targets)
        torch.testing.assert_close(maps[index], expected)
    assert (maps > 0).any()
    assert (maps < 0).any()


@pytest.mark.parametrize(("layer", "block"), [("relu", 2), ("pool", 3), ("second_relu", 5)])
def test_middle_layers_against_dense_matrices(layer, block):
    net, batch = Chain(), pixels(1)
    values = activations(net.blocks(), batch)

    maps = ExcitationBackprop(net, layer=layer).attribute(batch, torch.tensor([2]))

    expected = excitation_map(net.blocks()[block:], values[block:], 2)
    torch.testing.assert_close(maps[0, 0], expected)


@pytest.mark.parametrize("layer", ["0", "1", "2", "3", "4", "5"])
def test_probabilities_sum_to_one_at_every_layer(layer):
    probabilities = ExcitationBackprop(small_net(), layer=layer).attribute(images(), TARGETS)
    contrast = ContrastiveExcitationBackprop(small_net(), layer=layer).attribute(images(), TARGETS)

    torch.testing.assert_close(probabilities.sum((2, 3)), torch.ones(2, 2))
    assert (probabilities >= 0).all()
    torch.testing.assert_close(contrast.sum((2, 3)), torch.zeros(2, 2), atol=1e-6, rtol=0)


def test_pixels_below_zero_get_nothing():
    batch = -images().abs()
    batch[:, :, 3:6] *= -1

    maps = ExcitationBackprop(small_net()).attribute(batch, TARGETS)

    assert (maps[:, :, 3:6] > 0).any()
    assert (maps[:, :, :3] == 0).all()
    assert (maps[:, :, 6:] == 0).all()


def test_a_black_image_gives_an_empty_map():
    maps = ExcitationBackprop(small_net()).attribute(torch.zeros(1, 3, 12, 10), torch.tensor([0]))

    assert (maps == 0).all()


def test_a_convolution_may_be_the_classifier():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    ).append(nn.Flatten())
    dual = nn.Conv2d(6, 4, 1)
    dual.load_state_dict({"weight": -net[2].weight.data, "bias": net[2].bias.data})
    with torch.no_grad():
        features = net[:2](images())
        scores = net[2](features).relu()
        share = scores[:, 1] / scores[:, 1].sum((1, 2), keepdim=True)
        for_target = features * net[2].weight[1].clamp(min=0)
        against = features * dual.weight[1].clamp(min=0)
        expected = share * (
            (for_target / for_target.sum(1, keepdim=True)).nan_to_num(0).sum(1)
            - (against / against.sum(1, keepdim=True)).nan_to_num(0).sum(1)
        )

    maps = ContrastiveExcitationBackprop(net.eval(), layer="1").attribute(
        images(), torch.tensor([1, 1])
    )

    torch.testing.assert_close(maps[:, 0], expected)


def test_a_layer_above_the_classifier_has_no_contrast():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()

    for layer in ("0", "1"):
        with pytest.raises(LayerError, match=r"\(2, 4, 12, 10\) is not below the classifier"):
            ContrastiveExcitationBackprop(net, layer=layer).attribute(
                images(), torch.tensor([0, 1])
            )


def test_several_layers_in_one_sweep():
    method = ContrastiveExcitationBackprop(small_net())

    maps = method.attribute_layers(images(), TARGETS, ["2", "5"])

    for layer, found in maps.items():
        alone = ContrastiveExcitationBackprop(small_net(), layer=layer)
        torch.testing.assert_close(found, alone.attribute(images(), TARGETS))


def test_contrast_needs_one_classifier():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(360, 4), nn.Linear(360, 4)

        def forward(self, x):
            return self.first(x.flatten(1)) + self.second(x.flatten(1))

    net = TwoHeads().eval()

    assert ExcitationBackprop(net).attribute(images(), torch.tensor([0, 1])).isfinite().all()
    with pytest.raises(UnsupportedModelError, match="do not come from one classifier layer"):
        ContrastiveExcitationBackprop(net).attribute(images(), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        pytest.param(lambda: torchvision.models.resnet18(num_classes=6), "layer3", id="resnet18"),
        pytest.param(vgg11_bn, "0.27", id="vgg11_bn"),
    ],
)
@pytest.mark.parametrize("method", [ExcitationBackprop, ContrastiveExcitationBackprop])
def test_known_networks(method, build, layer):
    torch.manual_seed(0)
    net = random_statistics(build())

    maps, logits = method(net, layer=layer).attribute_with_logits(
        images(1, 64, 48), torch.tensor([1])
    )

    assert maps.shape == (1, 1, 4, 3)
    assert torch.equal(logits, net(images(1, 64, 48)).detach())
    total = 1.0 if method is ExcitationBackprop else 0.0
    torch.testing.assert_close(maps.sum(), torch.tensor(total), rtol=0, atol=1e-3)
    assert maps.abs().sum() > 0
