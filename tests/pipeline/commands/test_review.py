"""`tsgb review` as a person uses it."""

import csv
import json
import shlex
import shutil

import pytest

from pipeline.base.errors import DataError
from pipeline.base.files import read_sealed, write_sealed
from pipeline.command import main
from pipeline.commands.remembered import SETTINGS
from pipeline.data.images import read_image
from pipeline.inference import reviewing
from pipeline.inference.signals import SIGNALS
from pipeline.run.manifest import LAYOUT
from tests.pipeline.commands.test_report import outside_addresses
from tests.pipeline.stages.test_weak_contract import turn_masks


@pytest.fixture
def command(copied, capsys):
    """What the command says about the run; it leaves files in ``review/train`` or the like."""

    def run(*words, where=copied.folder, code=0):
        assert main(["review", *map(str, (where, *words))]) == code
        return " ".join(capsys.readouterr().err.split())

    return run


def rows_of(folder):
    with (folder / "review.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_ranked_list_a_table_and_a_page(copied, command):
    said = command("--top", "3")

    out = copied.folder / "review" / "train"
    rows = rows_of(out)
    assert {row["image"] for row in rows} == set(copied.data.train.ids)
    assert list(rows[0]) == ["rank", "image", "score", "reason", "label", "found", *SIGNALS]
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    first = [row["image"] for row in rows[:3]]
    assert (out / "images.txt").read_text().split() == first
    html = (out / "index.html").read_text(encoding="utf-8")
    shown = shown_in(html)
    assert [(image["id"], image["note"]) for image in shown] == [
        (row["image"], row["reason"]) for row in rows[:3]
    ]
    assert {tuple(image["layers"]) for image in shown} == {("photo", "prediction", "pseudo-mask")}
    assert not outside_addresses(html)
    assert "prefers-color-scheme: dark" in html
    assert "tsgb masks export" in said
    assert "data.corrected=FILE" in said


def test_the_next_command_takes_exactly_these_images_out(copied, command, tmp_path):
    command("--top", "3")
    out = copied.folder / "review" / "train"
    page = (out / "index.html").read_text(encoding="utf-8")
    words = shlex.split(page.partition("tsgb masks export")[2].partition("</code>")[0])

    assert main(["masks", "export", *words]) == 0

    first = {row["image"] for row in rows_of(out)[:3]}
    assert {path.stem for path in (out / "to_correct" / "images").iterdir()} == first


def shown_in(html):
    """What a page says of its images."""
    return json.loads(html.partition('id="images">')[2].partition("</script>")[0])["images"]


def at_other_data(run, root):
    """Let the settings that the run keeps name another copy of its data."""
    path = run.folder / SETTINGS
    old = f"data.root={run.settings.data['root']}"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, f"data.root={root}"))


def test_ground_truth_does_not_steer_the_list(copied, command, other_data, tmp_path):
    command()
    turn_masks(other_data)
    at_other_data(copied, other_data)

    command("--out", tmp_path / "again")

    before = copied.folder / "review" / "train" / "review.csv"
    assert (tmp_path / "again" / "review.csv").read_bytes() == before.read_bytes()


def test_the_same_command_looks_at_what_is_missing_and_changed(copied, command, monkeypatch):
    command()
    out, looked = copied.folder / "review" / "train", []
    before = (out / "review.csv").read_bytes()
    whole = reviewing.Reviewer.look
    monkeypatch.setattr(
        reviewing.Reviewer, "look", lambda self, i: (looked.append(i.id), whole(self, i))
    )
    lost, damaged = copied.data.train.ids[1:3]
    (out / "labels" / f"{lost}.png").unlink()
    (out / ".done" / f"{damaged}.json").write_text("{")

    said = command("--top", "1")

    assert looked == [lost, damaged]
    assert "8 of 10 images were looked at already" in said
    assert (out / "review.csv").read_bytes() == before


def test_one_bad_image_is_named_and_the_others_are_ranked(copied, command, monkeypatch):
    bad = copied.data.train.items[4]

    def read(path):
        if path == bad.image:
            raise DataError(f"{path}: not a whole image")
        return read_image(path)

    monkeypatch.setattr("pipeline.data.pixels.read_image", read)

    said = command(code=1)

    assert "1 of 10 images failed; the other 9 are done" in said
    assert f"{bad.id}: " in said
    assert len(rows_of(copied.folder / "review" / "train")) == 9


def test_held_out_images_have_no_pseudo_masks(copied, command):
    said = command("--split", "val")

    rows = rows_of(copied.folder / "review" / "val")
    assert {row["image"] for row in rows} == set(copied.data.val.ids)
    assert {row["network_vs_mask"] for row in rows} == {""}
    assert "masks export" not in said
    html = (copied.folder / "review" / "val" / "index.html").read_text(encoding="utf-8")
    assert all(list(image["layers"]) == ["photo", "prediction"] for image in shown_in(html))


def test_what_the_label_names_and_nobody_finds_is_said(copied, command):
    command()

    for row in rows_of(copied.folder / "review" / "train"):
        missed = set(row["label"].split(", ")) - set(row["found"].split(", ")) - {""}
        assert float(row["named_not_found"]) == len(missed)
        if missed:
            assert row["reason"].startswith("The label says ")
            assert "; the network found none" in row["reason"]


def test_a_network_of_the_run_may_be_named(copied, command):
    command(where=copied.stage("segmentation").path)

    assert (copied.folder / "review" / "train" / "review.csv").exists()


def test_no_run_and_half_a_run(copied, command, tmp_path):
    assert "no such file or folder" in command(where=tmp_path / "nowhere", code=1)
    (tmp_path / "empty").mkdir()
    assert "has no network. Run `tsgb run run_dir=" in command(where=tmp_path / "empty", code=1)
    shutil.copytree(copied.folder, tmp_path / "half")
    for path in (tmp_path / "half" / "segmentation").glob("*/manifest.json"):
        write_sealed(path, {**read_sealed(path, LAYOUT, ""), "state": "running"})
    assert "its network is not finished" in command(where=tmp_path / "half", code=1)
    (copied.folder / SETTINGS).unlink()
    assert f"{SETTINGS}: not there" in command(code=1)


@pytest.mark.parametrize("top", ["0", "-1", "x"])
def test_a_list_has_images(copied, command, top, capsys):
    with pytest.raises(SystemExit):
        command("--top", top)
    assert "a whole number from 1" in capsys.readouterr().err
