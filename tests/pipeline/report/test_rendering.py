"""Tables as text: what a data set calls its classes is shown, and is neither markup nor formula."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.rendering import csv_cell, csv_table, markdown

FORMULAS = [
    "=cmd|' /C calc'!A0", "+1", "-x", "@x", "\t=1", "\r=1", "\n=1", " =1", "\tx", "\rx", "\uff1d1",
    "=HYPERLINK(1)", "--1", "-1+1", "-1-cmd",
]  # fmt: skip


def read(text):
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("name", FORMULAS)
def test_text_is_no_formula(name):
    head, row = read(csv_table([{"class": name, name: 1}]))

    assert head == ["class", row[0]]
    assert row[0].startswith("'")
    assert row[0].replace("'", "") == name.replace("'", "").replace("\r", "\n")
    assert row[1] == "1"


@pytest.mark.parametrize("text", ["cat;=cmd", "cat;  +1", "cat\n@x", "cat\t-x"])
def test_other_separators_begin_no_formula(text):
    cell = csv_cell(text)

    assert cell.replace("'", "") == text
    assert cell[4] == "'"  # after the separator


@pytest.mark.parametrize("value", ["cat", "a-b", "a=b", "c+d", "e@f", "-0.5", "-1e-05", "", "'x'"])
def test_other_text_is_left_as_it_is(value):
    assert csv_cell(value) == value


def test_numbers_stay_numbers():
    assert csv_table([{"a": -0.5, "b": None, "c": 3}]) == "a,b,c\n-0.5,,3\n"


@given(st.text(alphabet="=+-@ \t\r\n;,'\"a1."))
def test_no_cell_begins_a_formula(text):
    _, (written, other) = read(csv_table([{"class": text, "other": "x"}]))

    assert other == "x"
    for cell in re.split("[\n\t;]", written):
        begins = cell.lstrip()[:1]
        assert begins not in ("=", "+", "@") or cell.startswith("'")
        assert begins != "-" or text == written  # a negative number


def test_markdown_shows_markup_as_text():
    name = "<script>alert(1)</script> [x](http://a.b) *b* _i_ `c` ~~d~~ a|b &amp; \\\ne_f"

    assert markdown(name) == (
        r"&lt;script>alert(1)&lt;/script> \[x\](http://a.b) \*b\* \_i\_ \`c\` \~\~d\~\~ a\|b "
        r"&amp;amp; \\ e_f"
    )
