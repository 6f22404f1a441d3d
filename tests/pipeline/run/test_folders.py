"""Stages that know whether they are done, and that can always go on."""

import os
import shutil
import time

import pytest

from pipeline.base.errors import StorageError
from pipeline.base.files import write_bytes
from pipeline.run.folders import StageFolder


def test_a_stage_is_done_only_with_the_same_parts(tmp_path):
    stage = StageFolder(tmp_path / "some" / "stage", {"lr": 0.1})
    assert not stage.is_done
    assert stage.begin() is False
    assert not stage.is_done
    stage.finish({"loss": 1.5})

    assert StageFolder(stage.path, {"lr": 0.1}).is_done
    assert StageFolder(stage.path, {"lr": 0.1}).summary == {"loss": 1.5}
    assert not StageFolder(stage.path, {"lr": 0.2}).is_done


def test_a_killed_stage_keeps_its_files_and_goes_on(tmp_path):
    parts = {"lr": 0.1}
    StageFolder(tmp_path / "some" / "stage", parts).begin()
    (tmp_path / "some" / "stage" / "half").write_text("work")

    assert StageFolder(tmp_path / "some" / "stage", parts).begin() is True
    assert (tmp_path / "some" / "stage" / "half").exists()


def test_a_stage_with_other_settings_starts_from_an_empty_folder(tmp_path):
    StageFolder(tmp_path / "some" / "stage", {"lr": 0.1}).begin()
    (tmp_path / "some" / "stage" / "stale").write_text("work")

    assert StageFolder(tmp_path / "some" / "stage", {"lr": 0.2}).begin() is False
    assert not (tmp_path / "some" / "stage" / "stale").exists()


def test_a_folder_that_no_stage_made_is_never_removed(tmp_path):
    (tmp_path / "some" / "classifier").mkdir(parents=True)
    (tmp_path / "some" / "classifier" / "thesis.tex").write_text("years of work")

    with pytest.raises(StorageError, match="no stage made it"):
        StageFolder(tmp_path / "some" / "classifier", {}).begin()

    assert (tmp_path / "some" / "classifier" / "thesis.tex").exists()


def test_a_stage_that_lost_a_file_is_not_done(tmp_path):
    stage = StageFolder(tmp_path / "some" / "stage", {"lr": 0.1})
    stage.begin()
    (stage.path / "result").write_text("work")
    stage.finish({})
    assert stage.is_done

    (stage.path / "result").unlink()

    assert not stage.is_done
    assert stage.begin() is True


def test_the_time_of_a_killed_session_counts(tmp_path):
    stage = StageFolder(tmp_path / "some" / "stage", {"lr": 0.1})
    stage.begin()
    (stage.path / "half").write_text("work")
    in_a_minute = time.time() + 60
    os.utime(stage.path / "half", (in_a_minute, in_a_minute))

    stage.begin()
    stage.finish({})

    assert 60 <= stage.manifest.seconds < 70
    assert stage.manifest.resumed is True


def test_the_manifest_says_what_made_the_result(tmp_path):
    stage = StageFolder(tmp_path / "some" / "stage", {"lr": 0.1}, made_by={"git": "abc"})
    stage.begin()
    stage.finish({"loss": 1.0})
    stage.amend(scores=0.5)

    assert stage.manifest.made_by == {"git": "abc"}
    assert stage.summary == {"loss": 1.0, "scores": 0.5}
    assert stage.fingerprint == StageFolder(stage.path, {"lr": 0.1}).fingerprint
    assert stage.is_done


def finished(folder, **files):
    stage = StageFolder(folder / "masks" / "stage", {"lr": 0.1})
    stage.begin()
    for name, content in files.items():
        write_bytes(stage.path / "files" / name, content)
    stage.finish({})
    return stage


def test_a_stranger_does_not_make_up_for_a_lost_file(tmp_path):
    stage = finished(tmp_path, a=b"1", b=b"2")
    (stage.path / "files" / "a").unlink()
    (stage.path / "files" / ".DS_Store").write_text("")
    (stage.path / "files" / "c").write_text("")

    assert not stage.is_done
    assert stage.contents.missing() == ["files/a"]


def test_strangers_and_logs_do_no_harm(tmp_path):
    stage = finished(tmp_path, a=b"1")
    (stage.path / ".DS_Store").write_text("")
    (stage.path / "logs").mkdir()

    assert stage.is_done


def test_a_file_of_another_size_is_put_aside_and_made_again(tmp_path):
    stage = finished(tmp_path, a=b"1234", b=b"2")
    (stage.path / "files" / "a").write_bytes(b"12")

    assert not stage.is_done
    assert stage.begin() is True
    assert sorted(path.name for path in (stage.path / "files").iterdir()) == ["a.damaged", "b"]

    write_bytes(stage.path / "files" / "a", b"1234")
    stage.finish({})
    assert stage.is_done


def test_a_changed_byte_is_found_by_who_looks(tmp_path):
    stage = finished(tmp_path, a=b"1234", b=b"2")
    (stage.path / "files" / "a").write_bytes(b"1235")

    assert stage.is_done
    assert stage.contents.altered() == ["files/a"]


def test_a_link_whose_target_lost_a_file_is_noticed(tmp_path):
    stage = finished(tmp_path, a=b"1")
    (stage.path / "files").rename(tmp_path / "elsewhere")
    (stage.path / "files").symlink_to(tmp_path / "elsewhere")
    assert stage.is_done

    (tmp_path / "elsewhere" / "a").unlink()

    assert not stage.is_done


@pytest.mark.parametrize("text", ["{ not json", "", "[]", "{}", '{"state": "done"}'])
def test_a_damaged_manifest_is_named_and_the_work_is_kept(tmp_path, text):
    stage = finished(tmp_path, weights=b"hours of work")
    (stage.path / "manifest.json").write_text(text)

    for attempt in (stage.begin, lambda: stage.is_done, lambda: stage.finish({})):
        with pytest.raises(StorageError, match=r"manifest\.json: (damaged|made by another)"):
            attempt()

    assert (stage.path / "files" / "weights").exists()


def test_a_kill_before_the_first_manifest_does_no_harm(tmp_path):
    stage = StageFolder(tmp_path / "masks" / "stage", {})
    stage.path.mkdir(parents=True)
    (stage.path / ".0123456789ab.tmp").write_text("half a manifest")

    stage.begin()

    assert [path.name for path in stage.path.iterdir()] == ["manifest.json"]


def test_a_kill_while_an_outdated_folder_is_removed_does_no_harm(tmp_path, monkeypatch):
    old = finished(tmp_path, a=b"1", b=b"2")
    new = StageFolder(old.path, {"lr": 0.2})

    def killed(*_words, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            new._remove()
    assert not old.path.exists()

    new.begin()

    assert [path.name for path in new.path.iterdir()] == ["manifest.json"]
    assert not (tmp_path / ".trash").exists()


def test_a_link_to_an_outdated_folder_is_not_followed(tmp_path):
    old = finished(tmp_path, a=b"1")
    old.path.rename(tmp_path / "elsewhere")
    old.path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StorageError, match=r"a symbolic link[\s\S]*elsewhere"):
        StageFolder(old.path, {"lr": 0.2}).begin()

    assert (tmp_path / "elsewhere" / "files" / "a").exists()
