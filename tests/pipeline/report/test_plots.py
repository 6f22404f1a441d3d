"""Labels beside points."""

import numpy as np
import pytest

from pipeline.report import plots


@pytest.mark.parametrize("count", [2, 17, 30])
def test_labels_of_the_plot_keep_apart_and_inside(count):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    axes.set_ylim(0.0, 1.0)
    values = [0.9] * (count // 2) + [0.05] * (count - count // 2)

    heights = plots.label_heights(values, axes)

    gaps = -np.diff(heights)
    assert gaps.min() >= min(0.055, 1 / (count - 1)) - 1e-9
    assert min(heights) >= -1e-9
    assert max(heights) <= 1 + 1e-9
