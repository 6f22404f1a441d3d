"""One choice and the same with one thing changed: found, named, and compared seed by seed."""

import csv
import io

import pytest

from pipeline.report import compare_page as page
from pipeline.report import compare_tables as tables
from pipeline.report.comparison import Part
from tests.pipeline.report.results import CRF, PAR, crossed_runs, filled, result, section

CHAIN = {"_target_": "a.Chain", "steps": {"par": PAR, "crf": CRF}}


def changed(run, **settings):
    """The same run with other values of plain settings."""
    masks = run.masks
    own = dict(masks.settings)
    for name, value in settings.items():
        own["saliency." + name] = type(own["saliency.flip"])(value, own["saliency.flip"].owner)
    made = f"{masks.made} {settings}"
    return type(run)(
        run.place + made, run.random_seed, run.images,
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


def test_the_choice_that_all_others_are_made_from_is_the_reference():
    content = section(ablated())

    assert [content.label(group) for group in content.groups] == [
        "reference", "CRF", "PAR", "CAM", "flip=false, size=99",
    ]  # fmt: skip
    assert content.reference == (
        "Each line is line 1 with one thing changed: TSGB, flip=true, Chain(PAR, CRF)."
    )
    assert page.crossing(content) is None


def test_differences_are_of_each_random_seed_by_itself():
    content = section(ablated())
    less = {content.label(group): content.difference(group) for group in content.groups}

    assert less["reference"] is None
    assert less["CRF"].values == pytest.approx((-0.1, -0.04))
    assert less["PAR"].values == pytest.approx((-0.12,))  # less 0.7: the other seed has no PAR
    assert less["CAM"].values == pytest.approx((-0.2,))
    assert page.signed(less["CRF"]) == "-7.0 ± 4.2"


@pytest.mark.parametrize(
    "runs",
    [
        crossed_runs(),  # a grid
        [result(f"a.{name}") for name in "ABCDE"],  # one thing, in many ways
        [result(refine=CRF), result(refine=PAR), result("a.CAM", refine=CRF)],  # two things
        [*ablated(), result("a.CAM", refine=CRF)],  # two things at once, which stand alone too
    ],
)
def test_other_comparisons_are_no_ablation(runs):
    content = section(runs)

    assert content.ablation is None
    assert content.heads == content.names
    assert "difference" not in tables.as_markdown(filled(content))


def test_tables_say_what_is_changed_and_by_how_much():
    content = section(ablated())

    text = tables.as_markdown(filled(content))
    html = page.render(filled(content))
    rows = list(csv.DictReader(io.StringIO(tables.as_csv([content]))))

    assert content.reference in text
    assert content.reference in html
    assert "| changed | AP of the classifier, % |" in text
    assert "| CRF | 90.0 ± 0.0 |" in text
    assert "| -7.0 ± 4.2 | 1 min 30 s |" in text
    assert '<td class="difference" data-value="">' in html  # of the reference
    assert ">-20.0</td>" in html
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
