"""Each rule against a slow double-precision formula written with explicit loops."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tsgb._rules.arithmetic import safe_ratio
from tsgb._rules.classifier import LinearRule, classifier_gradient
from tsgb._rules.convolution import ConvRule
from tsgb._rules.elementwise import GateRule, RatioRule
from tsgb._rules.pooling import AvgPoolRule
from tsgb._rules.ports import materialise, with_port
from tsgb._rules.state import Port
from tsgb._rules.window_sums import Window
from tsgb.errors import UnsupportedModelError


def gradient_of(rule, x, *args, start=None):
    """Output, arriving gradient and resulting gradient of a rule."""
    x = x.clone().requires_grad_()
    y = rule(x, *args)
    start = torch.randn_like(y) if start is None else start
    return y.detach(), start, torch.autograd.grad(y, x, start)[0]


def conv_rule(x, weight, bias, window, groups):
    """The rule of a convolution whose input has no port."""
    y, entry = ConvRule.apply(x, None, weight, bias, window, groups, groups, False, True)
    return materialise(with_port(y, Port(entry)))


def window_positions(window, size, place):
    """Input coordinates that the window at ``place`` covers."""
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            row = place[0] * window.stride[0] - window.padding[0] + i * window.dilation[0]
            column = place[1] * window.stride[1] - window.padding[1] + j * window.dilation[1]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                yield row, column


def slow_conv_rule(x, y, g, window, groups):
    """Relevance of each window and group, shared in proportion to |x|."""
    relevance = torch.zeros_like(x)
    channels_in, channels_out = x.shape[1] // groups, y.shape[1] // groups
    for n in range(len(x)):
        for group in range(groups):
            inputs = slice(group * channels_in, (group + 1) * channels_in)
            outputs = slice(group * channels_out, (group + 1) * channels_out)
            for p in range(y.shape[2]):
                for q in range(y.shape[3]):
                    cells = list(window_positions(window, x.shape[2:], (p, q)))
                    total = (y[n, outputs, p, q] * g[n, outputs, p, q]).sum()
                    size = sum(x[n, inputs, r, c].abs().sum() for r, c in cells)
                    if size == 0:
                        continue
                    for r, c in cells:
                        relevance[n, inputs, r, c] += x[n, inputs, r, c].abs() / size * total
    return relevance


CONVOLUTIONS = [
    pytest.param(Window((3, 3), (1, 1), (1, 1)), 1, id="plain"),
    pytest.param(Window((3, 3), (2, 2), (1, 1)), 1, id="stride"),
    pytest.param(Window((3, 3), (1, 1), (2, 2), (2, 2)), 1, id="dilation"),
    pytest.param(Window((3, 3), (1, 1), (1, 1)), 2, id="groups"),
    pytest.param(Window((3, 3), (2, 2), (0, 0)), 4, id="depthwise"),
    pytest.param(Window((1, 1), (1, 1), (0, 0)), 1, id="pointwise"),
    pytest.param(Window((1, 1), (2, 2), (0, 0)), 1, id="pointwise-stride"),
    pytest.param(Window((2, 3), (1, 2), (1, 0), (2, 1)), 2, id="unequal"),
]


@pytest.mark.parametrize(("window", "groups"), CONVOLUTIONS)
def test_conv_rule_against_loops(window, groups):
    torch.manual_seed(1)
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    x[0, :, :3, :3] = 0  # some windows see nothing but zeros
    weight = torch.randn(8, 4 // groups, *window.kernel, dtype=torch.float64)
    bias = torch.randn(8, dtype=torch.float64)

    y, g, gradient = gradient_of(conv_rule, x, weight, bias, window, groups)

    torch.testing.assert_close(
        y,
        functional.conv2d(x, weight, bias, window.stride, window.padding, window.dilation, groups),
    )
    torch.testing.assert_close(x * gradient, slow_conv_rule(x, y, g, window, groups))
    assert (gradient[x == 0] == 0).all()


@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 10),
)
@settings(max_examples=40, deadline=None)
def test_conv_rule_conserves_relevance(kernel, stride, padding, dilation, groups, seed):
    torch.manual_seed(seed)
    x = torch.randn(1, 4, 9, 8, dtype=torch.float64)
    padding = min(padding, dilation * (kernel - 1))  # no window on padding alone
    window = Window((kernel,) * 2, (stride,) * 2, (padding,) * 2, (dilation,) * 2)
    weight = torch.randn(4, 4 // groups, kernel, kernel, dtype=torch.float64)
    bias = torch.randn(4, dtype=torch.float64)

    y, g, gradient = gradient_of(conv_rule, x, weight, bias, window, groups)

    torch.testing.assert_close((x * gradient).sum(), (y * g).sum())


def test_conv_rule_by_hand():
    x = torch.tensor([[[[1.0, -3.0]]]])  # one channel, two pixels
    weight = torch.tensor([[[[2.0, 1.0]]]])
    bias = torch.tensor([5.0])  # y = 2 - 3 + 5 = 4

    y, _, gradient = gradient_of(
        conv_rule, x, weight, bias, Window((1, 2), (1, 1), (0, 0)), 1, start=torch.ones(1, 1, 1, 1)
    )

    assert y.item() == 4
    assert gradient.flatten().tolist() == [1, -1]  # 4 shared as 1 : 3, divided by x


def test_batch_norm_passes_relevance_including_its_shift():
    torch.manual_seed(2)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    mean, shift = torch.randn(2, 3, dtype=torch.float64)
    variance, scale = torch.rand(2, 3, dtype=torch.float64) + 0.5
    function = partial(functional.batch_norm, running_mean=mean, running_var=variance, weight=scale)

    y, g, gradient = gradient_of(RatioRule.apply, x, partial(function, bias=shift))

    torch.testing.assert_close(x * gradient, y * g)


def test_ratio_rule_gives_zero_where_the_input_is_zero():
    x = torch.tensor([0.0, -0.0, 1e-30, 2.0])

    _, _, gradient = gradient_of(RatioRule.apply, x, lambda v: v + 1, start=torch.ones(4))

    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient[[0, 1, 3]], torch.tensor([0.0, 0.0, 1.5]))


@given(
    st.floats(-1e6, 1e6, width=32),
    st.floats(-1e6, 1e6, width=32),
    st.floats(-1e6, 1e6, width=32),
)
def test_safe_ratio_never_overflows_when_multiplied(numerator, denominator, gradient):
    ratio = safe_ratio(torch.tensor(numerator), torch.tensor(denominator))

    assert (ratio * gradient).isfinite()
    if abs(denominator) > 1e-20:
        torch.testing.assert_close(ratio * denominator, torch.tensor(numerator))
    if denominator == 0:
        assert ratio == 0


def slow_avg_pool_rule(x, y, g, window):
    relevance = torch.zeros_like(x)
    for n in range(x.shape[0]):
        for k in range(x.shape[1]):
            for p in range(y.shape[2]):
                for q in range(y.shape[3]):
                    cells = [
                        (r, c)
                        for r, c in window_positions(window, x.shape[2:], (p, q))
                        if x[n, k, r, c] != 0
                    ]
                    for r, c in cells:
                        relevance[n, k, r, c] += y[n, k, p, q] * g[n, k, p, q] / len(cells)
    return relevance


@pytest.mark.parametrize(
    ("window", "options"),
    [
        pytest.param(Window((2, 2), (2, 2), (0, 0)), {}, id="plain"),
        pytest.param(Window((3, 3), (1, 1), (1, 1)), {}, id="overlapping"),
        pytest.param(
            Window((3, 2), (2, 2), (1, 0)),
            {"ceil_mode": True, "count_include_pad": False},
            id="ceil-mode",
        ),
        pytest.param(Window((2, 2), (2, 2), (0, 0)), {"divisor_override": 3}, id="divisor"),
    ],
)
def test_avg_pool_rule_against_loops(window, options):
    torch.manual_seed(3)
    x = torch.randn(2, 2, 7, 5, dtype=torch.float64)
    x[0, :, :4, :3] = 0
    x[1, 0, ::2] = 0

    y, g, gradient = gradient_of(AvgPoolRule.apply, x, window, options)

    torch.testing.assert_close(x * gradient, slow_avg_pool_rule(x, y, g, window))
    torch.testing.assert_close((x * gradient).sum(), (y * g).sum())


def slow_classifier(x, weight, target, kappa):
    """TSGB-FC for one sample, as contributions, and what they sum to."""
    contributions = x * weight[target]
    supporting = sum(value for value in contributions.tolist() if value > 0)
    opposing = sum(value for value in contributions.tolist() if value < 0)
    beta = supporting / abs(opposing) if opposing else 0.0
    factors = [1.0 if v >= 0 else kappa * beta for v in contributions.tolist()]
    kept = (1 - kappa) * supporting if opposing else supporting
    return contributions * torch.tensor(factors, dtype=x.dtype), kept


@pytest.mark.parametrize("signed", [False, True], ids=["relu-features", "signed-features"])
@pytest.mark.parametrize("kappa", [0.0, 0.75, 1.0])
def test_classifier_gradient_against_loops(kappa, signed):
    torch.manual_seed(4)
    x = torch.randn(3, 6, dtype=torch.float64)
    x = x if signed else x.relu()
    weight = torch.randn(4, 6, dtype=torch.float64)

    for target in range(4):
        start = functional.one_hot(torch.full((3,), target), 4).double()
        relevance = x * classifier_gradient(x, weight, start, kappa)
        for sample in range(3):
            expected, kept = slow_classifier(x[sample], weight, target, kappa)
            torch.testing.assert_close(relevance[sample], expected)
            assert relevance[sample].sum().item() == pytest.approx(kept, abs=1e-12)


def test_classifier_gradient_is_the_published_formula_for_non_negative_features():
    x = torch.tensor([[1.0, 2.0, 0.0]])
    weight = torch.tensor([[3.0, -1.0, -4.0], [1.0, 1.0, 1.0]])

    gradient = classifier_gradient(x, weight, torch.tensor([[1.0, 0.0]]), kappa=0.5)

    # P = 3, Q = -2, beta = 1.5; W+ + 0.5 * 1.5 * W-
    assert gradient.tolist() == [[3.0, -0.75, -3.0]]


def test_classifier_without_opposing_evidence_has_no_nan():
    x, weight = torch.rand(2, 3), torch.rand(4, 3)

    gradient = classifier_gradient(x, weight, torch.eye(4)[:2], kappa=1.0)

    torch.testing.assert_close(gradient, weight[:2])


def test_linear_below_the_classifier_has_its_plain_gradient():
    torch.manual_seed(5)
    x, weight = torch.randn(2, 3), torch.randn(4, 3)

    _, g, gradient = gradient_of(LinearRule.apply, x, weight, torch.randn(4))

    torch.testing.assert_close(gradient, g @ weight)


def test_a_gate_refuses_relevance():
    x = torch.zeros(2, requires_grad=True)
    gate = GateRule.apply(x, torch.sigmoid, "sigmoid")
    with pytest.raises(UnsupportedModelError, match=r"^sigmoid: .* return the logits instead"):
        torch.autograd.grad(gate.sum(), x)
