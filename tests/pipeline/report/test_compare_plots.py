"""Plots of a comparison: what is drawn, and that it has room."""

import statistics
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.report import compare_page as page
from pipeline.report import compare_plots
from tests.pipeline.report.results import CRF, SCORES, crossed_runs, result, section


def test_plots_are_pictures_and_grow_with_the_groups():
    few = section([result(random_seed=s) for s in (0, 1)] + [result("a.CAM", refined=0.3)])
    many = section([result(f"a.M{index}", segmenter=0.3) for index in range(12)])

    heights = [_decoded(compare_plots.bars(content)).shape[0] for content in (few, many)]
    assert heights[1] > 2 * heights[0]


def test_every_point_has_room_for_its_name():
    few, many = (section([result(f"a.M{i}") for i in range(count)]) for count in (2, 60))

    heights = [_decoded(compare_plots.quality_and_cost(s)).shape[0] for s in (few, many)]

    assert heights[1] > 60 * 15  # px
    assert heights[0] < heights[1]


def test_refinements_are_panels_of_a_shorter_plot():
    labels, panels = compare_plots._pivot_panels(section(crossed_runs()))

    assert labels == ["CAM", "TSGB"]
    assert [panel.title for panel in panels] == ["seed mIoU", "CRF, mIoU", "PAR, mIoU"]
    seeds, crf, par = ([s and s.mean for s in p.spreads(p.measure.key)] for p in panels)
    assert seeds == [0.4, 0.5]
    assert crf == [0.68, pytest.approx(0.65)]
    assert par == [None, 0.58]
    assert [len(panel.oracles) for panel in panels] == [2, 0, 0]
    assert _decoded(compare_plots.bars(section(crossed_runs()))).ndim == 3


def test_a_segmenter_needs_the_longer_plot():
    runs = crossed_runs()
    with_segmenter = section(
        [*runs, result("a.CAM", refine=CRF, refined=0.68, seed=0.4, segmenter=0.5)]
    )

    assert page.pivot_table(with_segmenter)
    assert compare_plots._pivot_panels(with_segmenter) is None


def test_nothing_that_is_drawn_is_cut_off():
    content = section(
        [result(segmenter=0.95), result(random_seed=1, segmenter=0.85), result("a.CAM")]
    )
    _, panels = compare_plots._panels(content)

    furthest = compare_plots._largest_value(panels)

    assert furthest == pytest.approx(0.9 + statistics.stdev([0.95, 0.85]))


def test_nothing_is_plotted_without_scores():
    content = section([result(**dict.fromkeys(SCORES)), result("a.CAM", **dict.fromkeys(SCORES))])

    assert compare_plots.bars(content) is None
    assert compare_plots.quality_and_cost(content) is None
    assert "by name" in content.order


def test_a_second_round_costs_what_its_labels_cost_too():
    once = result(segmenter=0.5)
    again = replace(once.segmenter, seconds={**once.segmenter.seconds, "relabel": 700.0})
    content = section([once, replace(result("a.CAM", segmenter=0.6), segmenter=again)])

    costs = {
        compare_plots._seconds_before(content.primary_measure, group) for group in content.groups
    }

    assert max(costs) - min(costs) == pytest.approx(700.0)


def _decoded(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
