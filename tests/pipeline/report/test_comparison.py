"""Groups, spread, ranks and order, from plain values."""

import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from pipeline.report import comparison
from pipeline.scoring import LABEL_ORACLE
from tests.pipeline.report.results import (
    CRF,
    PAR,
    SCORES,
    compared,
    crossed_runs,
    labels,
    result,
    row_of,
    section,
)


def test_random_seeds_are_one_group_in_order():
    content = compared([result(random_seed=s, refined=r) for s, r in ((2, 0.6), (0, 0.4))])

    (group,) = content.groups
    assert group.random_seeds == [0, 2]
    spread = content.spread(0, "refined")
    assert (spread.mean, spread.runs) == (pytest.approx(0.5), 2)
    assert spread.deviation == pytest.approx(0.1 * 2**0.5)


def test_one_run_has_no_deviation():
    assert compared([result()]).spread(0, "refined") == comparison.Spread(0.55, None, 1)


def test_the_same_run_found_twice_counts_once():
    content = compared([result(), result(), result(segmenter=0.5)])

    assert content.groups[0].random_seeds == [0]
    assert content.spread(0, "segmenter|val").runs == 1


def test_masks_that_have_no_segmenter_yet_stay_in_the_group():
    content = compared([result(segmenter=0.5), result(random_seed=1)])

    assert content.groups[0].random_seeds == [0, 1]
    assert content.spread(0, "segmenter|val").runs == 1
    assert content.spread(0, "refined").runs == 2


def test_two_segmenters_on_the_same_masks_are_two_groups_with_the_same_masks():
    runs = [result(segmenter=(0.5, 2)), result(segmenter=(0.7, 9)), result(random_seed=1)]

    content = compared(runs)

    assert [group.random_seeds for group in content.groups] == [[0, 1], [0, 1]]
    assert [content.spread(row, "segmenter|val").mean for row in (0, 1)] == [0.7, 0.5]
    assert content.names == ["segmenter.epochs"]


def test_a_segmenter_is_no_difference_in_settings():
    assert compared([result(segmenter=0.5), result("a.CAM")]).names == ["saliency"]


def test_a_single_group_is_named_by_its_method():
    assert compared([result()]).names == ["saliency", "refine"]


def test_time_counts_the_way_without_scoring():
    (seconds,) = compared([result(segmenter=0.5)]).seconds[["total", "image"]].to_numpy().tolist()

    assert seconds == [190.0, 30.0 / 4]


def test_scoring_has_no_say_in_what_is_fastest():
    slow, fast = result("a.Slow", segmenter=0.5), result("a.Fast", segmenter=0.5)
    seconds = {**fast.segmenter.seconds, "segmentation": 99.0, "evaluate": 900.0}
    fast = replace(fast, segmenter=replace(fast.segmenter, seconds=seconds))

    content = compared([slow, fast], "seconds")

    assert labels(content) == ["saliency=Fast", "saliency=Slow"]
    assert content.ranks == [1, 2]


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

    content = compared(runs)

    assert content.by.key == "segmenter|val"
    assert {m.key: m.honest for m in content.measures}[told] is False
    assert labels(content)[0] == "saliency=CAM"


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

    by = compared(runs).by

    assert (by.key if by else None) == expected


def test_without_any_score_rows_are_in_the_order_of_names_and_have_no_rank():
    nothing = dict.fromkeys(SCORES)

    content = compared([result("a.B", **nothing), result("a.A", **nothing)])

    assert labels(content) == ["saliency=A", "saliency=B"]
    assert content.ranks == [None, None]
    assert "by name" in content.order


@budget(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6))
def test_whatever_the_oracle_says_the_order_is_the_same(pairs):
    def order(oracles):
        runs = [
            result(f"a.M{index}", refined=refined, oracle=oracle)
            for index, ((refined, _), oracle) in enumerate(zip(pairs, oracles, strict=True))
        ]
        return labels(compared(runs))

    assert order([oracle for _, oracle in pairs]) == order([0.5] * len(pairs))


@budget(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_the_deviation_is_that_of_a_sample(values):
    runs = [result(random_seed=seed, refined=value) for seed, value in enumerate(values)]

    spread = compared(runs).spread(0, "refined")

    assert spread.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert spread.mean == pytest.approx(statistics.fmean(values))


def test_groups_without_the_score_come_last_and_have_no_rank():
    runs = [result("a.A", refined=None), result("a.B", refined=0.1), result("a.C", refined=0.2)]

    content = compared(runs, by="refined")

    assert labels(content) == ["saliency=C", "saliency=B", "saliency=A"]
    assert content.ranks == [1, 2, None]


def test_scores_that_look_equal_share_a_rank():
    scores = {"a.A": 0.5001, "a.B": 0.5, "a.C": 0.4, "a.D": 0.6}

    content = compared([result(method, refined=value) for method, value in scores.items()])

    assert labels(content) == ["saliency=D", "saliency=A", "saliency=B", "saliency=C"]
    assert content.ranks == [1, 2, 2, 4]


def ablated():
    """A CRF with two random seeds; and without it, in three ways."""
    return [
        *(result(refine=CRF, refined=r, random_seed=s) for s, r in enumerate((0.6, 0.7))),
        *(result(refined=r, random_seed=s) for s, r in enumerate((0.5, 0.66))),
        result(refine=PAR, refined=0.58, random_seed=1),
        result("a.CAM", refine=CRF, refined=0.4),
    ]


def test_differences_are_of_each_random_seed_by_itself():
    content = section(ablated())

    def less(label):
        return content.content.difference(row_of(content, label))

    assert less("reference") is None
    none = less("refine=None")
    assert (none.mean, none.runs) == (pytest.approx(-0.07), 2)
    assert none.deviation == pytest.approx(statistics.stdev([-0.1, -0.04]))
    assert less("refine=PAR").mean == pytest.approx(-0.12)  # less 0.7: one seed has no PAR
    assert less("saliency=CAM").mean == pytest.approx(-0.2)


def test_what_was_not_scored_has_no_difference():
    content = section([*ablated(), result("a.B", refine=CRF, refined=None)], by="refined")

    assert content.content.difference(row_of(content, "saliency=B")) is None


def test_a_mixture_of_runs_with_and_without_segmenters_is_no_ablation():
    assert compared([*ablated(), result("a.CAM", refine=CRF, segmenter=0.5)]).ablation is None
    assert compared(crossed_runs()).ablation is None
