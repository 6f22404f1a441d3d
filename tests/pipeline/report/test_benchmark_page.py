"""The benchmark as table and page, from plain values."""

from pipeline.report import benchmark_page as benchmark
from pipeline.report.page import Fold, Page, Section, as_markdown, render
from pipeline.report.tables import Table


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
    return benchmark.Result(name, summary, reference)


RESULTS = [
    result("low", 0.5),
    benchmark.Result("refusing", {"refused": "SiLU <b>has</b> no rule"}),
    result("centre", 0.99, reference=True),
    result("high", 0.9, seconds=1.0),
    benchmark.Result("broken", {"unfinished": True}),
]


def page_of(results=RESULTS):
    return Page("t", "f", "now", [Section("Scores", benchmark.blocks(results, 0.25))])


def scores_of(results=RESULTS):
    (table,) = (b for b in benchmark.blocks(results, 0.25) if isinstance(b, Table))
    return table


def test_the_best_comes_first_and_the_yardstick_last():
    names = [r.name for r in benchmark.ordered(RESULTS)]

    assert names == ["high", "low", "broken", "refusing", "centre"]
    assert names == [r.name for r in benchmark.ordered(RESULTS[::-1])]


def test_without_ground_truth_insertion_decides():
    results = [
        benchmark.Result(name, {"scores": {"insertion": score(value)}})
        for name, value in (("weak", 0.2), ("strong", 0.4))
    ]

    ordered = benchmark.ordered(results)

    assert [r.name for r in ordered] == ["strong", "weak"]


def test_the_yardstick_is_never_the_best():
    table = scores_of()
    best = {
        column.title: [row[0].text for row in table.cells if row[k].best]
        for k, column in enumerate(table.columns)
    }

    assert best["pointing game"] == ["high"]
    assert best["ms per image"] == ["low"]
    assert [row[0].text for row in table.total_cells] == ["centre"]


def test_the_page_says_what_was_refused_and_escapes_it():
    html = render(page_of())

    assert "refused: SiLU &lt;b&gt;has&lt;/b&gt; no rule" in html
    assert "not finished: some images failed" in html
    assert "<b>90.0</b>" in html
    assert "± 1.0" in html
    assert "http" not in html


def test_columns_without_a_number_are_left_out():
    results = [benchmark.Result("a", {"scores": {"insertion": score(0.2)}, "seconds": 0.1})]

    assert [column.title for column in scores_of(results).columns] == [
        "method", "insertion", "ms per image",
    ]  # fmt: skip


def test_ranks_are_averaged_over_the_metrics_and_spread():
    """Ranks: pointing game 1, 2, 3; insertion 3, 1.5, 1.5; deletion, lowest first, 2, 1, 3."""
    methods = [
        ranked("a", pointing_game=0.9, insertion=0.1, deletion=0.2),
        ranked("b", pointing_game=0.8, insertion=0.5, deletion=0.1),
        ranked("c", pointing_game=0.7, insertion=0.5, deletion=0.3),
    ]
    centre = benchmark.Result("centre", methods[0].summary, reference=True)

    ranks = benchmark.mean_ranks([*methods, centre, RESULTS[1]])

    assert ranks.keys() == {"a", "b", "c"}
    assert ranks["a"] == (2.0, 1.0)
    assert ranks["b"] == (1.5, 0.5)
    assert ranks["c"][0] == 2.5


def ranked(name, **scores):
    return benchmark.Result(name, {"scores": {key: score(v) for key, v in scores.items()}})


def test_a_metric_that_was_not_measured_has_no_rank():
    methods = [
        ranked("a", pointing_game=0.9, insertion=0.1),
        ranked("b", pointing_game=0.8, insertion=0.5, deletion=0.1),
    ]

    ranks = benchmark.mean_ranks(methods)

    assert ranks["a"][0] == 1.5
    assert ranks["b"][0] == (2 + 1 + 1) / 3


def test_the_column_of_ranks_and_its_numbers():
    table = scores_of()
    place = [column.title for column in table.columns].index("mean rank")
    cells = {row[0].text: row[place] for row in table.cells}

    assert [cells[name].text for name in ("high", "low")] == ["1.33", "1.67"]
    assert [list(cells[name].lines) for name in ("high", "low")] == [["± 0.3"], ["± 0.3"]]
    assert benchmark.csv_rows(RESULTS)[0]["mean_rank"] == 5 / 3
    assert table.total_cells[0][place].value is None


def test_one_method_has_no_rank():
    assert benchmark.mean_ranks([RESULTS[0], RESULTS[2]]) == {}


def test_classes_have_tables_of_their_own():
    folds = [block for block in benchmark.blocks(RESULTS, 0.25) if isinstance(block, Fold)]

    assert [fold.title for fold in folds] == [
        "By class: pointing game", "By class: insertion", "By class: deletion",
    ]  # fmt: skip
    (table,) = folds[0].blocks
    assert [column.title for column in table.columns] == ["method", "mean of classes", "cat"]
    assert [row[0].text for row in table.cells] == ["high", "low", "centre"]


def test_csv_holds_every_number_in_full():
    rows = benchmark.csv_rows(RESULTS)

    assert [row["method"] for row in rows] == [r.name for r in RESULTS]
    assert rows[0]["pointing_game"] == rows[0]["pointing_game/cat"] == 0.5
    assert rows[0]["iou_oracle_threshold"] == 0.3
    assert rows[1]["note"].startswith("refused")
    assert "pointing_game" not in rows[1]


def test_markdown_has_a_line_for_each_method():
    text = as_markdown(page_of())

    assert "| high (high) | 1.33 ± 0.3 | 90.0 ± 1.0 | 50.0 (at 0.3) |" in text
    assert "| refusing (refused: SiLU" in text
