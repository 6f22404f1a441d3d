"""Whatever a data set calls its classes, a terminal shows it and obeys none of it."""

import io
import logging
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.base import terminal as module
from pipeline.base.said import libraries_heard, logged_to
from pipeline.base.terminal import Headline, Place, Terminal, ToPaste, printable

NASTY = ["[/x]", "[red]runs/[/red]a", "[link=http://a.b]c[/link]", ":cat:", "\\[bold]", "[", "a{x}"]


@pytest.fixture
def terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    return Terminal(console=console)


@pytest.fixture
def pipe():
    """Standard error of a command whose output goes into a file."""
    return Terminal(console=Console(file=io.StringIO(), width=80))


def shown(terminal):
    return terminal.console.file.getvalue()


@pytest.mark.parametrize("name", NASTY)
def test_names_are_printed_as_they_are(terminal, name):
    terminal.note(f"reading {name}", about=f"stage {name}", style="bold red")
    terminal.say(f"class {name}", f"runs/{name}/index.html")
    terminal.summarise(Path(f"title {name}"))
    with terminal.progress(f"doing {name}", 2) as step:
        step(1, 2)

    for text in ("reading ", "stage ", "class ", "doing "):
        assert f"{text}{name}" in shown(terminal)
    assert f"runs/{name}/index.html" in shown(terminal)


def test_a_name_cannot_move_the_cursor_or_hide_text(terminal):
    name = "a\x1b[2Jb\rc\x07\x9b\u202e"

    terminal.note(name)
    terminal.say(name, name)
    terminal.say(name, Path(name))
    terminal.say(name, ToPaste(name))
    terminal.summarise(Path(name))

    assert shown(terminal).count(r"a\x1b[2Jb\rc\x07\x9b\u202e") == 7  # of the path only "."
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


def test_the_summary_has_headlines_numbers_files_and_then_what_to_do(pipe):
    folder = Path("runs") / "photos"
    long = folder / "segmentation" / ("a_very_long_word_about_the_choices_" * 3) / "last.ckpt"
    pipe.say("segmenter", long)
    pipe.say("predict", ToPaste("tsgb predict runs/photos photos/ --out predictions/ " + "x" * 60))
    pipe.say("seed mIoU", "0.5 " + "and more words " * 20)
    pipe.say("elsewhere", Path("/somewhere/else"))
    pipe.say("segmenter mIoU", Headline("0.612"))

    pipe.summarise(folder)

    lines = [line.rstrip() for line in shown(pipe).splitlines()]
    assert lines[0] == "  segmenter mIoU  0.612"
    assert lines[1].startswith("  seed mIoU       0.5 and more")
    start = lines.index(f"Files in: {folder}")
    assert lines[start + 1] == f"  segmenter  {long.relative_to(folder)}"
    assert lines[start + 2] == "  elsewhere  /somewhere/else"
    assert lines[start + 3].startswith("predict: tsgb predict runs/photos")
    assert lines[start + 3].endswith("x" * 60)
    assert max(map(len, lines[:start])) <= 80


def test_where_there_is_no_terminal_progress_is_a_line_now_and_then(pipe, monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    pipe.place = Place(2, 7, later=60.0)

    with pipe.progress("masks", 9) as step:
        for done in range(1, 10):
            step(done, 9)

    lines = shown(pipe).splitlines()
    assert [line.split(",")[0] for line in lines] == [f"[2/7] masks: {n} of 9" for n in (3, 6, 9)]


def test_progress_names_the_time_left_of_the_stage_and_of_the_job(terminal):
    terminal.place = Place(2, 7, later=3600.0)

    with terminal.progress("classifier", 10) as step:
        for done in range(1, 11):
            step(done, 10, f"classifier, epoch {done} of 10")

    assert "[2/7] classifier, epoch 10 of 10" in shown(terminal)
    assert "0:00:00 left, job 1:00:00" in shown(terminal)


def test_without_bars_there_is_no_progress(pipe, monkeypatch):
    monkeypatch.setattr(module, "_EVERY", 0.0)
    pipe.bars = False

    with pipe.progress("masks", 9) as step:
        step(1, 9)

    assert shown(pipe) == ""


def test_the_log_holds_what_was_said_and_how_it_ended(pipe, tmp_path):
    path, other = tmp_path / "run" / "run.log", logging.getLogger("library")

    with logged_to(path):
        pipe.warn("one image is grey")  # before there is a folder
        path.parent.mkdir()
        pipe.note("starting", "classifier")
        other.warning("from a library")
        pipe.say("seed mIoU", "0.5")
        pipe.table("shapes", ["class", "images"], [["star", "7"]])
        pipe.summarise(tmp_path)
        pipe.fail(ValueError("the disk is full"))

    told = [line.split(" ", 3)[3] for line in path.read_text().splitlines()]
    assert told == [
        "WARNING one image is grey", "INFO classifier: starting", "WARNING from a library",
        "INFO shapes: class | images", "INFO shapes: star | 7",
        "INFO seed mIoU: 0.5", "ERROR ValueError: the disk is full",
    ]  # fmt: skip


def test_a_command_that_makes_no_folder_leaves_no_log(pipe, tmp_path):
    with logged_to(tmp_path / "run" / "run.log"):
        pipe.fail(ValueError("no such setting"))

    assert not (tmp_path / "run").exists()


def test_eighty_columns_hold_the_count_and_the_time_left():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    terminal = Terminal(console=console, place=Place(4, 7, later=3600.0))

    with terminal.progress("segmentation", 21200) as step:
        for done in range(1, 4):
            step(done, 21200, f"segmentation epoch {done}/400")

    *_, last = (line for line in shown(terminal).splitlines() if "epoch 3/400" in line)
    assert "3/21200" in last
    assert ", job " in last
    assert "…" not in last


def test_warnings_of_libraries_are_notes_of_one_line(pipe):
    with warnings.catch_warnings(), libraries_heard(pipe):
        warnings.simplefilter("always")
        warnings.warn("two\n  lines", RuntimeWarning, stacklevel=1)
        logging.getLogger("library").warning("no disk left")
        logging.getLogger("library").info("nobody needs this")

    first, second = shown(pipe).splitlines()
    assert first.startswith("Note: two lines (RuntimeWarning, test_terminal.py:")
    assert second == "Note: no disk left (library)"
