"""Stage folders that know whether they are done."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.base.errors import StorageError
from pipeline.base.files import fingerprint, put_aside, storage_explained
from pipeline.run.manifest import MANIFEST, Contents, Manifest, sweep

_TRASH = ".trash"
_PROCESSES = "processes"  # the part that does not make it another training


@dataclass
class StageFolder:
    """The folder of one stage: done, half done by a killed run, or to be made.

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
    def manifest(self) -> Manifest | None:
        """What the stage wrote down; None before its first start.

        Raises:
            StorageError: It is damaged, or another version of this project wrote it.
        """
        return Manifest.read(self.path)

    @property
    def contents(self) -> Contents:
        """The files of the finished stage."""
        return Contents(self.path)

    @property
    def is_done(self) -> bool:
        """True if the stage ended well with exactly these parts, and its files are there.

        A training may have been done by another number of processes.
        """
        manifest = self.manifest
        same = manifest and manifest.is_done and self.is_of(manifest)
        return bool(same) and not self.contents.missing()

    def is_of(self, manifest: Manifest) -> bool:
        """Whether a manifest tells of these parts, by whatever number of processes."""
        return fingerprint(_choices(manifest.parts)) == fingerprint(_choices(self.parts))

    @property
    def summary(self) -> dict[str, Any]:
        """Summary of the result, as given to ``finish``."""
        manifest = self.manifest
        return dict(manifest.summary) if manifest else {}

    @contextmanager
    def alone(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Keep other processes from working on the stage during the block; not reentrant.

        The lock is an empty file in ``.locks``, beside the stages. On a disk without locks nobody
        waits.

        Args:
            waiting: Called before waiting for another process that holds the lock.
        """
        locks = self._run / ".locks"
        with storage_explained(locks):
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

    @property
    def _run(self) -> Path:
        return self.path.parents[1]

    def begin(self) -> bool:
        """Prepare the folder; True if a killed run with the same parts is resumed.

        Results made with other parts are removed, and what a killed process left half written.

        Raises:
            StorageError: The folder holds files that no stage made, or its manifest is damaged.
        """
        manifest = self.manifest
        resumed = manifest is not None and self.is_of(manifest)
        with storage_explained(self.path):
            shutil.rmtree(self._run / _TRASH, ignore_errors=True)
            sweep(self.path)
            if self.path.exists() and not resumed:
                self._remove()
            self.path.mkdir(parents=True, exist_ok=True)
        if manifest and resumed:
            self._put_changed_aside(manifest)
        earlier = self._seconds_worked(manifest) if manifest and resumed else 0.0
        Manifest(
            "running", self.fingerprint, self.parts, self.made_by, earlier, time.time(), resumed
        ).write(self.path)
        return resumed

    def _put_changed_aside(self, manifest: Manifest) -> None:
        """Put aside what has another size than the stage wrote; it is made again."""
        for name in self.contents.missing() if manifest.is_done else []:
            if (self.path / name).exists():
                put_aside(self.path / name)

    def put_altered_aside(self) -> list[str]:
        """Compare every file with its hash; give those that differ another name, and return them.

        Afterwards the stage is not done, and the command that made it makes these files anew.
        """
        altered = self.contents.altered()
        for name in altered:
            put_aside(self.path / name)
        return altered

    def _seconds_worked(self, manifest: Manifest) -> float:
        """Seconds of earlier sessions; a killed one worked until it wrote its last file."""
        if manifest.is_done:
            return manifest.seconds
        times = (path.stat().st_mtime for path in self.path.rglob("*") if path.is_file())
        return manifest.seconds + max(max(times) - manifest.began, 0.0)

    def _remove(self) -> None:
        """Remove what was made with other parts, but never a folder that is not a stage's.

        A folder that is renamed first is gone at once, even if the process is killed meanwhile.
        """
        if any(self.path.iterdir()) and not (self.path / MANIFEST).exists():
            raise StorageError(
                f"{self.path}: holds files, but no {MANIFEST}, so no stage made it. They would be "
                "lost. Choose another folder for the run with run_dir=PATH."
            )
        if self.path.is_symlink():
            raise StorageError(
                f"{self.path}: a symbolic link to a result that must be made anew. Remove the "
                f"link, and {self.path.resolve()} if nothing else needs it."
            )
        trash = self._run / _TRASH / uuid.uuid4().hex
        trash.parent.mkdir(exist_ok=True)
        self.path.rename(trash)
        shutil.rmtree(trash.parent, ignore_errors=True)

    def finish(self, summary: dict[str, Any]) -> float:
        """Mark the stage as done, with a summary of its result; return the seconds it took."""
        begun = self._written()
        self.contents.record()
        seconds = round(begun.seconds + time.time() - begun.began, 1)
        replace(begun, state="done", seconds=seconds, summary=summary).write(self.path)
        return seconds

    def drop(self, name: str) -> None:
        """Remove a folder of a stage that is done; the stage stays done without it."""
        trash = self._run / _TRASH / uuid.uuid4().hex
        trash.parent.mkdir(exist_ok=True)
        with storage_explained(self.path):
            (self.path / name).rename(trash)
        self.contents.record()
        shutil.rmtree(trash.parent, ignore_errors=True)

    def reopen(self) -> None:
        """Mark a stage that is done as begun, so that what was dropped is made again."""
        replace(self._written(), state="running", summary={}).write(self.path)

    def amend(self, **results: Any) -> None:
        """Add to the summary of a stage that is done; its own result stays as it is."""
        manifest = self._written()
        replace(manifest, summary={**manifest.summary, **results}).write(self.path)

    def _written(self) -> Manifest:
        manifest = self.manifest
        if manifest is None:
            raise StorageError(f"{self.path / MANIFEST}: removed while the stage was at work.")
        return manifest


def with_processes(path: Path, parts: dict[str, Any], processes: int) -> dict[str, Any]:
    """Parts of a training, with the numbers of processes that it was made by, for rounding.

    Args:
        path: Its folder. What is done there is kept; what was killed goes on.
        parts: Everything else that it depends on.
        processes: The number of this command.
    """
    manifest, numbers = Manifest.read(path), [processes]
    if manifest is not None and fingerprint(_choices(manifest.parts)) == fingerprint(parts):
        before = manifest.parts[_PROCESSES]
        is_new = not manifest.is_done and processes not in before
        numbers = [*before, processes] if is_new else before
    return {**parts, _PROCESSES: numbers}


def _choices(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parts.items() if name != _PROCESSES}


def check_layout(run: Path) -> None:
    """Refuse a run folder with a manifest that is damaged, or that another version made.

    Raises:
        StorageError: Names the file.
    """
    for path in sorted(run.glob(f"*/*/{MANIFEST}")):
        Manifest.read(path.parent)
