"""What the settings of a stage may depend on: the run's settings, its data, its folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig
from pipeline.base.errors import ConfigError
from pipeline.base.files import file_fingerprint, fingerprint
from pipeline.base.terminal import Terminal
from pipeline.data.catalogue import Catalogue, Split
from pipeline.data.checks import check_catalogue, data_fingerprint
from pipeline.data.overview import HEADER, Overview
from pipeline.formats.corrected import Corrected, corrected_masks
from pipeline.run.building import build_data, target_modules
from pipeline.run.data_record import DataRecord
from pipeline.run.fingerprint import code_version
from pipeline.run.folders import StageFolder
from pipeline.run.manifest import Manifest
from pipeline.run.provenance import made_by
from pipeline.run.settings import check_settings


class RunContext:
    """Settings and a folder; runs that share a folder share the stages they have in common.

    Args:
        settings: Every setting.
        folder: Where the folders of the stages are.
        output: Where the command's own files go, its report for example; ``folder`` by default.

    Raises:
        ConfigError: A number is out of its range, or nothing reads a key.
    """

    def __init__(self, settings: RunConfig, folder: Path, output: Path | None = None) -> None:
        check_settings(settings)
        self.settings = settings
        self.folder = folder
        self.output = output or folder
        self.terminal = Terminal(bars=settings.trainer.progress)
        self._truths: dict[tuple[Path, ...], str] = {}

    @cached_property
    def data(self) -> Catalogue:
        """The data set, read and checked; the check is skipped if the same data passed before.

        What was understood of it is shown after the check; what may be a mistake, each time.

        Raises:
            DataError: The data set has problems, or the run's folder has results of another one.
            StorageError: The record of the check is damaged.
        """
        data = build_data(self.settings.data)
        record = DataRecord(self.folder)
        if record.knows(data):
            notes, bands = record.notes, record.bands
        else:
            found = self._checked(data, record)
            notes, bands = found.notes, found.bands
        record.write(data, notes, bands)
        for note in notes:
            self.terminal.warn(note)
        return data.with_bands(bands)

    def _checked(self, data: Catalogue, record: DataRecord) -> Overview:
        """Check the data, and show what was understood."""
        record.refuse_another(data)
        with self.terminal.progress("checking data", 0) as step:
            found = check_catalogue(data, progress=step)
        self.terminal.table(data.name, HEADER, found.rows)
        for fact in found.facts:
            self.terminal.note(fact)
        return found

    @cached_property
    def corrected(self) -> Corrected | None:
        """The corrected masks of ``data.corrected``, read and checked; None for none.

        Raises:
            DataError: They cannot be used.
        """
        return corrected_masks(self.settings.data, self.data)

    @cached_property
    def data_version(self) -> str:
        """Fingerprint of images and image labels; ground truth does not count."""
        return data_fingerprint(self.data.without_truth())

    def truth_version(self, split: Split) -> str:
        """Fingerprint of the ground truth of a split; its masks are read once."""
        masks = tuple(item.mask for item in split.items if item.mask is not None)
        if masks not in self._truths:
            ids = [(i.id, i.object_value) for i in split.items if i.mask is not None]
            content = [file_fingerprint(path) for path in masks]
            self._truths[masks] = fingerprint(list(zip(ids, content, strict=True)))
        return self._truths[masks]

    @cached_property
    def chosen_classes(self) -> list[str]:
        """``evaluate.classes``: means are over these and background; empty for all that occur.

        Raises:
            ConfigError: One is not a class of the data.
        """
        chosen = list(self.settings.evaluate.classes or ())
        unknown = sorted(set(chosen) - set(self.data.classes))
        if unknown:
            raise ConfigError(
                f"evaluate.classes: {', '.join(unknown)} not among the classes of "
                f"{self.data.name}: {', '.join(self.data.classes)}. Correct the names."
            )
        return chosen

    def folder_of(
        self,
        name: str,
        word: str,
        module: str,
        upstream: Sequence[StageFolder],
        choices: Mapping[str, Any],
    ) -> StageFolder:
        """A folder whose name has the choices in it, so that no choice replaces another's result.

        Args:
            name: Folder of all results of this kind.
            word: Says something about the choices, for people.
            module: Module that makes the result; if its code changes, the result is replaced.
            upstream: Stages that are read.
            choices: Plain values, dataclasses, or settings with a ``_target_``.
        """
        choice = {
            "settings": {key: _plain(value) for key, value in choices.items()},
            "from": [stage.path.name for stage in upstream],
            "data": self.data_version,
            "random_seed": self.settings.random_seed,
        }
        modules = [module, *target_modules(choices)]
        everything = {
            **choice,
            "upstream": [stage.fingerprint for stage in upstream],
            "code": [code_version(name) for name in modules],
        }
        word = re.sub(r"[^\w.]+", "_", word)
        path = self.folder / name / f"{word}-{fingerprint(choice)[:6]}"
        return StageFolder(path, everything, made_by())

    def stage_at(self, path: Path) -> StageFolder | None:
        """The stage of this run in whose folder a path lies; None for a path elsewhere."""
        for folder in (path, *path.parents):
            if folder.parent.parent.resolve() == self.folder.resolve():
                manifest = Manifest.read(folder)
                return StageFolder(folder, manifest.parts) if manifest else None
        return None


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
