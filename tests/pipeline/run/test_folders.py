"""Files that are whole or absent; stages that know whether they are done."""

import errno
import os
import time
from pathlib import Path

import pytest

from pipeline.base.errors import StorageError
from pipeline.base.files import atomic_path, fingerprint, write_bytes
from pipeline.run.folders import StageFolder


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "folder" / "file.bin"

    with atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        assert not target.exists()
        temporary.write_bytes(b"whole")

    assert target.read_bytes() == b"whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    target = tmp_path / "file.bin"
    write_bytes(target, b"old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half of the new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_reported_with_what_to_do_and_loses_nothing(tmp_path, monkeypatch):
    target = tmp_path / "file.bin"
    write_bytes(target, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"the disk is full .* run the same command again"):
        write_bytes(target, b"new")

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_other_write_errors_are_not_called_a_full_disk(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OSError, match=r"(?i)exists|not a directory"):
        write_bytes(tmp_path / "file" / "below", b"")


@pytest.mark.parametrize(
    "changed",
    [{"lr": 0.2}, {"lr": 0.1, "extra": None}, {}],
    ids=["other-value", "added-key", "missing-key"],
)
def test_a_fingerprint_differs_where_the_parts_differ(changed):
    assert fingerprint({"lr": 0.1}) != fingerprint(changed)


def test_a_stage_is_done_only_with_the_same_parts(tmp_path):
    stage = StageFolder(tmp_path / "stage", {"lr": 0.1})
    assert not stage.is_done
    assert stage.begin() is False
    assert not stage.is_done
    stage.finish({"loss": 1.5})

    assert StageFolder(stage.path, {"lr": 0.1}).is_done
    assert StageFolder(stage.path, {"lr": 0.1}).summary == {"loss": 1.5}
    assert not StageFolder(stage.path, {"lr": 0.2}).is_done


def test_a_killed_stage_keeps_its_files_and_goes_on(tmp_path):
    parts = {"lr": 0.1}
    StageFolder(tmp_path / "stage", parts).begin()
    (tmp_path / "stage" / "half").write_text("work")

    assert StageFolder(tmp_path / "stage", parts).begin() is True
    assert (tmp_path / "stage" / "half").exists()


def test_a_stage_with_other_settings_starts_from_an_empty_folder(tmp_path):
    StageFolder(tmp_path / "stage", {"lr": 0.1}).begin()
    (tmp_path / "stage" / "stale").write_text("work")

    assert StageFolder(tmp_path / "stage", {"lr": 0.2}).begin() is False
    assert not (tmp_path / "stage" / "stale").exists()


def test_a_folder_that_no_stage_made_is_never_removed(tmp_path):
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier" / "thesis.tex").write_text("years of work")

    with pytest.raises(StorageError, match="no stage made it"):
        StageFolder(tmp_path / "classifier", {}).begin()

    assert (tmp_path / "classifier" / "thesis.tex").exists()


def test_a_stage_that_lost_a_file_is_not_done(tmp_path):
    stage = StageFolder(tmp_path / "stage", {"lr": 0.1})
    stage.begin()
    (stage.path / "result").write_text("work")
    stage.finish({})
    assert stage.is_done

    (stage.path / "result").unlink()

    assert not stage.is_done
    assert stage.begin() is True


def test_the_time_of_a_killed_session_counts(tmp_path):
    stage = StageFolder(tmp_path / "stage", {"lr": 0.1})
    stage.begin()
    (stage.path / "half").write_text("work")
    in_a_minute = time.time() + 60
    os.utime(stage.path / "half", (in_a_minute, in_a_minute))

    stage.begin()
    stage.finish({})

    assert 60 <= stage.manifest["seconds"] < 70
    assert stage.manifest["resumed"] is True


def test_the_manifest_says_what_made_the_result(tmp_path):
    stage = StageFolder(tmp_path / "stage", {"lr": 0.1}, made_by={"git": "abc"})
    stage.begin()
    stage.finish({"loss": 1.0})
    stage.amend(scores=0.5)

    assert stage.manifest["made_by"] == {"git": "abc"}
    assert stage.summary == {"loss": 1.0, "scores": 0.5}
    assert stage.fingerprint == StageFolder(stage.path, {"lr": 0.1}).fingerprint
    assert stage.is_done


def test_an_unreadable_manifest_counts_as_not_done(tmp_path):
    stage = StageFolder(tmp_path, {"lr": 0.1})
    stage.begin()
    (tmp_path / "manifest.json").write_text("{ not json")

    assert not stage.is_done
