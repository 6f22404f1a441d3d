"""What a stage writes down about itself, and the list of its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from pipeline.base.errors import MissingArtifactError, StorageError
from pipeline.base.files import DAMAGED, file_fingerprint, is_temporary, read_sealed, write_sealed

MANIFEST = "manifest.json"
LAYOUT = 3  # of run folders; one that another version made is named as such
_CONTENTS = "contents.json"
_LOGS = "logs"  # of a training: nothing is made from them


@dataclass(frozen=True)
class Manifest:
    """How far a stage is, what its result depends on, and what came out.

    Attributes:
        state: ``running`` or ``done``.
        fingerprint: Fingerprint of ``parts``.
        parts: Everything that the result depends on.
        made_by: Versions and revision, for the record.
        seconds: Time spent in finished sessions.
        began: When the last session began, in seconds since 1970.
        resumed: Whether that session went on with the work of a killed one.
        summary: What came out.
    """

    state: str
    fingerprint: str
    parts: dict[str, Any]
    made_by: dict[str, Any]
    seconds: float
    began: float
    resumed: bool
    summary: dict[str, Any] = field(default_factory=dict)
    layout: int = LAYOUT

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The manifest of a stage's folder; None if there is none.

        Raises:
            StorageError: It is damaged, or another version of this project wrote it.
        """
        path = folder / MANIFEST
        if not path.exists():
            return None
        remedy = f"Restore it from a copy, or remove {folder}: the same command makes it anew"
        return cls(**read_sealed(path, LAYOUT, remedy))

    def write(self, folder: Path) -> None:
        """Replace the manifest of a folder."""
        write_sealed(folder / MANIFEST, asdict(self))

    @property
    def is_done(self) -> bool:
        """True if the stage ended well."""
        return self.state == "done"


def has_stages(run: Path) -> bool:
    """Whether any stage has begun in the folder of a run."""
    return any(run.glob(f"*/*/{MANIFEST}"))


def require_stages(run: Path) -> None:
    """Refuse a folder without any stage, for commands that read what stages left.

    Raises:
        MissingArtifactError: Names the folder.
    """
    if not has_stages(run):
        raise MissingArtifactError(
            f"{run.absolute()}: no stage has run here. Name the folder of a run: run_dir=PATH."
        )


class Contents:
    """The files of a finished stage, each with its size and a hash of its bytes.

    Args:
        folder: The stage's folder. Logs, hidden files and those that were put aside do not count;
            symbolic links are followed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / _CONTENTS

    def record(self) -> None:
        """Write down the files that are there."""
        found = {name: [path.stat().st_size, file_fingerprint(path)] for name, path in self._walk()}
        write_sealed(self._path, {"layout": LAYOUT, "files": found})

    def _walk(self) -> Iterator[tuple[str, Path]]:
        for folder, _, names in os.walk(self.folder, followlinks=True):
            for name in names:
                path = Path(folder, name)
                relative = path.relative_to(self.folder)
                hidden = any(part.startswith(".") for part in relative.parts)
                own = path.parent == self.folder and name in (MANIFEST, _CONTENTS)
                if not (hidden or own or relative.parts[0].startswith(_LOGS) or DAMAGED in name):
                    yield relative.as_posix(), path

    @property
    def recorded(self) -> dict[str, tuple[int, str]] | None:
        """Size and hash by name; None if they cannot be read."""
        try:
            files = read_sealed(self._path, LAYOUT, "")["files"]
        except (OSError, StorageError):
            return None
        return {name: (size, content) for name, (size, content) in files.items()}

    def missing(self) -> list[str]:
        """Recorded files that are gone, or have another size."""
        recorded = self.recorded
        if recorded is None:
            return [_CONTENTS]
        return [name for name, (size, _) in recorded.items() if self._size(name) != size]

    def _size(self, name: str) -> int | None:
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            return None

    def altered(self) -> list[str]:
        """Recorded files that are there and hold other bytes than were written; reads them all."""
        recorded = self.recorded or {}
        there = {name: text for name, (_, text) in recorded.items() if self._size(name) is not None}
        return [n for n, text in there.items() if file_fingerprint(self.folder / n) != text]


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left; only for who holds the folder's lock."""
    for path in folder.rglob("*"):
        if is_temporary(path):
            path.unlink(missing_ok=True)
