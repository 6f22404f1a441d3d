"""Groups, differences, spread and order, from plain values; and how they look."""

import csv
import io
import statistics

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import compare_page as page
from pipeline.report import compare_plots, comparison
from pipeline.report.comparison import Part, Result, flattened
from pipeline.report.rendering import Pictures

SCORES = {"classifier": 0.9, "seed": 0.5, "oracle": 0.6, "threshold": 0.3, "refined": 0.55,
          "masks": 0.6, "coverage": 0.8}  # fmt: skip
SECONDS = {"classifier": 60.0, "saliency": 20.0, "pseudo_labels": 10.0}


def part(made, values, seconds, **groups):
    settings = {}
    for name, node in groups.items():
        settings |= flattened(name, node)
    return Part(made, settings, values, seconds)


def result(method="a.TSGB", random_seed=0, network=None, made=None, refine=None, **scores):
    """A run; ``network`` is its mIoU, or a pair of that and of the number of epochs."""
    saliency = {"method": {"_target_": method, "kappa": 0.5}, "flip": True}
    made = made or f"{method} {refine} {random_seed}"
    masks = part(
        made, {**SCORES, **scores}, SECONDS, saliency=saliency,
        refine=refine or {"_target_": "a.None"},
    )  # fmt: skip
    learned = None
    if network is not None:
        miou, epochs = network if isinstance(network, tuple) else (network, 2)
        values, seconds = {"network|val": miou}, {"segmentation": 100.0, "evaluate": 5.0}
        learned = part(f"{made} {epochs}", values, seconds, segmenter={"epochs": epochs})
    return Result(f"masks of {made}", random_seed, 4, masks, learned)


def section(results, by=None, **more):
    groups = comparison.grouped(results)
    measure = comparison.measure_to_sort_by(groups, by)
    return page.Section("data", comparison.ordered(groups, measure), measure, **more)


def filled(*sections, ends=()):
    return page.Page("t", "f", "now", sections, ends, {"code": "abc"})


def names(section):
    return [section.label(group) for group in section.groups]


def test_a_target_is_the_value_of_its_group_and_owns_its_options():
    found = flattened("refine", {"_target_": "a.b.CRF", "base": {"_target_": "c.D", "k": [1, 2]}})

    assert {name: setting.value for name, setting in found.items()} == {
        "refine": "CRF", "refine.base": "D", "refine.base.k": "[1, 2]",
    }  # fmt: skip
    assert found["refine.base.k"].owner != found["refine.base"].owner


def test_random_seeds_are_one_group_in_order():
    (group,) = comparison.grouped(
        [result(random_seed=s, refined=r) for s, r in ((2, 0.6), (0, 0.4))]
    )

    assert group.random_seeds == [0, 2]
    spread = group.spread("refined")
    assert spread.values == (0.4, 0.6)
    assert spread.mean == pytest.approx(0.5)
    assert spread.deviation == pytest.approx(0.1 * 2**0.5)


def test_the_same_run_found_twice_counts_once():
    (group,) = comparison.grouped([result(), result(), result(network=0.5)])

    assert group.random_seeds == [0]
    assert group.spread("network|val").values == (0.5,)


def test_masks_that_have_no_network_yet_stay_in_the_group():
    (group,) = comparison.grouped([result(network=0.5), result(random_seed=1)])

    assert group.random_seeds == [0, 1]
    assert group.spread("network|val").values == (0.5,)
    assert len(group.spread("refined").values) == 2


def test_two_networks_on_the_same_masks_are_two_groups_with_the_same_masks():
    runs = [result(network=(0.5, 2)), result(network=(0.7, 9)), result(random_seed=1)]

    groups = comparison.grouped(runs)

    assert [group.random_seeds for group in groups] == [[0, 1], [0, 1]]
    assert [group.spread("network|val").mean for group in groups] == [0.5, 0.7]
    assert comparison.differing(groups) == ["segmenter.epochs"]


def test_options_differ_only_where_what_they_belong_to_is_the_same():
    crf = {"_target_": "a.CRF", "iterations": 5, "compat": 3}
    runs = [
        result(),
        result(refine=crf),
        result(refine={**crf, "iterations": 9}),
        result("a.CAM", refine=crf),
    ]

    assert comparison.differing(comparison.grouped(runs)) == [
        "saliency.method", "refine", "refine.iterations",
    ]  # fmt: skip


def test_an_option_that_one_of_two_equals_has_differs():
    runs = [result(refine={"_target_": "a.CRF"}), result(refine={"_target_": "a.CRF", "new": 1})]

    groups = comparison.grouped(runs)

    assert comparison.differing(groups) == ["refine.new"]
    assert {group.text("refine.new") for group in groups} == {"-", "1"}


def test_a_network_is_no_difference_in_settings():
    groups = comparison.grouped([result(network=0.5), result("a.CAM")])

    assert comparison.differing(groups) == ["saliency.method"]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([{"network": 0.1}, {"network": 0.2}], "network|val"),
        ([{"network": 0.1}, {}], "refined"),
        ([{}, {"refined": None}], "seed"),
        ([{}, dict.fromkeys(("seed", "refined", "masks", "oracle"))], "classifier"),
        ([{}, dict.fromkeys(SCORES)], None),
    ],
)
def test_the_last_honest_score_that_all_have_decides(scores, expected):
    runs = [result(method, **s) for method, s in zip(("a.A", "a.B"), scores, strict=True)]

    by = comparison.measure_to_sort_by(comparison.grouped(runs), None)

    assert (by.key if by else None) == expected


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_whatever_the_oracle_says_the_order_is_the_same(pairs):
    def order(oracles):
        runs = [
            result(f"a.M{index}", refined=refined, oracle=oracle)
            for index, ((refined, _), oracle) in enumerate(zip(pairs, oracles, strict=True))
        ]
        return names(section(runs))

    assert order([oracle for _, oracle in pairs]) == order([0.5] * len(pairs))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_the_deviation_is_that_of_a_sample(values):
    spread = comparison.Spread(tuple(values))

    assert spread.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert spread.mean == pytest.approx(statistics.fmean(values))


def test_groups_without_the_score_come_last():
    runs = [result("a.A", refined=None), result("a.B", refined=0.1), result("a.C", refined=0.2)]

    assert names(section(runs, by="refined")) == ["C", "B", "A"]


def test_neither_oracle_nor_twin_is_called_best():
    content = section([result("a.A"), result("a.B", refined=0.1, oracle=0.99)])
    best = {
        measure.key: [content.label(g) for g in content.groups if content.is_best(g, measure)]
        for measure in content.measures
    }

    assert best["refined"] == ["A"]
    assert best["oracle"] == []


def test_time_counts_the_way_without_scoring():
    (group,) = comparison.grouped([result(network=0.5)])

    assert page.until_network(group) == 190.0
    assert page.per_image(group) == 30.0 / 4


def test_small_print_says_spread_number_threshold_and_share():
    runs = [
        result(random_seed=0, threshold=0.3, network=0.5),
        result(random_seed=1, threshold=0.36, refined=0.65),
    ]
    content = section(runs)
    (group,) = content.groups
    found = {measure.key: page.details(group, measure) for measure in content.measures}

    assert found["refined"] == ["± 7.1, n = 2"]
    assert found["oracle"] == ["± 0.0, n = 2", "at 0.30 to 0.36"]
    assert found["masks"][-1] == "80.0 % of pixels"
    assert found["network|val"] == ["n = 1 of 2"]


def test_text_is_escaped_and_nothing_is_fetched():
    evil = "<script>alert(1)</script>"
    rows = [Pictures(evil, evil, {evil: "data:,"})]
    content = section([result(f"a.{evil}"), result()], galleries={evil: rows}, remarks=[evil])

    html = page.render(filled(content, ends=[(evil, evil)]))

    assert evil not in html
    assert "&lt;script&gt;" in html
    assert "http" not in html


def test_a_single_group_without_repetition_is_named_by_its_method():
    content = section([result()])

    assert content.names == ["saliency.method", "refine"]
    assert "±" not in page.render(filled(content)).replace("mean, ± the", "")


def test_csv_holds_means_deviations_and_numbers_in_full():
    runs = [result(random_seed=s, refined=r, network=0.5) for s, r in ((0, 1 / 3), (1, 2 / 3))]
    content = section(runs)

    (row,) = csv.DictReader(io.StringIO(page.as_csv([content])))
    single = list(csv.DictReader(io.StringIO(page.runs_csv([content]))))

    assert float(row["refined"]) == statistics.fmean([1 / 3, 2 / 3])
    assert row["refined/n"] == "2"
    assert float(row["refined/deviation"]) == statistics.stdev([1 / 3, 2 / 3])
    assert row["threshold"] == "0.3"
    assert row["seconds/in all"] == "190.0"
    assert [float(run["refined"]) for run in single] == [1 / 3, 2 / 3]
    assert single[0]["saliency.method.kappa"] == "0.5"


def test_markdown_has_scores_times_and_what_is_missing():
    text = page.as_markdown(filled(section([result(), result("a.CAM")]), ends=[("x/y", "killed")]))

    assert "| TSGB | 90.0 | 50.0 | 60.0 (at 0.30) | 55.0 | 60.0 (80.0 % of pixels) |" in text
    assert "| CAM | 60.0 | 20.0 | 10.0 | 7.500 |" in text
    assert "- x/y: killed" in text


def test_plots_are_pictures_and_grow_with_the_groups():
    few = section([result(random_seed=s) for s in (0, 1)] + [result("a.CAM", refined=0.3)])
    many = section([result(f"a.M{index}", network=0.3) for index in range(12)])

    heights = [_decoded(compare_plots.bars(content)).shape[0] for content in (few, many)]
    assert heights[1] > 2 * heights[0]
    assert _decoded(compare_plots.quality_and_cost(few)).ndim == 3


def test_nothing_that_is_drawn_is_cut_off():
    content = section([result(network=0.95), result(random_seed=1, network=0.85), result("a.CAM")])
    panels = compare_plots._panels(content)

    furthest = compare_plots._furthest(content.groups, panels)

    assert furthest == pytest.approx(0.9 + statistics.stdev([0.95, 0.85]))


def test_nothing_is_plotted_without_scores():
    content = section([result(**dict.fromkeys(SCORES)), result("a.CAM", **dict.fromkeys(SCORES))])

    assert compare_plots.bars(content) is None
    assert compare_plots.quality_and_cost(content) is None
    assert "by name" in content.order


def _decoded(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
