"""Charts as plain numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.charts import histogram, loss_curve, ticks


def test_a_loss_curve_starts_at_the_left_and_ends_at_the_right():
    curve = loss_curve("x", [(0, 2.0), (10, 1.0), (20, float("nan")), (30, 0.5)])

    assert curve is not None
    assert curve.path == f"M0.0,0.0 L{curve.width / 3:.1f},100.0 L{curve.width}.0,150.0"
    assert (curve.last, curve.steps) == (0.5, 31)
    assert [(tick.text, tick.place) for tick in curve.up] == [
        ("0", 200.0), ("0.5", 150.0), ("1", 100.0), ("1.5", 50.0), ("2", 0.0),
    ]  # fmt: skip
    assert [tick.text for tick in curve.across] == ["0", "10", "20", "30"]


@pytest.mark.parametrize("points", [[], [(0, 1.0)], [(0, 1.0), (1, float("nan"))]])
def test_a_loss_curve_needs_two_points(points):
    assert loss_curve("x", points) is None


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_within_the_range(low, span):
    found = ticks(low, low + span)

    assert 1 <= len(found) <= 8
    slack = 1e-5 * max(abs(low), abs(low + span))
    assert all(low - slack <= tick <= low + span + slack for tick in found)


@given(st.lists(st.floats(0, 1)))
def test_a_histogram_counts_every_share_once(shares):
    assert sum(histogram(shares)) == len(shares)
