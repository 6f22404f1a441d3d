"""Pages in a real browser, and as Markdown."""

from pipeline.report import page as report
from pipeline.report.tables import Column, Table

TABLE = Table(
    "", [Column("name", "text"), Column("score")], [["b", 0.2], ["a", None], ["c", 0.7]],
    [["mean", 0.4]], sortable=True,
)  # fmt: skip


def page(*blocks):
    return report.Page("x", "f", "now", [report.Section("Part", blocks, "Part")])


def test_a_click_on_a_title_sorts_and_a_dash_stays_last(browse):
    found = browse(
        report.render(page(TABLE)),
        "const names = () => [...document.querySelectorAll('tbody td:first-child')]"
        ".map(node => node.textContent); const found = [names()]; "
        "const [name, score] = document.querySelectorAll('th button'); "
        "for (const b of [score, score, name]) { b.click(); found.push(names()); } return found;",
    )

    assert found == [
        ["b", "a", "c", "mean"], ["c", "b", "a", "mean"], ["b", "c", "a", "mean"],
        ["a", "b", "c", "mean"],
    ]  # fmt: skip


def test_a_command_is_copied(browse):
    found = browse(
        report.render(page(report.Commands({"go on": "tsgb run"}))),
        "const button = document.querySelector('[data-copy]'); button.click();"
        "return [button.dataset.copy, button.textContent];",
    )

    assert found == ["tsgb run", "copied"]


def test_markdown_has_words_facts_and_tables_also_those_that_are_folded():
    text = report.as_markdown(
        page(
            report.Text("Look."), report.Facts([("a", "1"), ("a", "2")]), report.Fold("t", [TABLE])
        )
    )

    assert text.startswith("# x\n\n## Part\n\nLook.\n\n- a: 1\n- a: 2\n")
    assert "| b | 20.0 |" in text


def test_parts_without_content_are_left_out_with_their_links():
    html = report.render(report.Page("x", "f", "now", [report.Section("Empty", [], "Empty")]))

    assert "Empty" not in html
