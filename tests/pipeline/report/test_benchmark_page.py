"""The benchmark as table, plot and page, from plain values."""

import csv
import io

import cv2
import numpy as np

from pipeline.report import benchmark_page as page
from pipeline.report.rendering import Pictures


def score(mean, **classes):
    return {
        "mean": mean, "error": 0.01, "pairs": 9, "class_mean": mean,
        "classes": classes or {"cat": mean},
    }  # fmt: skip


def result(name, pointing, seconds=0.1, *, reference=False, **more):
    scores = {"pointing_game": score(pointing), "insertion": score(0.6), "deletion": score(0.1)}
    summary = {
        "method": {"_target_": f"tsgb.{name}"}, "refused": None, "images": 7, "pairs": 9,
        "scores": scores,
        "oracle": {"threshold": 0.3, "iou": 0.5}, "seconds": seconds, "forward_seconds": 0.05,
        "forwards": 2.0, "bytes": 3 * 2**20, "forward_bytes": 2**20, **more,
    }  # fmt: skip
    return page.Result(name, summary, reference)


RESULTS = [
    result("low", 0.5),
    page.Result("refusing", {"refused": "SiLU <b>has</b> no rule"}),
    result("centre", 0.99, reference=True),
    result("high", 0.9, seconds=1.0),
    page.Result("broken", {"unfinished": True}),
]


def filled(results=RESULTS, **more):
    values = {
        "title": "t", "folder": "f", "created": "now", "results": page.ordered(results),
        "notes": {"images": "7 of 8"}, "threshold": 0.25, "plot": None, "rows": [],
    }  # fmt: skip
    return page.Page(**{**values, **more})


def test_the_best_comes_first_and_the_yardstick_last():
    names = [r.name for r in page.ordered(RESULTS)]

    assert names == ["high", "low", "broken", "refusing", "centre"]
    assert names == [r.name for r in page.ordered(RESULTS[::-1])]


def test_without_ground_truth_insertion_decides():
    weak, strong = ({"scores": {"insertion": score(v)}} for v in (0.2, 0.4))

    ordered = page.ordered([page.Result("weak", weak), page.Result("strong", strong)])

    assert [r.name for r in ordered] == ["strong", "weak"]


def test_the_yardstick_is_never_the_best():
    content = filled()
    best = {metric.key: content.best(metric) for metric in content.metrics}

    assert best["pointing_game"] == 0.9
    assert best["milliseconds"] == 100.0


def test_the_page_says_what_was_refused_and_escapes_it():
    html = page.render(filled())

    assert "refused: SiLU &lt;b&gt;has&lt;/b&gt; no rule" in html
    assert "not finished: some images failed" in html
    assert "<b>90.0</b>" in html
    assert "± 1.0" in html
    assert "http" not in html


def test_columns_without_a_number_are_left_out():
    results = [page.Result("a", {"scores": {"insertion": score(0.2)}, "seconds": 0.1})]
    content = filled(results)

    assert [metric.key for metric in content.metrics] == ["insertion", "milliseconds"]
    assert "pointing game, %" not in page.as_markdown(content)
    assert page.plot(results) is None


def test_pictures_stand_in_columns_even_if_one_is_missing():
    rows = [
        Pictures("1", "cat", {"image": "data:1", "tsgb": "data:2"}),
        Pictures("2", "dog", {"image": "data:3", "cam": "data:4"}),
    ]
    content = filled(rows=rows)

    assert content.columns == ["image", "tsgb", "cam"]
    assert page.render(content).count("<img loading") == 4


def test_csv_holds_every_number_in_full():
    rows = list(csv.DictReader(io.StringIO(page.as_csv(RESULTS))))

    assert [row["method"] for row in rows] == [r.name for r in RESULTS]
    assert rows[0]["pointing_game"] == rows[0]["pointing_game/cat"] == "0.5"
    assert rows[0]["iou_oracle_threshold"] == "0.3"
    assert rows[1]["note"].startswith("refused")
    assert rows[1]["pointing_game"] == ""


def test_markdown_has_a_line_for_each_method():
    text = page.as_markdown(filled())
    table = [line for line in text.splitlines() if line.startswith("|")]

    assert len(table) == 2 + len(RESULTS)
    assert "| high | 90.0 |" in text
    assert "- refusing: refused: SiLU" in text
    assert "- images: 7 of 8" in text


def test_the_plot_is_a_picture_of_two_panels():
    content = page.plot(RESULTS)

    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] > 2 * picture.shape[0]
