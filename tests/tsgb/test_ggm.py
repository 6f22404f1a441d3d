from itertools import product

import pytest
import torch
from cam_checks import explained, flat_net, not_in_place
from model_checks import images, small_net

from tsgb import GradCAM
from tsgb.methods.ggm import GGM

TARGETS = torch.tensor([[0, 3], [-1, 4], [2, 2]])
VARIANTS = [
    {"guidance": guidance, "normalisation": normalisation, "base_relu": base_relu}
    for guidance, normalisation, base_relu in product(
        ("relu", "raw", "min_max", "channel"), ("max", "none"), ("before", "after")
    )
]


def positive_net():
    """Gradients at every position, on average positive."""
    return flat_net(shift=0.01)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[0.75, 0], [0, 0]]),
        ({"normalisation": "none"}, [[3, 0], [0, 0]]),
        ({"guidance": "raw"}, [[0.75, 0], [0, -0.09375]]),
        ({"guidance": "raw", "normalisation": "none"}, [[3, 0], [0, -0.375]]),
        ({"guidance": "raw", "base_relu": "after"}, [[0.75, 0.125], [0, 0]]),
        ({"guidance": "min_max"}, [[0.75, 0], [0, 0.075]]),
        # by channel: 4 - 2 - 0.5 = 1.5 and 1 + 3 = 4
        ({"guidance": "channel", "normalisation": "none"}, [[1.5, 11], [12, 1.5]]),
        ({"guidance": "channel"}, [[0.375, 2.75], [3, 0.375]]),
    ],
)
def test_by_hand(options, expected):
    # Grad-CAM [[0.75, -0.5], [-3, 0.75]], guidance [[4, -1], [3, -0.5]]
    activation = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[0.0, 2.0], [3.0, 0.0]]])
    gradient = torch.tensor([[[4.0, -1.0], [0.5, -0.5]], [[-2.0, 0.5], [1.0, -3.5]]])

    result = explained(GGM, activation, gradient, **options)

    torch.testing.assert_close(result, torch.tensor(expected).float())


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(options.values()))
@pytest.mark.parametrize(
    ("activation", "gradient"),
    [
        pytest.param([[0, 0], [0, 0]], [[1, 2], [-3, 4]], id="no-activation"),
        pytest.param([[1, 2], [0, 1]], [[0, 0], [0, 0]], id="no-gradient"),
    ],
)
def test_an_empty_map_is_zero_not_nan(options, activation, gradient):
    values = torch.tensor([activation]).float(), torch.tensor([gradient]).float()

    assert (explained(GGM, *values, **options) == 0).all()


@pytest.mark.parametrize(("guidance", "expected"), [("raw", [[3, 6], [6, 3]]), ("min_max", 0)])
def test_constant_guidance(guidance, expected):
    activation = torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])

    result = explained(GGM, activation, 4 / activation, guidance=guidance)

    torch.testing.assert_close(result, torch.tensor(expected).float().expand(2, 2))


def test_against_captum():
    captum = pytest.importorskip("captum.attr")
    net, targets = not_in_place(positive_net()), torch.tensor([1, 4])
    grad_cam = captum.LayerGradCam(net, net[1]).attribute(images(), target=targets)
    products = captum.LayerGradientXActivation(net, net[1]).attribute(images(), target=targets)
    guidance = products.sum(1, keepdim=True).relu()

    maps = GGM(positive_net()).attribute(images(), targets)

    expected = grad_cam.relu() * guidance / guidance.amax((2, 3), keepdim=True)
    torch.testing.assert_close(maps, expected.detach())
    assert (maps > 0).any()


def test_below_global_average_pooling_it_is_the_square_of_grad_cam():
    net, targets = small_net(), torch.tensor([[0, 2], [4, 1]])

    maps = GGM(net, normalisation="none").attribute(images(), targets)

    positive = GradCAM(net).attribute(images(), targets).clamp(min=0)
    assert (positive > 0).any()
    torch.testing.assert_close(maps, positive.square())


def test_below_global_average_pooling_guidance_by_channel_is_something_else():
    net, targets = small_net(), torch.tensor([0, 2])
    activation = net[:6](images()).detach()
    weights = net[8].weight.detach()[targets] * activation.sum((2, 3))

    maps = GGM(net, guidance="channel").attribute(images(), targets)[:, 0]

    expected = torch.einsum("bc,bchw->bhw", weights, activation).clamp(min=0)
    scale = weights.abs().amax(1)[:, None, None]
    torch.testing.assert_close(maps, expected / scale)
    assert (expected > 0).any()


def test_elsewhere_it_is_not_a_function_of_grad_cam():
    net, targets = positive_net(), torch.tensor([0, 2])

    maps, grad_cam = (method(net).attribute(images(), targets) for method in (GGM, GradCAM))

    assert ((maps == 0) & (grad_cam > 0)).any()
    assert ((maps > 0) & (grad_cam > 0)).any()


def test_dividing_by_the_maximum_changes_only_the_scale():
    net, targets = positive_net(), torch.tensor([[0, 2], [4, 1]])

    scaled = GGM(net).attribute(images(), targets)
    raw = GGM(net, normalisation="none").attribute(images(), targets)

    highest = [maps.amax((2, 3), keepdim=True) for maps in (scaled, raw)]
    torch.testing.assert_close(scaled / highest[0], raw / highest[1])
    assert not torch.allclose(scaled, raw)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"guidance": "clamp"},
            r"^GGM: guidance is 'clamp'\. Use one of relu, raw, min_max, channel\.$",
        ),
        ({"normalisation": "sum"}, r"^GGM: normalisation is 'sum'\. Use one of max, none\.$"),
        ({"base_relu": True}, r"^GGM: base_relu is True\. Use one of before, after\.$"),
    ],
)
def test_unknown_options(options, message):
    with pytest.raises(ValueError, match=message):
        GGM(small_net(), **options)


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(options.values()))
def test_classes_and_images_do_not_touch_each_other(options):
    method, pixels = GGM(positive_net(), **options), images(3)
    together = method.attribute(pixels, TARGETS)

    apart = [
        [method.attribute(pixels[[b]], TARGETS[[b], k])[0, 0] for k in range(2)] for b in range(3)
    ]

    assert together.shape == (3, 2, 10, 8)
    torch.testing.assert_close(together, torch.stack([torch.stack(maps) for maps in apart]))
    assert (together[1, 0] == 0).all()
    assert (together[1, 1] != 0).any()
