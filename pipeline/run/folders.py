"""Stage folders that know whether they are done."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.base.errors import StorageError
from pipeline.base.files import fingerprint, read_json, write_json

MANIFEST = "manifest.json"
LAYOUT = 2  # of run folders; one that another version made is named as such


@dataclass
class StageFolder:
    """The folder of one stage: done, half done by a killed run, or to be made.

    ``manifest.json`` holds the fingerprint of everything that the result depends on (``parts``: the
    stage's own settings, the stages before it, the data, the code), the state, the seconds that it
    took, a summary of what came out, and what made it.

    Attributes:
        path: The folder.
        parts: Plain values; where they differ, the result differs.
        made_by: Versions and revision, for the record; they do not make it another result.
    """

    path: Path
    parts: dict[str, Any]
    made_by: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of everything that the content depends on."""
        return fingerprint(self.parts)

    @property
    def manifest(self) -> dict[str, Any]:
        """Content of the manifest; empty if there is none that can be read."""
        try:
            return dict(read_json(self.path / MANIFEST))
        except (OSError, ValueError):
            return {}

    @property
    def is_done(self) -> bool:
        """True if the stage ended well with exactly these parts, and no file is missing."""
        manifest = self.manifest
        same = manifest.get("state") == "done" and manifest["fingerprint"] == self.fingerprint
        return same and self._count_files() >= manifest["files"]

    def _count_files(self) -> int:
        return sum(len(files) for _, _, files in os.walk(self.path))

    @property
    def summary(self) -> dict[str, Any]:
        """Summary of the result, as given to ``finish``."""
        return dict(self.manifest.get("summary", {}))

    @contextmanager
    def alone(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Keep other processes from working on the stage during the block; not reentrant.

        The lock is an empty file in ``.locks``, beside the stages. On a disk without locks nobody
        waits.

        Args:
            waiting: Called before waiting for another process that holds the lock.
        """
        locks = self.path.parents[1] / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{self.path.parent.name}-{self.path.name}")
        taken: AbstractContextManager[object] = nullcontext()
        try:
            taken = lock.acquire(blocking=False)
        except Timeout:
            waiting()
            taken = lock.acquire()
        except (OSError, NotImplementedError):
            pass
        with taken:
            yield

    def begin(self) -> bool:
        """Prepare the folder; True if a killed run with the same parts is resumed.

        Results made with other parts are removed.

        Raises:
            StorageError: The folder holds files that no stage made.
        """
        manifest = self.manifest
        resumed = manifest.get("fingerprint") == self.fingerprint
        if self.path.exists() and not resumed:
            self._remove()
        self.path.mkdir(parents=True, exist_ok=True)
        earlier = self._seconds_worked(manifest) if resumed else 0.0
        self._write(state="running", seconds=earlier, began=time.time(), resumed=resumed)
        return resumed

    def _seconds_worked(self, manifest: dict[str, Any]) -> float:
        """Seconds of earlier sessions; a killed one worked until it wrote its last file."""
        if manifest["state"] == "done":
            return float(manifest["seconds"])
        times = (path.stat().st_mtime for path in self.path.rglob("*") if path.is_file())
        last: float = max(times) - manifest["began"]
        return float(manifest["seconds"]) + max(last, 0.0)

    def _remove(self) -> None:
        """Remove what was made with other parts, but never a folder that is not a stage's."""
        if any(self.path.iterdir()) and not (self.path / MANIFEST).exists():
            raise StorageError(
                f"{self.path}: holds files, but no {MANIFEST}, so no stage made it. They would be "
                "lost. Choose another folder for the run with run_dir=PATH."
            )
        shutil.rmtree(self.path)

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the stage as done, with a summary of its result."""
        begun = self.manifest
        seconds = round(begun["seconds"] + time.time() - begun["began"], 1)
        files = self._count_files()
        self._write(
            state="done", seconds=seconds, resumed=begun["resumed"], files=files, summary=summary
        )

    def amend(self, **results: Any) -> None:
        """Add to the summary of a stage that is done; its own result stays as it is."""
        manifest = self.manifest
        summary = {**manifest["summary"], **results}
        write_json(self.path / MANIFEST, {**manifest, "summary": summary})

    def _write(self, **facts: Any) -> None:
        always = {"fingerprint": self.fingerprint, "parts": self.parts, "made_by": self.made_by}
        write_json(self.path / MANIFEST, {"layout": LAYOUT, **facts, **always})


def check_layout(run: Path) -> None:
    """Refuse a run folder that another version of this project made.

    Raises:
        StorageError: Names the stage and both versions.
    """
    for path in sorted(run.glob(f"*/*/{MANIFEST}")):
        found = StageFolder(path.parent, {}).manifest.get("layout")
        if StageFolder(path.parent, {}).manifest and found != LAYOUT:
            raise StorageError(
                f"{path.parent}: made by another version of this project (layout {found or 1}, "
                f"this version reads {LAYOUT}). Choose another folder with run_dir=PATH, or remove "
                f"{run}."
            )
