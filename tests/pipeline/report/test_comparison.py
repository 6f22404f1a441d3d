"""Groups, differences, spread and order, from plain values."""

import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import comparison
from pipeline.report.comparison import flattened
from pipeline.scoring import LABEL_ORACLE
from tests.pipeline.report.results import SCORES, result, section


def names(section):
    return [section.label(group) for group in section.groups]


def test_a_target_is_the_value_of_its_group_with_what_it_is_made_of():
    base = {"_target_": "c.D", "_partial_": True, "k": [1, 2]}
    found = flattened("refine", {"_target_": "a.b.CRF", "base": base, "n": 3})

    assert {name: setting.value for name, setting in found.items()} == {
        "refine": "CRF(D)", "refine.base.k": "[1, 2]", "refine.n": "3",
    }  # fmt: skip
    assert found["refine.n"].owner == found["refine"].owns
    assert found["refine.base.k"].owner not in (found["refine.n"].owner, "refine")


def test_parts_of_parts_are_named():
    product = {"_target_": "t.Product", "fine": {"_target_": "t.TSGB"}, "coarse": {"_target_": "C"}}

    (name,) = flattened("method", {"_target_": "p.Competition", "base": product}).values()

    assert name.value == "Competition(Product(TSGB, C))"


def test_wrapped_methods_differ_in_their_name_and_not_in_options_of_their_own():
    def wrapped(base, **options):
        return {
            "_target_": "t.Extrapolated",
            "base": {"_target_": base, **options},
            "rectify": True,
        }

    runs = [result(refine=wrapped("t.A", kappa=1)), result(refine=wrapped("t.B", layer="x"))]
    assert comparison.differing(comparison.grouped(runs)) == ["refine"]

    runs.append(result(refine=wrapped("t.A", kappa=2)))
    names = comparison.differing(comparison.grouped(runs))
    assert names == ["refine", "refine.base.kappa"]


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
    (group,) = comparison.grouped([result(), result(), result(segmenter=0.5)])

    assert group.random_seeds == [0]
    assert group.spread("segmenter|val").values == (0.5,)


def test_masks_that_have_no_segmenter_yet_stay_in_the_group():
    (group,) = comparison.grouped([result(segmenter=0.5), result(random_seed=1)])

    assert group.random_seeds == [0, 1]
    assert group.spread("segmenter|val").values == (0.5,)
    assert len(group.spread("refined").values) == 2


def test_two_segmenters_on_the_same_masks_are_two_groups_with_the_same_masks():
    runs = [result(segmenter=(0.5, 2)), result(segmenter=(0.7, 9)), result(random_seed=1)]

    groups = comparison.grouped(runs)

    assert [group.random_seeds for group in groups] == [[0, 1], [0, 1]]
    assert [group.spread("segmenter|val").mean for group in groups] == [0.5, 0.7]
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


def test_a_segmenter_is_no_difference_in_settings():
    groups = comparison.grouped([result(segmenter=0.5), result("a.CAM")])

    assert comparison.differing(groups) == ["saliency.method"]


def test_scoring_has_no_say_in_what_is_fastest():
    slow, fast = result("a.Slow", segmenter=0.5), result("a.Fast", segmenter=0.5)
    seconds = {**fast.segmenter.seconds, "segmentation": 99.0, "evaluate": 900.0}
    fast = replace(fast, segmenter=replace(fast.segmenter, seconds=seconds))

    first, _ = comparison.ordered_by_cost(comparison.grouped([slow, fast]))

    assert first.text("saliency.method") == "Fast"


def test_a_segmenter_that_was_told_the_names_never_decides():
    told = f"segmenter|val, {LABEL_ORACLE}"
    scores = {
        "a.CAM": {told: 0.6, "segmenter|val": 0.5},
        "a.TSGB": {told: 0.9, "segmenter|val": 0.4},
    }
    runs = []
    for method, values in scores.items():
        run = result(method, segmenter=0.0)
        runs.append(replace(run, segmenter=replace(run.segmenter, values=values)))
    groups = comparison.grouped(runs)

    by = comparison.measure_to_sort_by(groups, None)

    assert by.key == "segmenter|val"
    assert {m.key: m.honest for m in comparison.measures(groups)}[told] is False
    assert "CAM" in names(section(runs, "segmenter"))[0]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([{"segmenter": 0.1}, {"segmenter": 0.2}], "segmenter|val"),
        ([{"segmenter": 0.1}, {}], "refined"),
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
