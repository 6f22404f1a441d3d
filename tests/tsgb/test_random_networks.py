"""Networks drawn at random: what must hold for all of them, not for the ones we thought of."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_checks import close_all_ports, unchanged
from torch import nn

import tsgb
from tsgb import TSGB, TSGBError
from tsgb.index import methods

OPTIONS = {tsgb.IntegratedGradients: {"steps": 2}, tsgb.SmoothGrad: {"samples": 2}}
CLASSES = 4

ACTIVATIONS = [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.1), nn.Hardtanh(-1, 1),
               nn.SiLU(), nn.Identity()]  # fmt: skip
PADDINGS = ["zeros", "reflect", "replicate", "circular"]


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Concatenation(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return torch.cat([self.inner(x), x], 1)


@st.composite
def convolutions(draw, channels, keep=False):
    """A convolution, perhaps with batch norm and activation; ``keep``: of the same size."""
    groups = draw(st.sampled_from([g for g in (1, 2, 4) if channels % g == 0]))
    out = channels if keep else groups * draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    same = keep or draw(st.booleans())
    odd = tuple(2 * (size // 2) + 1 for size in kernel)
    dilation = draw(st.integers(1, 2))
    options = {"groups": groups, "dilation": dilation, "bias": draw(st.booleans())}
    if same:
        mode = draw(st.sampled_from(PADDINGS))
        options |= {"kernel_size": odd, "padding": "same", "padding_mode": mode}
    else:
        # No more than leaves the middle of every window on the map: none is all padding.
        padding = tuple(draw(st.integers(0, (size - 1) // 2 * dilation)) for size in kernel)
        options |= {"kernel_size": kernel, "padding": padding, "stride": draw(st.integers(1, 2))}
    layers = [nn.Conv2d(channels, out, **options)]
    if draw(st.booleans()):
        layers.append(nn.BatchNorm2d(out))
    layers.append(draw(st.sampled_from(ACTIVATIONS)))
    return nn.Sequential(*layers), out


@st.composite
def pools(draw):
    kernel = draw(st.integers(2, 3))
    options = {"stride": draw(st.integers(1, 3)), "ceil_mode": draw(st.booleans()),
               "padding": draw(st.integers(0, kernel // 2))}  # fmt: skip
    kinds = [
        nn.MaxPool2d(kernel, **options),
        nn.AvgPool2d(kernel, **options, count_include_pad=draw(st.booleans())),
        nn.AdaptiveAvgPool2d((draw(st.integers(2, 4)), draw(st.integers(2, 4)))),
        nn.AdaptiveMaxPool2d(draw(st.integers(2, 4))),
    ]
    return draw(st.sampled_from(kinds))


@st.composite
def blocks(draw, channels):
    kind = draw(st.sampled_from(["convolution", "pool", "residual", "concatenation"]))
    if kind == "pool":
        return draw(pools()), channels
    if kind == "convolution":
        return draw(convolutions(channels))
    inner, out = draw(convolutions(channels, keep=True))
    if kind == "residual":
        return Residual(inner), channels
    return Concatenation(inner), channels + out


@st.composite
def networks(draw):
    """A classifier: blocks, then global mean and Linear, or a convolution at every pixel."""
    torch.manual_seed(draw(st.integers(0, 10_000)))
    first, channels = draw(convolutions(3))
    layers = [first]
    for _ in range(draw(st.integers(0, 3))):
        block, channels = draw(blocks(channels))
        layers.append(block)
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    kernel = draw(st.sampled_from([None, 1, 3]))
    if kernel is None:
        layers += [*pooled, nn.Linear(channels, CLASSES)]
    else:
        layers += [nn.Conv2d(channels, CLASSES, kernel, padding=kernel // 2), *pooled]
    return nn.Sequential(*layers).eval()


def without_loss(net):
    """Positive activations everywhere, so that no window is empty and no bias answers to zeros."""
    weighted = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    for module in weighted[:-1]:
        nn.init.uniform_(module.weight, 0.1, 1.0)
        if module.bias is not None:
            nn.init.uniform_(module.bias, 0.0, 0.3)
    for module in weighted:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.0)
    return net.double()


def draw_images(data, height=13, width=10):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000), label="images"))
    return torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64) + 0.1


def evidence_for(net, pixels, targets):
    """Supporting evidence at the input of the classifier, [B, K]."""
    head = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)][-1]
    seen = []
    handle = head.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    with torch.no_grad():
        net(pixels)
    handle.remove()
    (x,) = seen
    plus, minus = ((x.clamp(**s), head.weight.clamp(**s)) for s in ({"min": 0}, {"max": 0}))
    if isinstance(head, nn.Linear):
        scores = plus[0] @ plus[1].T + minus[0] @ minus[1].T
    else:
        scores = sum(
            nn.functional.conv2d(x, w, padding=head.padding).mean((2, 3)) for x, w in (plus, minus)
        )
    return scores.detach().gather(1, targets)


def possible(net, pixels):
    """Whether the drawn layers fit the image."""
    try:
        with torch.no_grad():
            return bool(net(pixels).isfinite().all())
    except (RuntimeError, ValueError):
        return False


common = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much]
)


@given(net=networks(), data=st.data())
@settings(common, max_examples=100)
def test_tsgb_conserves_relevance(net, data):
    """In sum, at the image and behind every layer; all classes at once as one by one."""
    net, pixels = without_loss(net), draw_images(data)
    if not possible(net, pixels):
        return
    targets = torch.tensor([[0, 2, 3], [1, 0, 2]])
    body = [f"{i}" for i, layer in enumerate(net) if not isinstance(layer, nn.Flatten)]
    head = next(i for i in reversed(range(len(net))) if isinstance(net[i], nn.Conv2d | nn.Linear))
    layers = [name for name in body if int(name) < head]
    method = TSGB(net, kappa=0.0)

    with unchanged(net):
        maps = method.attribute(pixels, targets)
        readings = method.attribute_layers(pixels, targets, layers)

    expected = evidence_for(net, pixels, targets)
    torch.testing.assert_close(maps.sum((2, 3)), expected)
    for layer, reading in readings.items():
        torch.testing.assert_close(reading.sum((2, 3)), expected, msg=f"layer {layer} of {net}")
    for k in range(3):
        torch.testing.assert_close(method.attribute(pixels, targets[:, k])[:, 0], maps[:, k])


@given(net=networks(), data=st.data())
@settings(common, max_examples=60)
def test_tsgb_never_makes_relevance_of_nothing(net, data):
    """Whatever the weights: finite, image by image, and the same with and without a layer."""
    net, pixels = net.double(), draw_images(data) - 0.6
    if not possible(net, pixels):
        return
    targets = torch.tensor([[0, -1], [3, 1]])
    method = TSGB(net, kappa=0.7)

    with unchanged(net):
        maps = method.attribute(pixels, targets)

    assert maps.isfinite().all()
    assert (maps[0, 1] == 0).all()
    for i in range(2):
        alone = method.attribute(pixels[i : i + 1], targets[i : i + 1])
        torch.testing.assert_close(alone[0], maps[i])


@given(net=networks(), data=st.data())
@settings(common, max_examples=100)
def test_tsgb_is_the_same_without_short_cuts(net, data):
    net, pixels = net.double(), draw_images(data) - 0.6
    if not possible(net, pixels):
        return
    targets = torch.tensor([[0, -1], [3, 1]])
    method = TSGB(net, kappa=0.7)

    short = method.attribute(pixels, targets)
    with pytest.MonkeyPatch.context() as patch:
        close_all_ports(patch)
        long = method.attribute(pixels, targets)

    torch.testing.assert_close(short, long, rtol=1e-5, atol=1e-7 * long.abs().max().item())


@pytest.mark.parametrize("method", methods().values())
@given(net=networks(), data=st.data())
@settings(common, max_examples=10)
def test_every_method_is_right_or_refuses(method, net, data):
    net, pixels = net.double(), draw_images(data) - 0.6
    if not possible(net, pixels):
        return
    explained = method(net, **OPTIONS.get(method, {}))

    with unchanged(net):
        try:
            maps, logits = explained.attribute_with_logits(pixels, torch.tensor([[1], [-1]]))
        except TSGBError as error:
            assert str(error).startswith((f"{method.__name__}: ", "GradCAM: ", "CAM: "))  # noqa: PT017
            return

    assert maps.isfinite().all()
    assert (maps[1] == 0).all()
    torch.testing.assert_close(logits, net(pixels).detach())
