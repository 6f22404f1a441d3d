"""Words of a command line in Hydra's grammar: paths are paths, whatever is in their names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import ConfigError
from pipeline.commands.words import Word, quoted, read_word, split_flags


@pytest.mark.parametrize(
    "path",
    ["/x/a=b", "/x/a (1)", "/x/a#b", "/x/über", "/x/a'b", "/x/[1]", "/x/{a}", "/x/a&b", "/x/é!"],
)
def test_a_path_is_taken_as_it_is(path):
    assert read_word(f"data.images={path}").parsed.value() == path


def test_the_home_folder_is_expanded_also_in_lists():
    assert read_word("data.images=~/photos").parsed.value() == f"{Path.home()}/photos"
    assert read_word("compare.runs=[~/a,b]").parsed.value() == [f"{Path.home()}/a", "b"]
    assert read_word("~data.classes").plus == "~"


def test_a_folder_with_a_comma_is_one_value_where_it_exists(tmp_path):
    (tmp_path / "a,b").mkdir()

    assert read_word(f"data.images={tmp_path}/a,b").parsed.value() == f"{tmp_path}/a,b"
    with pytest.raises(ConfigError, match=r"only a sweep takes.*Add -m.*'data\.images=\"/x/a,b\"'"):
        read_word("data.images=/x/a,b")
    assert [str(word) for word in read_word("seed=a,b", sweep=True).choices] == ["seed=a", "seed=b"]


@pytest.mark.parametrize("text", ["classes=[a,b", "refine={a: 1", 'data.name="a'])
def test_half_a_list_is_no_text(text):
    with pytest.raises(ConfigError, match=r"cannot be read.*Quote a value that is meant as text"):
        read_word(text)


def test_a_word_that_is_no_setting_is_named():
    with pytest.raises(ConfigError, match=r"report: settings are KEY=VALUE. Did you mean stage=r"):
        read_word("report")
    with pytest.raises(ConfigError, match=r"Did you mean stage=report\?"):
        read_word("reprot")
    with pytest.raises(ConfigError, match="not a setting"):
        read_word("photos/")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1))
def test_any_text_comes_back_from_its_quotation(text):
    if "${" not in text:  # which is a reference, in quotation marks too
        assert quoted(Word("", "run_dir", text)).parsed.value() == text


@given(st.lists(st.sampled_from(["-m", "--cfg job", "a=1", "+b=2", "~c"])))
def test_flags_and_settings_keep_their_order(parts):
    arguments = " ".join(parts).split()
    flags, settings = split_flags(arguments)

    assert sorted(flags + settings) == sorted(arguments)
    assert settings == [a for a in arguments if a in ("a=1", "+b=2", "~c")]
