"""Ids as names of files, on every system."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.ids import id_problem, plain_id


@pytest.mark.parametrize(
    "id_",
    [
        "2007_000032",
        "garden/cat 1",
        "cat.1",
        "\u732b",
        ".hidden",
        "console",
        "a..b",
        "x" * 251,
        "com",
    ],
)
def test_ordinary_names_are_safe(id_):
    assert id_problem(id_) is None


@pytest.mark.parametrize(
    ("id_", "reason"),
    [
        pytest.param("..", "the part '..'", id="up"),
        pytest.param("a/../../b", "the part '..'", id="up-inside"),
        pytest.param("a/./b", "the part '.'", id="here"),
        pytest.param("a//b", "the part ''", id="empty-part"),
        pytest.param("", "the part ''", id="empty"),
        pytest.param("/etc/x", "absolute", id="absolute"),
        pytest.param("c:x", "absolute", id="drive"),
        pytest.param("..\\x", "backslash", id="backslash"),
        pytest.param("a\0b", "control character", id="nul-byte"),
        pytest.param("a\x1b[2Jb", "control character", id="escape"),
        pytest.param("a\u2028b", "control character", id="line-separator"),
        pytest.param("x" * 252, "252 bytes", id="long"),
        pytest.param("a/" + "\u732b" * 84, "252 bytes", id="long-in-bytes"),
        pytest.param("aux", "Windows reserves", id="device"),
        pytest.param("a/Com1.left", "Windows reserves", id="device-with-suffix"),
        pytest.param("LPT9 /x", "Windows reserves", id="device-with-space"),
    ],
)
def test_names_that_lead_elsewhere_or_cannot_be_stored_are_not(id_, reason):
    assert reason in id_problem(id_)


@given(st.text())
def test_a_safe_id_stays_in_its_folder(tmp_path_factory, text):
    id_ = plain_id(text)
    if id_problem(id_) is None:
        folder = tmp_path_factory.getbasetemp()
        assert (folder / f"{id_}.png").resolve().is_relative_to(folder.resolve())
