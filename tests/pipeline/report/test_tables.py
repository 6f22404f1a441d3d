"""The table of every page: what a cell shows, which is the best, and Markdown."""

import pytest

from pipeline.report.tables import Cell, Column, Table, markdown_table


def table(values, totals=(), **column):
    return Table("", [Column("x", **column)], [[value] for value in values], totals)


def best(content):
    return [row[0].text for row in content.cells if row[0].best]


@pytest.mark.parametrize(
    ("kind", "shown"), [("share", "12.3"), ("seconds", "0.1 s"), ("number", "0.123")]
)
def test_numbers_are_shown_in_the_unit_of_their_column(kind, shown):
    ((cell,),) = table([0.12345], kind=kind).cells

    assert cell.text == shown
    assert (cell.bar is not None) == (kind == "share")


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_is_not_known_is_a_dash(value):
    ((cell,),) = table([value]).cells

    assert (cell.text, cell.value, cell.bar) == ("-", None, None)


def test_the_best_of_a_column_is_marked_and_a_total_never_is():
    content = table([0.5, 0.7, None], totals=[[0.9]], better=1)

    assert best(content) == ["70.0"]
    assert not content.total_cells[0][0].best
    assert best(table([0.5, 0.7], better=-1)) == ["50.0"]


def test_numbers_that_look_equal_are_both_the_best():
    assert best(table([0.70001, 0.7, 0.6], better=1)) == ["70.0", "70.0"]


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], ["a", "b"], [None, 0.5]])
def test_nothing_is_the_best_without_a_choice(values):
    assert best(table(values, better=1)) == []


def test_markdown_has_small_print_and_totals():
    columns = [Column("method", "text"), Column("IoU")]
    rows = [["a|b", Cell(0.5, lines=["± 1.0", "at 0.30"])]]

    assert markdown_table(Table("", columns, rows, [["mean", None]])) == [
        "| method | IoU, % |", "| --- | ---: |", r"| a\|b | 50.0 ± 1.0 (at 0.30) |", "| mean | - |",
    ]  # fmt: skip
