"""Tables of a comparison, as HTML, Markdown and CSV."""

import re
import statistics
from dataclasses import replace

import pytest

from pipeline.report.page import Fold, Text
from pipeline.report.tables import Table
from pipeline.scoring import LABEL_ORACLE
from tests.pipeline.report.results import (
    CRF,
    PAR,
    SCORES,
    crossed_runs,
    html_of,
    markdown_of,
    result,
    section,
)


def tables_of(data):
    return [block for block in data.blocks if isinstance(block, Table)]


def scores_of(data):
    """The table of all runs: its cells by the title of a column."""
    table = tables_of(data)[-1]
    titles = [column.title for column in table.columns]
    return [dict(zip(titles, row, strict=True)) for row in table.cells]


def test_only_a_score_that_decides_something_is_called_best():
    data = section([result("a.A"), result("a.B", refined=0.1, oracle=0.99, masks=0.9)])

    first, second = scores_of(data)

    assert [title for title, cell in first.items() if cell.best] == ["refined mIoU"]
    assert not any(cell.best for cell in second.values())  # ground truth chose it, void is easy


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
    data = section(runs)
    titles, rows = data.short_rows()

    assert data.content.order == "best segmenter mIoU (val) first"
    found = [dict(zip(titles, row, strict=True)) for row in rows]
    assert [row["segmenter"] for row in found] == ["50.0", "40.0"]
    assert [row["of twin"] for row in found] == ["83.3", "50.0"]
    notes = [m.note for m in data.content.measures if m.kind == "segmenter"]
    assert notes == ["val", "flip", LABEL_ORACLE]


def test_a_fraction_of_a_rarer_way_to_evaluate_brings_its_segmenter_along():
    runs = [
        evaluated("a.A", val=(0.5, None), flip=(0.8, 0.9)),
        evaluated("a.B", val=(0.4, None)),
    ]
    content = section(runs, "fraction").content

    assert [m.note for m in content.measures if m.kind == "segmenter"] == ["val", "flip"]
    assert {content.main_measures[kind].note for kind in ("segmenter", "fraction")} == {"flip"}


def test_small_print_says_spread_seeds_threshold_and_share():
    runs = [
        result(random_seed=0, threshold=0.3, segmenter=0.5),
        result(random_seed=1, threshold=0.36, refined=0.65),
    ]
    (row,) = scores_of(section(runs))

    assert row["refined mIoU"].lines == ["± 7.1"]
    assert row["seed mIoU, oracle"].lines == ["± 0.0", "at 0.33"]
    assert row["training masks mIoU"].lines[-1] == "80.0 % of pixels"
    assert row["segmenter mIoU"].lines == ["1 of 2 random seeds"]


def test_the_number_of_images_stands_beside_every_score():
    table = tables_of(section([result(segmenter=0.5)]))[-1]
    notes = {column.title: column.note for column in table.columns}

    assert notes["AP of the classifier"] == "3 images"
    assert notes["refined mIoU"] == "4 images"
    assert notes["seed mIoU"] == "threshold fixed beforehand; 4 images"
    assert notes["segmenter mIoU"] == "val; 7 images"


def test_scores_of_different_numbers_of_images_say_so_in_each_row():
    few = result("a.Few", segmenter=0.5)
    few = replace(few, segmenter=replace(few.segmenter, images={"segmenter|val": 2}))

    rows = scores_of(section([few, result("a.All", segmenter=0.4)]))

    assert [row["segmenter mIoU"].lines for row in rows] == [["2 images"], ["7 images"]]


def test_text_is_escaped_and_nothing_is_fetched():
    evil = "<script>alert(1)</script>"
    data = section([result(f"a.{evil}"), result()], remarks=[evil])

    html = html_of(data)

    assert evil not in html
    assert "&lt;script&gt;" in html
    assert "http" not in html


def test_csv_holds_means_deviations_and_numbers_in_full():
    runs = [result(random_seed=s, refined=r, segmenter=0.5) for s, r in ((0, 1 / 3), (1, 2 / 3))]
    data = section(runs)

    (row,), single = list(data.csv_rows()), list(data.run_rows())

    assert row["refined"] == statistics.fmean([1 / 3, 2 / 3])
    assert (row["rank"], row["refined/runs"], row["refined/images"]) == (1, 2, 4)
    assert row["refined/deviation"] == pytest.approx(statistics.stdev([1 / 3, 2 / 3]))
    assert row["threshold"] == 0.3
    assert row["seconds/total"] == 190.0
    assert [run["refined"] for run in single] == [1 / 3, 2 / 3]
    assert single[0]["saliency.kappa"] == "0.5"


def test_markdown_has_scores_and_times():
    text = markdown_of(section([result(), result("a.CAM")]))

    scores = "90.0 | 50.0 | 60.0 (at 0.30) | 55.0 | 60.0 (80.0 % of pixels)"
    assert f"| 1 | TSGB | {scores} | 1 min 30 s | 7.5 |" in text
    assert f"| 1 | CAM | {scores} |" in text
    assert "| saliency=CAM | 1 min 0 s | 20.0 s | 10.0 s | 1 min 30 s |" in text


def test_refinements_stand_side_by_side():
    data = section(crossed_runs())

    table = tables_of(data)[0]

    assert [column.title for column in table.columns] == [
        "saliency", "seed mIoU", "refine=CRF", "refine=PAR",  # no column for what changes nothing
    ]  # fmt: skip
    rows = {row[0].text: row for row in table.cells}
    assert [cell.text for cell in rows["TSGB"]] == ["TSGB", "50.0", "65.0", "58.0"]
    assert [cell.text for cell in rows["CAM"]] == ["CAM", "40.0", "68.0", "-"]
    assert [cell.best for cell in rows["CAM"]] == [False, False, True, False]
    assert "| TSGB | 50.0 ± 0.0 | 65.0 ± 7.1 | 58.0 |" in markdown_of(data)
    assert re.search(r'class="share best "[^>]*><span[^>]*></span><b>68.0', html_of(data))


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
    assert len(tables_of(section(runs))) == 1


def test_two_segmenters_on_equal_masks_are_not_put_into_one_cell():
    runs = [result("a.CAM", segmenter=(0.5, 2)), result("a.CAM", refine=CRF), result(refine=CRF)]
    runs.append(result("a.CAM", segmenter=(0.7, 9)))

    table, _ = tables_of(section(runs))

    assert [c.title for c in table.columns][:2] == ["saliency", "segmenter.epochs"]


def test_classes_have_mean_and_spread():
    def run(refine, random_seed, cat):
        classes = {
            "classifier": {"cat": 0.9, "dog": None},
            "refined": {"background": 1, "cat": cat},
        }
        return result(refine=refine, random_seed=random_seed, classes=classes)

    runs = [run(None, 0, 0.4), run(None, 1, 0.6), run(CRF, 0, 0.7), run(CRF, 1, 0.7)]
    data = section(runs)

    (fold,) = (b for b in data.blocks if isinstance(b, Fold) and b.title == "Scores by class")
    precision, refined = fold.blocks
    assert [column.title for column in precision.columns] == ["run", "cat"]  # no dog occurs
    assert refined.title == "refined IoU"
    text = markdown_of(data)
    assert "| refine=CRF | 100.0 ± 0.0 | 70.0 ± 0.0 |" in text
    assert "| refine=None | 100.0 ± 0.0 | 50.0 ± 14.1 |" in text
    (row,) = [
        row
        for row in data.class_rows()
        if (row["refine"], row["score"], row["class"]) == ("None", "refined", "cat")
    ]
    assert (row["mean"], row["runs"]) == (0.5, 2)
    assert row["deviation"] == pytest.approx(statistics.stdev([0.4, 0.6]))


def test_only_chosen_classes_have_columns():
    scores = {"refined": {"background": 0.9, "cat": 0.4, "cow": 0.1}}
    data = section([result(classes=scores)], chosen=["cow"])

    assert [row["class"] for row in data.class_rows()] == ["background", "cow"]
    assert "cat" not in markdown_of(data)


def ablated():
    return [
        *(result(refine=CRF, refined=r, random_seed=s) for s, r in enumerate((0.6, 0.7))),
        *(result(refined=r, random_seed=s) for s, r in enumerate((0.5, 0.66))),
        result("a.CAM", refine=CRF, refined=0.4),
    ]


def test_an_ablation_says_what_is_changed_and_by_how_much():
    data = section(ablated())
    rows = list(data.csv_rows())

    said = (
        "The reference is saliency=TSGB, refine=CRF. Every other row is the reference with one "
        "change."
    )
    assert Text(said, "remark") in data.blocks
    assert [row["changed"].text for row in scores_of(data)] == [
        "reference", "refine=None", "saliency=CAM",
    ]  # fmt: skip
    assert [row["difference, refined mIoU"].text for row in scores_of(data)] == [
        "", "-7.0 ± 4.2", "-20.0",
    ]  # fmt: skip
    assert [row["saliency"] for row in rows] == ["TSGB", "TSGB", "CAM"]
    assert rows[1]["difference"] == pytest.approx(-0.07)
    assert "difference" not in rows[0]


def test_a_difference_of_fewer_random_seeds_says_so():
    runs = [*ablated(), result("a.CAM", refine=CRF, refined=0.5, random_seed=7)]

    last = scores_of(section(runs))[-1]

    assert last["difference, refined mIoU"].text == "-20.0, 1 random seed"


def test_nothing_is_compared_where_nothing_was_scored():
    nothing = dict.fromkeys(SCORES)
    runs = [result(**nothing), result(refine=CRF, **nothing), result("a.CAM", **nothing)]
    data = section(runs)

    assert data.content.ablation is not None
    assert not any("difference" in column.title for column in tables_of(data)[0].columns)
