"""Tables of a comparison, as HTML, Markdown and CSV."""

import csv
import io
import re
import statistics
from dataclasses import replace

import pytest

from pipeline.report import compare_page as page
from pipeline.report import compare_tables as tables
from pipeline.report import comparison
from pipeline.report.rendering import Pictures
from pipeline.scoring import LABEL_ORACLE
from tests.pipeline.report.results import CRF, PAR, crossed_runs, filled, result, section


def test_only_a_score_that_decides_something_is_called_best():
    content = section([result("a.A"), result("a.B", refined=0.1, oracle=0.99, masks=0.9)])
    best = {
        measure.key: [content.label(g) for g in content.groups if content.is_best(g, measure)]
        for measure in content.measures
    }

    assert best["refined"] == ["A"]
    assert best["oracle"] == best["masks"] == []  # ground truth chose it, void makes it easy
    assert best["classifier"] == []  # all the same


def test_time_counts_the_way_without_scoring():
    (group,) = comparison.grouped([result(segmenter=0.5)])

    assert page.total_seconds(group) == 190.0
    assert page.per_image(group) == 30.0 / 4


def evaluated(method, **scores):
    """A run whose segmenter and twin have several evaluations; "_" in a protocol is a blank."""
    run = result(method, segmenter=0.0)
    values = {}
    for protocol, (segmenter, twin) in scores.items():
        how = protocol.replace("_", " ")
        values[f"segmenter|{how}"] = segmenter
        if twin is not None:
            values |= {f"twin|{how}": twin, f"fraction|{how}": segmenter / twin}
    return replace(run, segmenter=replace(run.segmenter, values=values))


def test_where_there_is_room_for_one_evaluation_of_a_segmenter_it_is_that_which_decides():
    told = LABEL_ORACLE.replace(" ", "_")
    runs = [
        evaluated("a.A", **{told: (0.9, 0.9), "flip": (0.8, 0.8), "val": (0.5, 0.6)}),
        evaluated("a.B", **{told: (0.9, 0.9), "val": (0.4, 0.8)}),
    ]
    content = section(runs)
    titles, rows = tables.short_rows(content)

    assert content.order == "best segmenter mIoU (val) first"
    assert {content.main_measures[kind].note for kind in ("segmenter", "twin", "fraction")} == {
        "val"
    }
    assert [dict(zip(titles, row, strict=True))["segmenter"] for row in rows] == ["50.0", "40.0"]
    assert [dict(zip(titles, row, strict=True))["of twin"] for row in rows] == ["83.3", "50.0"]
    assert [m.note for m in content.measures if m.kind == "segmenter"] == [
        "val",
        "flip",
        LABEL_ORACLE,
    ]


def test_a_fraction_of_a_rarer_way_to_evaluate_brings_its_segmenter_along():
    runs = [
        evaluated("a.A", val=(0.5, None), flip=(0.8, 0.9)),
        evaluated("a.B", val=(0.4, None)),
    ]
    content = section(runs, "fraction")

    assert [m.note for m in content.measures if m.kind == "segmenter"] == ["val", "flip"]
    assert {content.main_measures[kind].note for kind in ("segmenter", "fraction")} == {"flip"}


def test_small_print_says_spread_number_threshold_and_share():
    runs = [
        result(random_seed=0, threshold=0.3, segmenter=0.5),
        result(random_seed=1, threshold=0.36, refined=0.65),
    ]
    content = section(runs)
    (group,) = content.groups
    found = {measure.key: page.details(group, measure) for measure in content.measures}

    assert found["refined"] == ["± 7.1, n = 2"]
    assert found["oracle"] == ["± 0.0, n = 2", "at 0.30 to 0.36"]
    assert found["masks"][-1] == "80.0 % of pixels"
    assert found["segmenter|val"] == ["n = 1 of 2"]


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
    runs = [result(random_seed=s, refined=r, segmenter=0.5) for s, r in ((0, 1 / 3), (1, 2 / 3))]
    content = section(runs)

    (row,) = csv.DictReader(io.StringIO(tables.as_csv([content])))
    single = list(csv.DictReader(io.StringIO(tables.runs_csv([content]))))

    assert float(row["refined"]) == statistics.fmean([1 / 3, 2 / 3])
    assert row["refined/n"] == "2"
    assert float(row["refined/deviation"]) == statistics.stdev([1 / 3, 2 / 3])
    assert row["threshold"] == "0.3"
    assert row["seconds/total"] == "190.0"
    assert [float(run["refined"]) for run in single] == [1 / 3, 2 / 3]
    assert single[0]["saliency.method.kappa"] == "0.5"


def test_markdown_has_scores_times_and_what_is_missing():
    text = tables.as_markdown(
        filled(section([result(), result("a.CAM")]), ends=[("x/y", "killed")])
    )

    scores = "90.0 | 50.0 | 60.0 (at 0.30) | 55.0 | 60.0 (80.0 % of pixels)"
    assert f"| TSGB | {scores} | 1 min 30 s | 7.500 |" in text
    assert "| CAM | 60.0 | 20.0 | 10.0 |" in text
    assert "- x/y: killed" in text


def test_refinements_stand_side_by_side():
    content = section(crossed_runs())

    table = page.pivot_table(content)

    assert table.names == ["saliency.method"]
    assert table.refinements == ["CRF", "PAR"]  # no column for what changes nothing
    rows = {row.words[0]: row for row in table.rows}
    assert rows["TSGB"].seed.spread("seed").values == (0.5, 0.5)
    cells = [group and group.spread("refined").values for group in rows["CAM"].refined]
    assert cells == [(0.68,), None]
    assert table.best(None).mean == 0.5
    assert table.best(0).values == (0.68,)
    text = tables.as_markdown(filled(content))
    assert "| CAM | 40.0 | 60.0 (at 0.30) | 68.0 | - |" in text
    assert "| TSGB | 50.0 ± 0.0 | 60.0 ± 0.0 (at 0.30) | 65.0 ± 7.1 | 58.0 |" in text
    html = page.render(filled(content))
    assert re.search(r'class="share best"[^>]*>\s*<span[^>]*></span>\s*<b>68.0', html)


@pytest.mark.parametrize(
    "runs",
    [
        [result(), result(refine=CRF)],  # nothing else differs
        [result(), result("a.CAM")],  # refinement does not differ
        [result(), result("a.CAM", refine=CRF, refined=None)],  # not all are scored
        [result(refined=0.5), result("a.CAM", refine=PAR, refined=0.5)],  # nothing was changed
    ],
)
def test_there_is_no_such_table_where_it_would_say_nothing(runs):
    assert page.pivot_table(section(runs)) is None


def test_two_segmenters_on_equal_masks_are_not_put_into_one_cell():
    runs = [result("a.CAM", segmenter=(0.5, 2)), result("a.CAM", refine=CRF), result(refine=CRF)]
    runs.append(result("a.CAM", segmenter=(0.7, 9)))

    table = page.pivot_table(section(runs))

    assert table.names == ["saliency.method", "segmenter.epochs"]
    assert len(table.rows) == 4


def test_classes_have_mean_and_spread_and_equal_rows_are_one():
    def run(refine, random_seed, cat):
        classes = {
            "classifier": {"cat": 0.9, "dog": None},
            "refined": {"background": 1, "cat": cat},
        }
        return result(refine=refine, random_seed=random_seed, classes=classes)

    runs = [run(None, 0, 0.4), run(None, 1, 0.6), run(CRF, 0, 0.7), run(CRF, 1, 0.7)]
    content = section(runs)

    precision, refined = page.class_tables(content)

    assert precision.classes == ["cat"]  # no dog occurs
    assert [len(alike) for alike in precision.rows] == [2]
    assert [len(alike) for alike in refined.rows] == [1, 1]
    text = tables.as_markdown(filled(content))
    assert "| 1, 2: all runs | 90.0 ± 0.0 |" in text
    assert "| 100.0 ± 0.0 | 50.0 ± 14.1 |" in text
    (row,) = [
        row
        for row in csv.DictReader(io.StringIO(tables.classes_csv([content])))
        if (row["refine"], row["score"], row["class"]) == ("None", "refined", "cat")
    ]
    assert (float(row["mean"]), row["n"]) == (0.5, "2")
    assert float(row["deviation"]) == statistics.stdev([0.4, 0.6])
    assert "± 14.1" in page.render(filled(content))


def test_only_chosen_classes_have_columns():
    scores = {"refined": {"background": 0.9, "cat": 0.4, "cow": 0.1}}

    (table,) = page.class_tables(section([result(classes=scores)], chosen=["cow"]))

    assert table.classes == ["background", "cow"]
