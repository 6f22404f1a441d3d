"""Charts as plain numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.charts import histogram, loss_chart, ticks


def test_a_loss_chart_starts_at_the_left_and_ends_at_the_right():
    chart = loss_chart("x", [(0, 2.0), (10, 1.0), (20, float("nan")), (30, 0.5)])

    assert chart is not None
    assert chart.paths == {
        "training": f"M0.0,0.0 L{chart.width / 3:.1f},100.0 L{chart.width}.0,150.0"
    }
    assert chart.note == "training 0.5 after 31 steps"
    assert [(tick.text, tick.place) for tick in chart.up] == [
        ("0", 200.0), ("0.5", 150.0), ("1", 100.0), ("1.5", 50.0), ("2", 0.0),
    ]  # fmt: skip
    assert [tick.text for tick in chart.across] == ["0", "10", "20", "30"]


def test_held_out_losses_share_the_axes_of_the_training():
    chart = loss_chart("x", [(0, 2.0), (10, 1.0)], [(5, 4.0), (10, 2.0)])

    assert chart is not None
    assert chart.paths == {
        "training": "M0.0,100.0 L640.0,150.0", "held out": "M320.0,0.0 L640.0,100.0",
    }  # fmt: skip
    assert chart.note == "training 1, held out 2 after 11 steps"


@pytest.mark.parametrize("points", [[], [(0, 1.0)], [(0, 1.0), (1, float("nan"))]])
def test_a_loss_chart_needs_two_points(points):
    assert loss_chart("x", points) is None


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_within_the_range(low, span):
    found = ticks(low, low + span)

    assert 1 <= len(found) <= 8
    slack = 1e-5 * max(abs(low), abs(low + span))
    assert all(low - slack <= tick <= low + span + slack for tick in found)


@given(st.lists(st.floats(0, 1)))
def test_a_histogram_counts_every_share_once(shares):
    assert sum(histogram(shares)) == len(shares)
