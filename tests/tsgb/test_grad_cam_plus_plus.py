import pytest
import torch
from cam_checks import explained, flat_net, not_in_place
from model_checks import images, small_net

from tsgb.methods.grad_cam_plus_plus import GradCAMPlusPlus


@pytest.mark.parametrize(
    ("activation", "gradient", "expected"),
    [
        # weights 4 / (2 + 4 * 4) + 0.5 / (2 + 4 * 0.5) = 25 / 72 and 1 / (2 + 4) = 1 / 6
        pytest.param(
            [[[1, 2], [0, 1]], [[0, 1], [3, 0]]],
            [[[4, -1], [0.5, 0]], [[-2, 1], [0, 0]]],
            [[25 / 72, 50 / 72 + 1 / 6], [3 / 6, 25 / 72]],
            id="two-channels",
        ),
        pytest.param([[[1, 2], [0, 1]]], [[[-1, -2], [0, -3]]], [[0, 0], [0, 0]], id="all-against"),
        pytest.param([[[0, 0], [0, 0]]], [[[1, 2], [3, 4]]], [[0, 0], [0, 0]], id="no-activation"),
        pytest.param([[[1, 2], [0, 1]]], [[[0, 0], [0, 0]]], [[0, 0], [0, 0]], id="no-gradient"),
        # the channel sums to -2: the gradient 1 meets a denominator of 0, 2 gives 2 / (2 - 4)
        pytest.param(
            [[[-3, 1], [0, 0]]], [[[1, 2], [0, 0]]], [[3, -1], [0, 0]], id="denominator-is-zero"
        ),
    ],
)
def test_by_hand(activation, gradient, expected):
    values = torch.tensor(activation).float(), torch.tensor(gradient).float()

    result = explained(GradCAMPlusPlus, *values)

    torch.testing.assert_close(result, torch.tensor(expected).float())


def derivative(function, values):
    return torch.autograd.grad(function.sum(), values, create_graph=True)[0]


def paper_map(above, activation):
    """Equations 5, 10, 12 and 20 in words: all derivatives of exp(logit) by autograd."""
    weights = torch.zeros(len(activation), dtype=activation.dtype)
    for place in torch.cartesian_prod(*map(torch.arange, activation.shape)).tolist():
        value = activation[tuple(place)].clone().requires_grad_()
        moved = activation.index_put(tuple(map(torch.tensor, place)), value)
        first = derivative(above(moved[None]).exp(), value)
        second = derivative(first, value)
        third = derivative(second, value)
        alpha = second / (2 * second + activation[place[0]].sum() * third)
        weights[place[0]] += (alpha * first.clamp(min=0)).detach().nan_to_num()
    return (weights[:, None, None] * activation).sum(0)


def test_against_the_second_and_third_derivatives_of_the_exponential():
    net, pixels = not_in_place(flat_net(6 * 4 * 3)).double(), images(1, 6, 5).double()
    activation = net[:2](pixels)[0].detach()

    (maps, logits) = GradCAMPlusPlus(net).attribute_with_logits(pixels, torch.tensor([[0, 3]]))

    for k, target in enumerate((0, 3)):
        expected = paper_map(lambda x, t=target: net[2:](x)[0, t], activation)
        torch.testing.assert_close(maps[0, k] * logits[0, target].exp(), expected)
        assert (expected > 0).any()


def test_below_global_average_pooling_the_weights_are_those_of_the_classifier():
    net, target = small_net(), 3
    activation = net[:6](images()).detach()
    positive = net[8].weight[target].detach().clamp(min=0)
    weights = positive / (2 + positive * activation.mean((2, 3)))

    maps = GradCAMPlusPlus(net).attribute(images(), torch.tensor([target, target]))

    expected = torch.einsum("bc,bchw->bhw", weights, activation)
    torch.testing.assert_close(maps[:, 0], expected)


def test_behind_a_relu_no_value_is_negative():
    maps = GradCAMPlusPlus(flat_net()).attribute(images(2), torch.tensor([[0, 3], [-1, 4]]))

    assert (maps >= 0).all()
    assert (maps > 0).any()


def test_gradients_whose_cubes_round_to_zero():
    activation = torch.tensor([[[1.0, 2.0], [0.0, 1.0]]])

    result = explained(GradCAMPlusPlus, activation, torch.full((1, 2, 2), 1e-20))

    torch.testing.assert_close(result, 2e-20 * activation[0], rtol=1e-5, atol=0)
