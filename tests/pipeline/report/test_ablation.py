"""Ablations: detected, described, and compared by random seed."""

import csv
import io
from itertools import permutations

import pytest

from pipeline.report import compare_page as page
from pipeline.report import compare_tables as tables
from pipeline.report.ablation import ablation_of
from pipeline.report.comparison import Part
from tests.pipeline.report.results import CRF, PAR, crossed_runs, filled, result, section

CHAIN = {"_target_": "a.Chain", "steps": {"par": PAR, "crf": CRF}}


def changed(run, **settings):
    """The same run with other values of plain settings."""
    masks = run.masks
    own = dict(masks.settings)
    for name, value in settings.items():
        own["saliency." + name] = type(own["saliency.flip"])(value, own["saliency.flip"].owner)
    made = f"{masks.fingerprint} {settings}"
    return type(run)(
        run.folder + made, run.random_seed, run.images,
        Part(made, own, masks.values, masks.seconds),
    )  # fmt: skip


def ablated(scores=((0.6, 0.7), (0.5, 0.66))):
    """A chain with two random seeds; and less of it, in four ways."""
    full, crf = scores
    return [
        *(result(refine=CHAIN, refined=r, random_seed=s) for s, r in enumerate(full)),
        *(result(refine=CRF, refined=r, random_seed=s) for s, r in enumerate(crf)),
        result(refine=PAR, refined=0.58, random_seed=1),
        result("a.CAM", refine=CHAIN, refined=0.4),
        changed(result(refine=CHAIN, refined=0.3), flip="false", size="99"),
    ]


def fractional():
    """Half of all combinations of three things, as in a design of experiments."""
    designs = ((0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1))
    return [
        changed(result(refined=0.6 + i / 10), flip=f"{a}", size=f"{b}", power=f"{c}")
        for i, (a, b, c) in enumerate(designs)
    ]


def test_the_choice_that_all_others_are_made_from_is_the_reference():
    content = section(ablated())

    assert [content.label(group) for group in content.groups] == [
        "reference", "CRF", "PAR", "CAM", "flip=false, size=99",
    ]  # fmt: skip
    assert content.changed_from == (
        "Each row is row 1 with one change. Row 1 is TSGB, flip=true, Chain(PAR, CRF)."
    )
    assert page.pivot_table(content) is None


def test_differences_are_of_each_random_seed_by_itself():
    content = section(ablated())
    less = {content.label(group): content.difference(group) for group in content.groups}

    assert less["reference"] is None
    assert less["CRF"].values == pytest.approx((-0.1, -0.04))
    assert less["PAR"].values == pytest.approx((-0.12,))  # less 0.7: the other seed has no PAR
    assert less["CAM"].values == pytest.approx((-0.2,))
    shown = {content.label(group): content.difference_text(group) for group in content.groups}
    assert shown["CRF"] == "-7.0 ± 4.2"
    assert shown["PAR"] == "-12.0, n = 1"


@pytest.mark.parametrize(
    "runs",
    [
        crossed_runs(),  # a grid
        [result(f"a.{name}") for name in "ABCDE"],  # one thing, in many ways
        [*ablated(), result("a.CAM", refine=CRF)],  # two things at once, which stand alone too
        fractional(),
        [*ablated(), changed(result(refine=CHAIN), size="33")],  # one has this and another thing
    ],
)
def test_other_comparisons_are_no_ablation(runs):
    content = section(runs)

    assert content.ablation is None
    assert content.setting_titles == content.names
    assert "difference" not in tables.as_markdown(filled(content))


def test_the_reference_is_the_same_in_any_order():
    groups = section(ablated()).groups
    names = section(ablated()).names

    found = {ablation_of(order, names).choice for order in permutations(groups)}

    assert found == {"TSGB, flip=true, Chain(PAR, CRF)"}


def test_an_option_of_what_others_do_not_have_is_one_thing():
    """Another number of the CRF is one change; a line without a CRF is another one."""
    numbered = {"_target_": "a.CRF", "iterations": 10}
    runs = [
        result(refine=numbered), result(refine={**numbered, "iterations": 3}), result(refine=PAR),
        result("a.CAM", refine=numbered),
    ]  # fmt: skip

    content = section(runs)

    assert {content.label(group) for group in content.groups} == {
        "reference", "iterations=3", "PAR", "CAM",
    }  # fmt: skip


def test_words_tell_equal_names_apart_and_say_what_is_gone():
    whole = changed(result(refine={"_target_": "a.Walk", "size": 3}), size="8", rates="1, 2")
    walk = changed(result(refine={"_target_": "a.Walk", "size": 5}), size="8", rates="1, 2")
    small = changed(result(refine={"_target_": "a.Walk", "size": 3}), size="4", rates="1, 2")
    plain = changed(result(refine={"_target_": "a.Walk", "size": 3}), size="8")

    content = section([whole, walk, small, plain])

    assert {content.label(group) for group in content.groups} == {
        "reference", "refine.size=5", "saliency.size=4", "without rates",
    }  # fmt: skip


def test_nothing_is_compared_where_nothing_was_scored():
    runs = [result(refined=None, seed=None, classifier=None, **kwargs) for kwargs in (
        {}, {"refine": CRF}, {"method": "a.CAM"},
    )]  # fmt: skip
    content = section(runs)

    assert content.ablation is not None
    assert content.difference_title == ""
    assert "difference" not in tables.as_markdown(filled(content))
    assert 'class="difference"' not in page.render(filled(content))


def test_tables_say_what_is_changed_and_by_how_much():
    content = section(ablated())

    text = tables.as_markdown(filled(content))
    html = page.render(filled(content))
    rows = list(csv.DictReader(io.StringIO(tables.as_csv([content]))))

    assert content.changed_from in text
    assert content.changed_from in html
    assert "| changed | AP of the classifier, % |" in text
    assert "| CRF | 90.0 ± 0.0 |" in text
    assert "| -7.0 ± 4.2 | 1 min 30 s |" in text
    assert '<td class="difference" data-value="">' in html  # of the reference
    assert ">-20.0, n = 1</td>" in html
    assert [row["saliency.method"] for row in rows] == ["TSGB"] * 3 + ["CAM", "TSGB"]
    assert float(rows[1]["difference"]) == pytest.approx(-0.07)
    assert rows[0]["difference"] == ""


def test_what_was_not_scored_has_no_difference():
    runs = [*ablated(), result("a.B", refine=CHAIN, refined=None)]
    content = section(runs, by="refined")
    last = next(group for group in content.groups if content.label(group) == "B")

    assert content.difference(last) is None


def test_lines_with_equal_numbers_are_named_by_what_was_changed():
    content = section(ablated())

    assert content.caption(content.groups[:2]) == "1, 2: reference; CRF"
