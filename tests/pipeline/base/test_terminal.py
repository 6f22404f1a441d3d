"""Whatever a data set calls its classes, a terminal shows it and obeys none of it."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.base.terminal import Terminal, printable

NASTY = ["[/x]", "[red]runs/[/red]a", "[link=http://a.b]c[/link]", ":cat:", "\\[bold]", "[", "a{x}"]


@pytest.fixture
def terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    return Terminal(console=console)


def shown(terminal):
    return terminal.console.file.getvalue()


@pytest.mark.parametrize("name", NASTY)
def test_names_are_printed_as_they_are(terminal, name):
    terminal.note(f"reading {name}", about=f"stage {name}", style="bold red")
    terminal.say(f"class {name}", f"runs/{name}/index.html")
    terminal.summarise(f"title {name}")
    with terminal.progress(f"doing {name}", 2) as step:
        step(1, 2)

    for text in ("reading ", "stage ", "class ", "title ", "doing "):
        assert f"{text}{name}" in shown(terminal)
    assert f"runs/{name}/index.html" in shown(terminal)


def test_a_name_cannot_move_the_cursor_or_hide_text(terminal):
    name = "a\x1b[2Jb\rc\x07\x9b\u202e"

    terminal.note(name)
    terminal.say(name, name)
    terminal.summarise(name)

    assert shown(terminal).count(r"a\x1b[2Jb\rc\x07\x9b\u202e") == 4
    assert not {"\x1b", "\r", "\x07", "\x9b", "\u202e"} & set(shown(terminal))


@given(st.text())
def test_printable_text_has_no_control_characters(text):
    safe = printable(text)

    assert not [c for c in safe if c not in "\t\n" and (c < " " or "\x7f" <= c <= "\x9f")]
    assert printable(safe) == safe
    if text.isprintable():
        assert safe == text


def test_several_lines_stay_several_lines(terminal):
    terminal.note("first\n\tsecond")

    assert shown(terminal).splitlines()[1].strip() == "second"
