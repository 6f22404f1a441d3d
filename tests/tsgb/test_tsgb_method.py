import pytest
import torch
from model_checks import images, random_statistics, small_net
from torch import nn
from torch.nn import functional

from tsgb import TSGB, LayerError


def by_hand():
    """One 2 x 2 image, a 1 x 1 convolution to two channels, ReLU, global mean, two classes."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    ).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
        net[0].bias.copy_(torch.tensor([1.0, 0.0]))
        net[4].weight.copy_(torch.tensor([[4.0, -1.0], [1.0, 3.0]]))
        net[4].bias.fill_(9.0)  # ignored
    return net, torch.tensor([[[[1.0, -1.0], [3.0, 0.0]]]])


@pytest.mark.parametrize(
    ("kappa", "target", "expected"),
    [
        # channel 0 after ReLU: 2 0 / 4 1, channel 1: 0 2 / 0 0; means 7/4 and 1/2.
        # class 0: w = 4, -1; P = 7, Q = -1/2, beta = 14. Relevance y * w / 4 at each pixel:
        # 2, -beta * kappa / 2, 4 and 1, of which the last is lost because its input is 0.
        pytest.param(0.0, 0, [[2.0, 0.0], [4.0, 0.0]], id="for-only"),
        pytest.param(1.0, 0, [[2.0, -7.0], [4.0, 0.0]], id="balanced"),
        pytest.param(0.5, 0, [[2.0, -3.5], [4.0, 0.0]], id="half"),
        # class 1: w = 1, 3 and Q = 0: nothing to balance, whatever kappa is.
        pytest.param(1.0, 1, [[0.5, 1.5], [1.0, 0.0]], id="no-opposing-evidence"),
    ],
)
def test_by_hand(kappa, target, expected):
    net, pixels = by_hand()

    maps = TSGB(net, kappa=kappa).attribute(pixels, torch.tensor([target]))

    torch.testing.assert_close(maps[0, 0], torch.tensor(expected))


def test_by_hand_at_a_layer():
    net, pixels = by_hand()

    maps = TSGB(net, kappa=0.0, layer="1").attribute(pixels, torch.tensor([0]))

    torch.testing.assert_close(maps[0, 0], torch.tensor([[2.0, 0.0], [4.0, 1.0]]))


def relevance_through_conv(conv, x, relevance):
    """The rule in the relevance domain, by unfolding: no gradient, no autograd."""
    groups = conv.groups
    s = x.abs().unflatten(1, (groups, -1)).sum(2)
    r = relevance.unflatten(1, (groups, -1)).sum(2)
    fold = {"kernel_size": conv.kernel_size, "padding": conv.padding, "stride": conv.stride}
    windows = functional.unfold(s, **fold).unflatten(1, (groups, -1))
    total = windows.sum(2, keepdim=True)
    shares = torch.where(total > 0, windows / total, 0) * r.flatten(2).unsqueeze(2)
    shared = functional.fold(shares.flatten(1, 2), x.shape[-2:], **fold)
    per_channel = torch.where(s > 0, shared / s, 0).repeat_interleave(x.shape[1] // groups, 1)
    return x.abs() * per_channel


@pytest.mark.parametrize("kappa", [0.0, 0.6, 1.0])
def test_a_whole_network_against_the_relevance_domain(kappa):
    net = small_net().double()
    pixels, target = images().double(), 3
    with torch.no_grad():
        first = net[0](pixels)
        normed = net[1](first)
        rectified = normed.relu()
        pooled, where = functional.max_pool2d(rectified, 2, return_indices=True)
        second = net[4](pooled)
        clipped = functional.relu6(second)
        features = clipped.mean((2, 3))
        weight = net[8].weight[target]
        plus, minus = features * weight.clamp(min=0), features * weight.clamp(max=0)
        beta = plus.sum(1, keepdim=True) / minus.sum(1, keepdim=True).abs()
        channel_share = (plus + kappa * beta * minus) / features.clamp(min=1e-300)
        relevance = clipped * channel_share[..., None, None] / clipped.shape[2:].numel()
        relevance = relevance_through_conv(net[4], pooled, relevance)
        relevance = functional.max_unpool2d(relevance, where, 2, output_size=rectified.shape[-2:])
        expected = relevance_through_conv(net[0], pixels, relevance).sum(1) * 1.0
        signed = (pixels.sign() * relevance_through_conv(net[0], pixels, relevance)).sum(1)

    maps = TSGB(net, kappa=kappa).attribute(pixels, torch.full((2,), target))

    torch.testing.assert_close(maps[:, 0], expected)
    assert not torch.allclose(signed, expected)


def test_the_signed_map_sums_to_zero_at_kappa_one():
    maps = TSGB(small_net().double()).attribute(images().double(), torch.tensor([[0, 1], [2, 4]]))

    assert (maps.sum((2, 3)).abs() < 1e-9 * maps.abs().sum((2, 3))).all()


def test_conservation_end_to_end():
    net = small_net().double()
    targets = torch.tensor([[0, 1], [2, 4]])
    maps = TSGB(net, kappa=0.0).attribute(images().double(), targets)

    features = net[:8](images().double()).detach()
    weights = net[8].weight.detach()[targets].clamp(min=0)
    torch.testing.assert_close(maps.sum((2, 3)), torch.einsum("bc,bkc->bk", features, weights))


def test_a_one_by_one_convolution_may_be_the_classifier():
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 6, 3), nn.ReLU()]
    linear = nn.Linear(6, 4)
    conv = nn.Conv2d(6, 4, 1)
    conv.load_state_dict({"weight": linear.weight[..., None, None], "bias": linear.bias})
    fully_convolutional = nn.Sequential(*body, conv, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    pixels, targets = images(2, 3, 3), torch.tensor([[0, 1], [3, -1]])  # one location
    with_linear = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).eval()

    torch.testing.assert_close(
        TSGB(fully_convolutional).attribute(pixels, targets),
        TSGB(with_linear).attribute(pixels, targets),
    )
    at_many = TSGB(fully_convolutional, kappa=0.0).attribute(images(), targets).sum((2, 3))
    features = fully_convolutional[:2](images()).detach()
    weights = linear.weight.detach()[targets].clamp(min=0) * (targets >= 0)[..., None]
    torch.testing.assert_close(at_many, torch.einsum("bchw,bkc->bk", features, weights) / 80)


@pytest.mark.parametrize("kappa", [0.0, 0.7, 1.0])
def test_a_larger_convolution_is_a_linear_layer_on_every_window(kappa):
    """Pixel by pixel, also where the activations are negative and at the edges."""
    torch.manual_seed(1)
    conv = nn.Conv2d(4, 5, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)).double()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net, pixels, targets = net.double().eval(), images().double(), torch.tensor([3, 1])
    with torch.no_grad():
        features = net[0](pixels)
        windows = functional.unfold(features, (3, 2), (1, 2), (1, 0), (2, 1)).mT  # [B, L, 24]
        contributions = windows * conv.weight[targets].flatten(1)[:, None]
        plus, minus = contributions.clamp(min=0), contributions.clamp(max=0)
        beta = plus.sum(2, keepdim=True) / minus.sum(2, keepdim=True).abs()
        relevance = (plus + kappa * beta * minus).mT / windows.shape[1]
        expected = functional.fold(relevance, features.shape[-2:], (3, 2), (1, 2), (1, 0), (2, 1))

    method = TSGB(net, kappa=kappa, layer="0")

    for _ in range(2):  # the first call learns which layer is the classifier
        torch.testing.assert_close(method.attribute(pixels, targets)[:, 0], expected.sum(1))


@pytest.mark.parametrize(
    "above",
    [
        pytest.param(nn.Identity(), id="nothing"),
        pytest.param(nn.AvgPool2d(3, 2), id="average-pool"),
        pytest.param(nn.MaxPool2d(2), id="max-pool"),
        pytest.param(nn.ReLU(), id="relu"),
        pytest.param(nn.SiLU(), id="silu"),
        pytest.param(random_statistics(nn.BatchNorm2d(5)), id="batch-norm"),
        pytest.param(nn.Sequential(nn.ReLU6(), random_statistics(nn.BatchNorm2d(5))), id="two"),
        pytest.param(nn.Upsample(scale_factor=2, mode="bilinear"), id="upsampling"),
    ],
)
@pytest.mark.parametrize("kernel", [1, 3])
def test_what_is_above_the_classifier_has_its_plain_gradient(above, kernel):
    torch.manual_seed(2)
    body, head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Conv2d(4, 5, kernel)
    top = nn.Sequential(above, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = nn.Sequential(body, head, top).double().eval()
    pixels, targets = images().double(), torch.tensor([[3], [1]])
    scores = head(body(pixels)).detach().requires_grad_()
    (g,) = torch.autograd.grad(top(scores).gather(1, targets).sum(), scores)
    supporting = nn.functional.conv2d(body(pixels), head.weight.clamp(min=0)).detach()

    maps = TSGB(net, kappa=0.0).attribute(pixels, targets)

    torch.testing.assert_close(maps.sum((2, 3))[:, 0], (g * supporting).sum((1, 2, 3)))


def test_windows_of_zeros_give_no_nan():
    pixels = images()
    pixels[:, :, :7] = 0

    maps = TSGB(small_net()).attribute(pixels, torch.tensor([0, 1]))

    assert maps.isfinite().all()
    assert (maps[:, :, :7] == 0).all()


def test_a_black_image_gives_an_empty_map():
    maps = TSGB(small_net()).attribute(torch.zeros(1, 3, 12, 10), torch.tensor([0]))

    assert (maps == 0).all()


def test_class_rows_do_not_disturb_each_other():
    net = small_net()
    net[8].weight.data[0].abs_()  # a class without opposing evidence: beta is undefined there
    net[8].weight.data[1] = 0

    maps = TSGB(net).attribute(images(), torch.tensor([[0, 1, 2]] * 2))

    assert maps.isfinite().all()
    assert (maps[:, 1] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kappa": -0.1}, r"^TSGB: kappa is -0\.1\. .* Use a number from 0 to 1\.$"),
        ({"saturation": "clip"}, r"^TSGB: saturation is 'clip'\. Use one of conserve, plain\.$"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        TSGB(small_net(), **options)


def test_several_layers_in_one_pass_are_the_layers_one_by_one():
    net = small_net().double()
    targets = torch.tensor([[0, -1], [2, 4]])

    together = TSGB(net, kappa=0.5).attribute_layers(images().double(), targets, ["0", "3", "4"])

    assert list(together) == ["0", "3", "4"]
    for layer, maps in together.items():
        alone = TSGB(net, kappa=0.5, layer=layer).attribute(images().double(), targets)
        torch.testing.assert_close(maps, alone)


def test_an_unknown_layer_among_several_is_named():
    with pytest.raises(LayerError, match="no layer 'nowhere'"):
        TSGB(small_net()).attribute_layers(images(), torch.tensor([0, 0]), ["0", "nowhere"])


def test_slim_sharing_is_that_of_a_convolution_without_groups():
    """Without groups the two agree; with them, the slim rule mixes all channels."""
    dense, grouped = (grouped_net(groups) for groups in (1, 2))
    pixels, targets = images().double(), torch.tensor([1, 0])
    same = [
        TSGB(dense, grouped=choice).attribute(pixels, targets) for choice in ("per_group", "slim")
    ]
    torch.testing.assert_close(*same)

    maps = TSGB(grouped, kappa=0.0, grouped="slim", layer="0").attribute(pixels, targets)

    with torch.no_grad():
        x = grouped[:2](pixels)
        y = grouped[2](x)
        weight = grouped[6].weight[targets].clamp(min=0) / y[0, 0].numel()
        relevance = (y.relu() * weight[..., None, None]).sum(1, keepdim=True)
        ungrouped = nn.Conv2d(4, 1, 3, padding=1)
        expected = relevance_through_conv(ungrouped, x, relevance).sum(1)
    torch.testing.assert_close(maps[:, 0], expected)


def grouped_net(groups):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1, groups=groups), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2),
    ).double().eval()  # fmt: skip


def test_the_published_skip_divides_the_gradient_by_activation():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 1, 1, bias=False), nn.Linear(1, 1, bias=False)
            nn.init.constant_(self.conv.weight, 3.0)
            nn.init.constant_(self.head.weight, 1.0)

        def forward(self, x):
            return self.head((self.conv(x) + x).mean((2, 3)))

    pixels = torch.full((1, 1, 1, 1), 2.0)  # 6 + 2 = 8

    plain = TSGB(Residual().eval(), kappa=0.0).attribute(pixels, torch.tensor([0]))
    split = TSGB(Residual().eval(), kappa=0.0, skip="proportional")

    assert plain.item() == pytest.approx(8.0)
    # gradient 6/8 to the convolution (relevance 6 * 6/8), 2/8 to the other side (2 * 2/8)
    assert split.attribute(pixels, torch.tensor([0])).item() == pytest.approx(4.5 + 0.5)


def test_the_published_eps_changes_the_logits_of_networks_with_another_one():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=0.1), nn.AdaptiveAvgPool2d(1),
                        nn.Flatten(), nn.Linear(4, 2)).eval()  # fmt: skip
    targets = torch.tensor([0, 1])

    own = TSGB(net).attribute_with_logits(images(), targets)[1]
    quirk = TSGB(net, batchnorm_eps="published").attribute_with_logits(images(), targets)[1]

    torch.testing.assert_close(own, net(images()))
    assert not torch.allclose(own, quirk)
    net[1].eps = 1e-5
    torch.testing.assert_close(quirk, net(images()))


@pytest.mark.parametrize("option", ["saturation", "grouped", "skip", "batchnorm_eps"])
def test_an_unknown_option_names_the_choices(option):
    with pytest.raises(ValueError, match=rf"TSGB: {option} is 'odd'\. Use one of"):
        TSGB(small_net(), **{option: "odd"})
