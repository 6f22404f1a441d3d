"""Files that are whole or absent, and stage folders that know whether they are done."""

from __future__ import annotations

import ast
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.errors import StorageError

MANIFEST = "manifest.json"
_PROJECT = ("tsgb", "pipeline")  # packages whose code counts
_PLUMBING = (  # but not these: they carry results without having a say in them
    "pipeline.artifacts",
    "pipeline.config",  # its values count by themselves
    "pipeline.data.checks",
    "pipeline.errors",
    "pipeline.stages.context",
    "tsgb._optional",
    "tsgb.errors",
)
_STAGES = (  # a stage reads the folder of another, whose fingerprint counts; not its code
    "pipeline.stages.classifier",
    "pipeline.stages.saliency",
    "pipeline.stages.pseudo_labels",
    "pipeline.stages.relabel",
    "pipeline.stages.segmentation",
    "pipeline.stages.evaluate",
)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` if the block ends well.

    Raises:
        StorageError: The disk is full. Whatever was written before is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        free = shutil.disk_usage(path.parent).free / 2**20
        raise StorageError(
            f"{path}: the disk is full ({free:.0f} MiB free). The file was not written; everything "
            "before it is kept. Free some space, then run the same command again: it goes on here."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is never seen half-written."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """What ``write_json`` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def fingerprint(parts: Any) -> str:
    """16 hexadecimal digits that differ where the parts (plain values) differ.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_version(module: str) -> str:
    """Fingerprint of a module and of every module of this project that it imports.

    Comments, docstrings and formatting do not count, nor do other stages and modules that only
    carry results about, so that only a change of behaviour makes a finished stage run again.
    """
    found: dict[str, str] = {}
    _collect(module, found)
    return fingerprint(found)


def _collect(module: str, found: dict[str, str]) -> None:
    spec = importlib.util.find_spec(module)
    other_stage = bool(found) and module in _STAGES
    if module in found or other_stage or module in _PLUMBING or spec is None or not spec.origin:
        return
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    found[module] = ast.dump(_without_docstrings(tree))
    for name in sorted(_imports(tree)):
        _collect(name, found)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imports(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in names if name.split(".")[0] in _PROJECT}
    return {name for name in ours if _is_module(name)}


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@dataclass
class StageFolder:
    """The folder of one stage: done, half done by a killed run, or to be made.

    ``manifest.json`` holds the fingerprint of all that the result depends on (``parts``: the
    stage's own settings, the stage before it, the data, the code), the state, the seconds that it
    took, a summary of what came out, and what made it.

    Attributes:
        path: Of the folder.
        parts: Plain values; where they differ, the result differs.
        made_by: Versions and revision, for the record; they do not make it another result.
    """

    path: Path
    parts: dict[str, Any]
    made_by: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Of everything that the content depends on."""
        return fingerprint(self.parts)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the manifest says; empty if there is none that can be read."""
        try:
            return dict(read_json(self.path / MANIFEST))
        except (OSError, ValueError):
            return {}

    @property
    def is_done(self) -> bool:
        """True if the stage ended well with exactly these parts, and no file went since."""
        manifest = self.manifest
        same = manifest.get("state") == "done" and manifest["fingerprint"] == self.fingerprint
        return same and self._count_files() >= manifest["files"]

    def _count_files(self) -> int:
        return sum(len(files) for _, _, files in os.walk(self.path))

    @property
    def summary(self) -> dict[str, Any]:
        """What came out, as given to ``finish``."""
        return dict(self.manifest.get("summary", {}))

    @contextmanager
    def alone(self, waiting: Callable[[], None]) -> Iterator[None]:
        """While it lasts, no other process works on the stage. Not to be taken twice.

        An empty file in ``.locks``, beside the stages, is locked; where the disk knows no locks,
        nobody waits.

        Args:
            waiting: Called if a process does, before waiting until it ends, well or not.
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
        """Prepare the folder; True if a killed run with the same parts is gone on with.

        Whatever was made with other parts is removed.

        Raises:
            StorageError: The folder holds files that no stage made.
        """
        manifest = self.manifest
        resumed = manifest.get("fingerprint") == self.fingerprint
        if self.path.exists() and not resumed:
            self._remove()
        self.path.mkdir(parents=True, exist_ok=True)
        earlier, now = self._seconds_worked(manifest) if resumed else 0.0, time.time()
        started = manifest.get("started", now) if resumed else now  # the first session
        self._write(state="running", seconds=earlier, began=now, started=started, resumed=resumed)
        return resumed

    def _seconds_worked(self, manifest: dict[str, Any]) -> float:
        """Of earlier sessions; one that was killed worked until it wrote its last file."""
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
        """Mark the stage as done, with what came out of it."""
        begun = self.manifest
        seconds = round(begun["seconds"] + time.time() - begun["began"], 1)
        files = self._count_files()
        self._write(
            state="done", seconds=seconds, started=begun["started"], resumed=begun["resumed"],
            files=files, summary=summary,
        )  # fmt: skip

    def amend(self, **results: Any) -> None:
        """Add to the summary of a stage that is done; its own result stays as it is."""
        manifest = self.manifest
        summary = {**manifest["summary"], **results}
        write_json(self.path / MANIFEST, {**manifest, "summary": summary})

    def _write(self, **facts: Any) -> None:
        always = {"fingerprint": self.fingerprint, "parts": self.parts, "made_by": self.made_by}
        write_json(self.path / MANIFEST, {**facts, **always})
