"""Files that are whole or absent, sealed JSON, and what is said when the disk refuses."""

import errno
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import StorageError
from pipeline.base.files import (
    atomic_path,
    fingerprint,
    put_aside,
    read_sealed,
    storage_explained,
    write_bytes,
    write_sealed,
)


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


def refuse(code):
    def write(path, *_):
        raise OSError(code, "as the system calls it", str(path))

    return write


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, r"the disk is full .* run the same command again"),
        (errno.EDQUOT, r"the disk is full .* run the same command again"),
        (errno.EFBIG, r"may not be that large .* run_dir=PATH"),
        (errno.EROFS, r"can only be read.* run_dir=PATH"),
        (errno.EACCES, r"permission denied.* run_dir=PATH"),
        (errno.EIO, r"the disk reports an error"),
    ],
)
def test_a_file_that_cannot_be_written_is_named_with_what_to_do(
    tmp_path, monkeypatch, code, advice
):
    target = tmp_path / "file.bin"
    write_bytes(target, b"old")

    monkeypatch.setattr(Path, "write_bytes", refuse(code))
    with pytest.raises(StorageError, match=rf"{tmp_path}.*{advice}"):
        write_bytes(target, b"new")

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StorageError, match=r"file: a file is where a folder should be"):
        write_bytes(tmp_path / "file" / "below", b"")


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    write_bytes(tmp_path / f"{'i' * 251}.png", b"")  # 255 bytes

    with pytest.raises(StorageError, match="the name is too long"):
        write_bytes(tmp_path / f"{'i' * 252}.png", b"")


def test_errors_of_a_library_that_names_no_file_are_said_of_the_folder(tmp_path):
    with (
        pytest.raises(StorageError, match=rf"{tmp_path}: the disk is full"),
        storage_explained(tmp_path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_other_errors_pass():
    with pytest.raises(FileNotFoundError), storage_explained(Path()):
        raise FileNotFoundError(errno.ENOENT, "No such file")


def test_the_bytes_are_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    replace = Path.replace
    monkeypatch.setattr("pipeline.base.files.os.fsync", lambda _: calls.append("flush"))
    monkeypatch.setattr(
        Path, "replace", lambda *paths: (calls.append("rename"), replace(*paths))[1]
    )

    write_bytes(tmp_path / "file", b"new")

    assert calls == ["flush", "rename"]


def test_a_damaged_file_makes_room(tmp_path):
    write_bytes(tmp_path / "file.png", b"damaged")

    assert put_aside(tmp_path / "file.png").read_bytes() == b"damaged"
    assert not (tmp_path / "file.png").exists()


def test_sealed_json_comes_back(tmp_path):
    value = {"layout": 3, "seconds": 0.1, "summary": {1: None, "b": [1, "ä"]}}

    write_sealed(tmp_path / "a.json", value)

    expected = {**value, "summary": {"1": None, "b": [1, "ä"]}}
    assert read_sealed(tmp_path / "a.json", 3, "") == expected


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    max_leaves=5,
)


@given(ANY_JSON, st.sampled_from(["layout", "seconds", "summary", "seal", "new"]))
def test_any_change_to_sealed_json_is_noticed(tmp_path_factory, value, key):
    path = tmp_path_factory.mktemp("sealed") / "a.json"
    write_sealed(path, {"layout": 3, "seconds": 0.1, "summary": {}})
    written = json.loads(path.read_text())
    if key in written and json.dumps(written[key]) == json.dumps(value):
        return

    path.write_text(json.dumps({**written, key: value}))

    with pytest.raises(StorageError, match=r"a\.json: (damaged|made by another version)"):
        read_sealed(path, 3, "Remove it")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"text"', "{}", "[" * 10**5, "\0"])
def test_what_is_no_sealed_json_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)

    with pytest.raises(StorageError, match=r"a\.json: (damaged|made by another)"):
        read_sealed(tmp_path / "a.json", 3, "Remove it")


@pytest.mark.parametrize(
    "changed",
    [{"lr": 0.2}, {"lr": 0.1, "extra": None}, {}],
    ids=["other-value", "added-key", "missing-key"],
)
def test_a_fingerprint_differs_where_the_parts_differ(changed):
    assert fingerprint({"lr": 0.1}) != fingerprint(changed)
