"""Which data set a run's folder belongs to: `data.json`, written once the data were checked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError, MissingArtifactError
from pipeline.base.files import read_sealed, write_sealed
from pipeline.data.bands import Bands
from pipeline.data.catalogue import Catalogue
from pipeline.data.checks import data_fingerprint, describe
from pipeline.run.manifest import LAYOUT, has_stages

_RECORD = "data.json"


class DataRecord:
    """The data set that passed the check in a run's folder.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._path = run / _RECORD

    @cached_property
    def _content(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        return read_sealed(self._path, LAYOUT, "Remove this file: the data are checked anew")

    def knows(self, data: Catalogue) -> bool:
        """True if the same data passed the check before."""
        return bool(self._content.get("fingerprint") == data_fingerprint(data))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names without background.

        Raises:
            MissingArtifactError: No data were checked in this folder.
        """
        if not self._content:
            raise MissingArtifactError(
                f"{self._run}: has no {_RECORD}, so no run was here. Name the folder of a run."
            )
        return tuple(self._content["classes"])

    @property
    def contents(self) -> dict[str, Any]:
        """Name of the data, and images in each split; empty if no data passed the check."""
        return dict(self._content.get("contents", {}))

    @property
    def notes(self) -> list[str]:
        """Possible mistakes in the data that the check found."""
        return list(self._content["notes"])

    @property
    def bands(self) -> Bands | None:
        """The bands of the images, measured; None for photos."""
        known = self._content.get("bands")
        return Bands.from_plain(known) if known else None

    def refuse_another(self, data: Catalogue) -> None:
        """Raise if the folder has results of images from elsewhere.

        Images of the same folders may be added, removed and labelled anew; images that have moved
        are the same, and so are those whose ground truth has changed.

        Raises:
            DataError: Names both data sets.
        """
        before = self._content.get("folders", [])
        now = _folders(data)
        same = set(before) & set(now) or self._content.get("images") == _images(data)
        if not before or same or not has_stages(self._run):
            return
        raise DataError(
            f"{self._run}: has results of the data set {self._content['name']!r} (images in "
            f"{before[0]}); this command is about {data.name!r} (images in {now[0]}). Give it a "
            "folder of its own with run_dir=PATH, or leave the data of this run as they are."
        )

    def write(self, data: Catalogue, notes: Sequence[str], bands: Bands | None = None) -> None:
        """Record data that passed the check, and what it noted, unless that is known."""
        facts = {"layout": LAYOUT, "fingerprint": data_fingerprint(data), "name": data.name}
        facts |= {"classes": list(data.classes), "folders": _folders(data)}
        facts |= {"images": _images(data), "contents": describe(data), "notes": list(notes)}
        facts |= {"bands": bands.plain()} if bands else {}
        if facts != self._content:
            write_sealed(self._path, facts)
            self._content = facts


def _images(data: Catalogue) -> str:
    """Fingerprint of images and image labels alone."""
    return data_fingerprint(data.without_truth())


def _folders(data: Catalogue) -> list[str]:
    """Folders of the images; the first hundred, so that the record stays small."""
    items = (*data.train.items, *data.val.items)
    return sorted({str(item.image.parent.resolve()) for item in items})[:100]
