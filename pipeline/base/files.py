"""Atomic writes, and fingerprints of values and files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.base.errors import StorageError

DAMAGED = ".damaged"  # ends the name of a file that was put aside
_TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.tmp")  # short, so that a name may have 255 bytes
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ELSEWHERE = "choose another place with run_dir=PATH or --out PATH"
_WRITING = {
    errno.EFBIG: "a file may not be that large here (ulimit -f, or a limit of the file system). "
    f"Raise the limit, or {_ELSEWHERE}",
    errno.EROFS: f"the file system can only be read: {_ELSEWHERE}",
    errno.EACCES: f"permission denied. Change the permissions, or {_ELSEWHERE}",
    errno.EPERM: f"not permitted: {_ELSEWHERE}",
    errno.ENAMETOOLONG: "the name is too long for the file system. Shorten the names of the "
    f"images (their ids), or {_ELSEWHERE}",
    errno.ENOTDIR: f"a file is where a folder should be. Move it, or {_ELSEWHERE}",
    errno.EEXIST: f"a file is where a folder should be. Move it, or {_ELSEWHERE}",
    errno.EISDIR: f"a folder is where a file should be. Move it, or {_ELSEWHERE}",
    errno.ELOOP: "symbolic links go in a circle. Correct them",
    errno.EIO: "the disk reports an error (EIO). Check it; the same command goes on",
}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path that is renamed to ``path`` if the block succeeds, and deleted if not.

    The bytes are on the disk before the name changes, so that a power cut leaves the old file or
    the new one.

    Raises:
        StorageError: The file cannot be written. Files written before are kept.
    """
    with storage_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.tmp")
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_temporary(path: Path) -> bool:
    """True for the temporary names of ``atomic_path``; a killed process leaves them."""
    return bool(_TEMPORARY.fullmatch(path.name))


@contextmanager
def storage_explained(path: Path) -> Iterator[None]:
    """Turn errors of the file system into advice, also where a library writes.

    Args:
        path: What is written, for errors that do not name a file themselves.

    Raises:
        StorageError: The disk is full, the folder cannot be written, a name is too long...
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (*_FULL, *_WRITING):
            raise
        place = Path(os.fsdecode(error.filename)) if error.filename else path
        raise StorageError(f"{place}: {_explanation(error, place)}") from error


def _explanation(error: OSError, path: Path) -> str:
    if error.errno in _WRITING:
        return f"{_WRITING[error.errno]}."
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free / 2**20
    return (
        f"the disk is full ({free:.0f} MiB free). This file is lost; everything written before it "
        "is kept. Free some space and run the same command again: it resumes here."
    )


def put_aside(path: Path) -> Path:
    """Give a damaged file another name, so that what made it makes it anew; return that name."""
    aside = path.with_name(f"{path.name}{DAMAGED}")
    with storage_explained(path):
        path.replace(aside)
    return aside


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON with a fingerprint of itself, by which ``read_sealed`` notices any change."""
    plain = json.loads(json.dumps(value))  # as it will be read: keys are words
    write_json(path, {**plain, "seal": fingerprint(plain)})


def read_sealed(path: Path, layout: int, remedy: str) -> dict[str, Any]:
    """What ``write_sealed`` wrote, without the seal.

    Args:
        path: The file.
        layout: What the value's own ``layout`` must be.
        remedy: What a person can do about a damaged file.

    Raises:
        StorageError: It was changed or damaged, or has another layout.
    """
    try:
        value = read_json(path)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path}: damaged ({error}). {remedy}.") from error
    found = value.get("layout", 1) if isinstance(value, dict) else None
    seal = value.pop("seal", None) if isinstance(value, dict) else None
    if isinstance(found, int) and found != layout:
        raise StorageError(
            f"{path}: made by another version of this project (layout {found}, this version reads "
            f"{layout}). Choose another folder with run_dir=PATH, or remove the old one."
        )
    if seal is None or seal != fingerprint(value):
        raise StorageError(f"{path}: damaged, or changed by hand. {remedy}.")
    return dict(value)


def fingerprint(parts: Any) -> str:
    """A hash of plain values, as 16 hexadecimal digits; the order of keys does not matter.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_fingerprint(path: Path) -> str:
    """A hash of a file's content, as 16 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
