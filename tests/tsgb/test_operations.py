import pytest
import torch
from model_checks import Middle, images
from torch import nn
from torch.nn import functional

from tsgb import TSGB, UnsupportedModelError
from tsgb._rules.tsgb_rules import tsgb_rules

TARGETS = torch.tensor([1, 3])


def tsgb_map(middle, **options):
    return TSGB(Middle(middle), kappa=0.3, **options).attribute(images(), TARGETS)


def carried(middle):
    """Total relevance at the image over that at the classifier, per image."""
    model = Middle(middle)
    method = TSGB(model, kappa=0.0)
    total = method.attribute(images(), TARGETS).sum((2, 3))[:, 0]
    with torch.no_grad():
        features = model.middle(model, model.first(images())).mean((2, 3))
    return total / (features * model.head.weight[TARGETS]).clamp(min=0).sum(1)


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(torch.relu, id="torch"),
        pytest.param(torch.Tensor.relu, id="method"),
        pytest.param(torch.Tensor.relu_, id="in-place-method"),
        pytest.param(torch.relu_, id="in-place-function"),
        pytest.param(lambda x: functional.relu(x, inplace=True), id="in-place-flag"),
        pytest.param(lambda x: functional.relu(x, True), id="in-place-positional"),
        pytest.param(lambda x: functional.relu(input=x), id="keyword"),
        pytest.param(nn.ReLU(inplace=True), id="module"),
        pytest.param(lambda x: x.clamp(min=0), id="clamp"),
        pytest.param(lambda x: x.clamp_(0), id="clamp-in-place"),
        pytest.param(lambda x: x.clip(0, None), id="clip"),
        pytest.param(lambda x: x.clamp_min(0), id="clamp-min"),
        pytest.param(lambda x: torch.maximum(x, torch.zeros(())), id="maximum"),
        pytest.param(lambda x: functional.threshold(x, 0.0, 0.0), id="threshold"),
        pytest.param(lambda x: functional.leaky_relu(x, 0.0), id="leaky"),
        pytest.param(lambda x: functional.prelu(x, torch.zeros(1)), id="prelu"),
    ],
)
def test_every_spelling_of_relu_gives_the_same_map(spelling):
    expected = tsgb_map(lambda net, x: net.second(functional.relu(x)))

    torch.testing.assert_close(tsgb_map(lambda net, x: net.second(spelling(x))), expected)


@pytest.mark.parametrize(
    ("spelling", "function"),
    [
        pytest.param(lambda x: x * torch.sigmoid(x), functional.silu, id="silu"),
        pytest.param(lambda x: x.mul_(x.sigmoid()), functional.silu, id="silu-in-place"),
        pytest.param(lambda x: x.clamp(0, 6), functional.relu6, id="relu6-clamp"),
        pytest.param(
            lambda x: functional.hardtanh(x, 0.0, 6.0), functional.relu6, id="relu6-hardtanh"
        ),
        pytest.param(lambda x: x.clamp_min(0).clamp_max(6), functional.relu6, id="relu6-twice"),
        pytest.param(lambda x: functional.hardtanh(x), lambda x: x.clamp(-1, 1), id="hardtanh"),
        pytest.param(lambda x: x + x.relu(), lambda x: torch.add(x, other=x.relu()), id="add"),
        pytest.param(lambda x: x - 0.5 * x.relu(), lambda x: x.sub_(x.relu() / 2), id="sub"),
        pytest.param(lambda x: 1 - x, lambda x: -(x - 1), id="rsub"),
        pytest.param(lambda x: torch.zeros(()) + x * 3, lambda x: 3 * x + 0, id="constants"),
        pytest.param(
            lambda x: torch.cat([x[:, :4], x[:, 4:]], 1), lambda x: torch.cat(x.chunk(2, 1), 1)
        ),
        pytest.param(
            lambda x: functional.pixel_unshuffle(functional.pixel_shuffle(x, 2), 2),
            nn.Identity(),
            id="shuffle",
        ),
        pytest.param(
            lambda x: functional.pad(x, (1, 1, 1, 1))[..., 1:-1, 1:-1], nn.Identity(), id="pad"
        ),
        pytest.param(lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), nn.Identity(), id="axes"),
    ],
)
def test_two_spellings_give_the_same_map(spelling, function):
    torch.testing.assert_close(
        tsgb_map(lambda net, x: net.second(spelling(x * 4))),
        tsgb_map(lambda net, x: net.second(function(x * 4))),
    )


@pytest.mark.parametrize(
    "function",
    [
        functional.relu6,
        functional.elu,
        functional.celu,
        functional.selu,
        functional.silu,
        functional.gelu,
        functional.mish,
        functional.hardswish,
        torch.tanh,
        functional.leaky_relu,
        lambda x: functional.prelu(x, torch.full((8,), 0.2)),
        lambda x: x.clamp(-0.5, 0.5),
        lambda x: functional.gelu(x, approximate="tanh"),
        lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: functional.group_norm(x, 2, torch.linspace(0.5, 1.2, 8), torch.ones(8)),
        lambda x: functional.max_pool2d(x, 2),
        lambda x: functional.adaptive_avg_pool2d(x, (3, 4)),
        lambda x: functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        lambda x: functional.avg_pool2d(x, x.shape[-2:]),
        lambda x: functional.dropout(x, 0.5, False, True),
        lambda x: x + 0.7,
        lambda x: x + torch.linspace(-1, 1, 8)[:, None, None],
        lambda x: 2.5 - x,
        lambda x: x + x.relu(),
        lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
        lambda x: x * (x.sigmoid() * x.mean((2, 3), keepdim=True).sigmoid()),
        lambda x: x * (x.sigmoid() * 0.5 + 0.1).flatten(2).view_as(x),
        lambda x: functional.hardsigmoid(x.mean((2, 3)))[..., None, None].expand_as(x) * x,
        lambda x: x / 3.0,
    ],
)
def test_relevance_is_conserved_by_every_operation(function):
    share = carried(lambda net, x: net.second(function(net.norm(x * 3)).relu()))

    torch.testing.assert_close(share, torch.ones(2), rtol=1e-4, atol=0)


def test_relu6_in_saturation():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1)
    ).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([2.0, 20.0]).view(2, 1, 1, 1))
        net[0].bias.zero_()
        net[4].weight.copy_(torch.tensor([[1.0, 1.0]]))
    pixel, target = torch.ones(1, 1, 1, 1), torch.tensor([0])  # activations 2 and 6 (clipped)

    conserving = TSGB(net, kappa=0.0).attribute(pixel, target)
    published = TSGB(net, kappa=0.0, saturation="plain").attribute(pixel, target)

    assert conserving.item() == pytest.approx(8)
    assert published.item() == pytest.approx(2)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("relu6", ()),
        ("clamp", (0, 6)),
        ("clamp", (-1, 1)),
        ("hardtanh", (-1, 2)),
        ("clamp_max", (3,)),
    ],
)
def test_plain_saturation_has_the_plain_gradient(name, arguments):
    x = torch.linspace(-8, 8, 33, requires_grad=True)
    function = getattr(functional, name, None) or getattr(torch, name)
    clipped = tsgb_rules(saturation="plain").rules[name](x, *arguments)

    expected = torch.autograd.grad(function(x, *arguments).sum(), x)
    assert torch.equal(torch.autograd.grad(clipped.sum(), x)[0], expected[0])
    assert (expected[0] == 0).any()


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        pytest.param(
            lambda net, x: x.softmax(1),
            r"^TSGB: there is no backward rule for the operation 'softmax' \(output of shape "
            r"\(2, 8, 12, 10\)\)\. Its plain gradient would be used silently and the map would be "
            r"wrong\. Use a convolutional network without it, or a method without rules such as "
            r"GradCAM\.$",
            id="softmax",
        ),
        pytest.param(lambda net, x: x.exp(), r"operation 'exp'", id="exp"),
        pytest.param(lambda net, x: x.abs_(), r"operation 'abs'", id="abs-in-place"),
        pytest.param(lambda net, x: x**2, r"operation '(pow|__pow__)'", id="pow"),
        pytest.param(lambda net, x: 1 / x, r"operation '__r(true)?div__'", id="inverse"),
        pytest.param(
            lambda net, x: functional.layer_norm(x, x.shape[1:]), r"'layer_norm'", id="layer-norm"
        ),
        pytest.param(lambda net, x: functional.instance_norm(x), r"'instance_norm'", id="instance"),
        pytest.param(lambda net, x: functional.softplus(x), r"'softplus'", id="softplus"),
        pytest.param(lambda net, x: functional.glu(x, 1), r"'glu'", id="glu"),
        pytest.param(
            lambda net, x: (x.flatten(2) @ x.flatten(2).mT)[..., None], r"'(matmul|__matmul__)'"
        ),
        pytest.param(
            lambda net, x: functional.conv_transpose2d(x, net.second.weight), r"'conv_transpose2d'"
        ),
        pytest.param(
            lambda net, x: functional.conv1d(x.flatten(2), torch.ones(8, 8, 1))[..., None],
            r"'conv1d'",
        ),
        pytest.param(lambda net, x: torch.ops.aten.relu(x), r"'aten\.relu'", id="aten"),
        pytest.param(lambda net, x: torch.relu(x).sigmoid(), r"^\w+: sigmoid: .* as a factor"),
        pytest.param(
            lambda net, x: torch.cat([x[:, :4].sigmoid(), x[:, 4:]], 1),
            r"^\w+: sigmoid: its output",
        ),
        pytest.param(lambda net, x: x * x.relu(), r"^\w+: mul: its factor is computed"),
        pytest.param(lambda net, x: x * net.second(x.sigmoid()), r"^\w+: mul: its factor is comp"),
        pytest.param(lambda net, x: x * (x.sigmoid() + x.tanh()), r"^\w+: mul: its factor is comp"),
        pytest.param(lambda net, x: x / (x.relu() + 1), r"^\w+: div: its divisor is computed from"),
        pytest.param(
            lambda net, x: functional.conv2d(x, x[:1, :, :3, :3].transpose(0, 1), groups=8),
            r"^\w+: conv2d: its weight is computed from the image",
        ),
        pytest.param(
            lambda net, x: torch.stack([net.second(image) for image in x]),
            r"^\w+: conv2d: its input has shape \(8, 12, 10\), expected \[B, C, H, W\]",
        ),
        pytest.param(lambda net, x: torch.div(x, 2, rounding_mode="floor"), r"rounding_mode"),
        pytest.param(lambda net, x: x.clamp(min=1), r"^\w+: clamp: the bounds min=1, max=None"),
        pytest.param(lambda net, x: x.clamp(torch.zeros(())), r"do not enclose 0 as numbers"),
        pytest.param(
            lambda net, x: functional.threshold(x, 0, 1), r"threshold=0, value=1 does not map 0"
        ),
        pytest.param(lambda net, x: torch.maximum(x, x * 2), r"^\w+: maximum: .* zero only"),
        pytest.param(
            lambda net, x: functional.dropout(x),
            r"^\w+: dropout: it is active \(p = 0\.5\), so the map would change from call to "
            r"call\. Call model\.eval\(\) first; in F\.dropout pass training=self\.training\.$",
            id="dropout",
        ),
        pytest.param(
            lambda net, x: functional.batch_norm(x, None, None, training=True),
            r"^\w+: batch_norm: it normalises with the statistics of the batch",
        ),
    ],
)
def test_what_has_no_rule_is_refused(middle, message):
    with pytest.raises(UnsupportedModelError, match=message):
        tsgb_map(middle)


def test_string_padding_equals_numbers():
    same = tsgb_map(lambda net, x: functional.conv2d(x, net.second.weight, padding="same"))
    valid = tsgb_map(lambda net, x: functional.conv2d(x, net.second.weight, padding="valid"))

    torch.testing.assert_close(
        same, tsgb_map(lambda net, x: functional.conv2d(x, net.second.weight, padding=1))
    )
    torch.testing.assert_close(
        valid, tsgb_map(lambda net, x: functional.conv2d(x, net.second.weight))
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("kernel", [(2, 2), (4, 3)])
def test_uneven_same_padding_keeps_the_forward_pass(kernel):
    model = Middle(lambda net, x: functional.conv2d(x, torch.ones(8, 8, *kernel), padding="same"))

    _, logits = TSGB(model).attribute_with_logits(images(), TARGETS)

    torch.testing.assert_close(logits, model(images()).detach())


def test_frozen_batch_norm_equals_batch_norm():
    def frozen(net, x):
        norm = net.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        return x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)

    torch.testing.assert_close(
        tsgb_map(lambda net, x: net.second(frozen(net, x).relu())),
        tsgb_map(lambda net, x: net.second(net.norm(x).relu())),
    )
