"""Labels beside points."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline.report import plots


@pytest.mark.parametrize("count", [2, 17, 30])
def test_labels_of_the_plot_keep_apart_and_inside(count):
    axes = Figure().subplots()
    axes.set_ylim(0.0, 1.0)
    values = [0.9] * (count // 2) + [0.05] * (count - count // 2)

    heights = plots.label_heights(values, axes)

    gaps = -np.diff(heights)
    assert gaps.min() >= min(0.055, 1 / (count - 1)) - 1e-9
    assert min(heights) >= -1e-9
    assert max(heights) <= 1 + 1e-9


@pytest.mark.parametrize("limits", [(700, 1650), (600, 1100), (5.1, 41), (2, 300), (0.03, 9)])
def test_a_logarithmic_axis_has_plain_numbers_wherever_it_begins(limits):
    figure = Figure()
    axes = figure.subplots()
    axes.plot(limits, [0, 1])

    plots.logarithmic(axes)

    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    shown = [
        label.get_text() for label in axes.get_xticklabels()
        if low <= label.get_position()[0] <= high
    ]  # fmt: skip
    assert 2 <= len(shown) <= 12
    assert all(float(text) > 0 for text in shown)
