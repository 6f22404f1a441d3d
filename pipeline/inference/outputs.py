"""The files that a prediction leaves: label images, and what is asked for beside them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pipeline.base.arrays import Floats
from pipeline.base.errors import ConfigError, StorageError
from pipeline.base.files import fingerprint, read_sealed, write_bytes, write_sealed
from pipeline.inference.large import is_large, label_large
from pipeline.inference.network import Network
from pipeline.inference.prediction import Prediction
from pipeline.report.pictures import encode_jpeg
from pipeline.report.rendering import csv_table

LAYOUT = 1
_ABOUT, _TABLE = "predictions.json", "predictions.csv"
_NOTES = ".done"  # a note for each photo: that it is done, and its lines of the table
_REMEDY = "Remove it: the same command makes it anew"
_COLUMNS = ("image", "class", "pixels", "share", "confidence")


@dataclass(frozen=True)
class Kinds:
    """Files that are written beside the label images.

    Attributes:
        overlay: ``overlays/<id>.jpg``, the labels over the photo.
        probabilities: ``probabilities/<value>_<class>/<id>.png``, 16-bit grey, 65535 for 1.
        confidence: ``confidence/<id>.png``, the same for the label that was chosen.
    """

    overlay: bool = False
    probabilities: bool = False
    confidence: bool = False


class Outputs:
    """The folder that a command writes predictions to.

    Args:
        folder: Where everything goes.
        network: The network, and how it is used.
        kinds: Which files are wanted beside the label images.

    Raises:
        ConfigError: The folder has predictions of another network, or made in another way.
    """

    def __init__(self, folder: Path, network: Network, kinds: Kinds) -> None:
        self.folder = folder
        self.kinds = kinds
        self._network = network
        self._about = {"layout": LAYOUT, **facts_of(network)}
        self._planes = [f"{k}_{_slug(n)}" for k, n in enumerate(("background", *network.classes))]
        self._refuse_others()

    def _refuse_others(self) -> None:
        path = self.folder / _ABOUT
        if path.exists():
            known = read_sealed(path, LAYOUT, f"Remove {self.folder} or choose another --out")
            if fingerprint(known) != fingerprint(self._about):
                raise ConfigError(
                    f"{self.folder}: has predictions of another network, or made with other "
                    "settings. Choose another --out, or remove this folder."
                )
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise ConfigError(
                f"{self.folder}: is not empty, and no predictions of this command. Choose another "
                "--out."
            )
        write_sealed(path, self._about)

    def label_path(self, id_: str, photo: Path) -> Path:
        """The label image of a photo: TIFF for one that is read by windows, PNG for all others."""
        suffix = ".tif" if is_large(self._network, photo) else ".png"
        return self.folder / "labels" / f"{id_}{suffix}"

    def _note(self, id_: str) -> Path:
        return self.folder / _NOTES / f"{id_}.json"

    def is_done(self, id_: str, photo: Path) -> bool:
        """Whether everything that is wanted was made from this very file."""
        try:
            note = read_sealed(self._note(id_), LAYOUT, _REMEDY)
        except (OSError, StorageError):
            return False
        return note["photo"] == version_of(photo) and all(
            path.is_file() for path in self._paths(id_, photo)
        )

    def _paths(self, id_: str, photo: Path) -> list[Path]:
        names = [f"overlays/{id_}.jpg"] if self.kinds.overlay else []
        names += [f"confidence/{id_}.png"] if self.kinds.confidence else []
        if self.kinds.probabilities:
            names += [f"probabilities/{name}/{id_}.png" for name in self._planes]
        return [self.label_path(id_, photo), *(self.folder / name for name in names)]

    def label(self, network: Network, id_: str, photo: Path) -> None:
        """Write all files of a photo, the note that they are there last.

        Raises:
            DataError: The photo cannot be read.
        """
        if is_large(network, photo):
            totals = label_large(network, photo, self.label_path(id_, photo))
            lines = totals.rows(("background", *network.classes))
        else:
            prediction = network.predict(photo)
            self._write(id_, photo, prediction)
            lines = rows(prediction)
        note = {"layout": LAYOUT, "photo": version_of(photo), "rows": lines}
        write_sealed(self._note(id_), note)

    def _write(self, id_: str, photo: Path, prediction: Prediction) -> None:
        write_bytes(self.label_path(id_, photo), prediction.png())
        if self.kinds.overlay:
            path = self.folder / "overlays" / f"{id_}.jpg"
            write_bytes(path, encode_jpeg(prediction.overlay()))
        if self.kinds.confidence:
            path = self.folder / "confidence" / f"{id_}.png"
            write_bytes(path, grey16(prediction.confidence))
        if self.kinds.probabilities:
            for name, plane in zip(self._planes, prediction.probabilities, strict=True):
                write_bytes(self.folder / "probabilities" / name / f"{id_}.png", grey16(plane))

    def write_table(self, ids: Iterable[str]) -> Path:
        """Pixels and mean confidence of each class in each photo that is done, as CSV."""
        lines = [
            dict(zip(_COLUMNS, (id_, *row), strict=True))
            for id_ in ids
            if self._note(id_).is_file()
            for row in read_sealed(self._note(id_), LAYOUT, _REMEDY)["rows"]
        ]
        path = self.folder / _TABLE
        write_bytes(path, csv_table(lines).encode())
        return path


def facts_of(network: Network) -> dict[str, Any]:
    """Everything that a prediction depends on but the photo."""
    digest = hashlib.sha256()
    for name, tensor in network.weights().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    passes = network.passes
    return {
        "network": network.source,
        "weights": digest.hexdigest()[:16],
        "classes": list(network.classes),
        "scales": list(passes.scales),
        "flip": passes.flip,
        "tile": [passes.tiling.side, passes.tiling.overlap] if passes.tiling else None,
        "prior": network.prior is not None,
        "refine": network.refine is not None,
    }


def _slug(name: str) -> str:
    return re.sub(r"[^\w-]+", "_", name)[:60]


def rows(prediction: Prediction) -> list[list[Any]]:
    """Name, pixels, share of the photo and mean confidence of every label that occurs."""
    total = prediction.labels.size
    certainty = prediction.certainty
    return [
        [name, count, round(count / total, 6), round(certainty[name] or 0.0, 4)]
        for name, count in prediction.pixels.items()
        if count
    ]


def grey16(values: Floats) -> bytes:
    """Values in [0, 1] as a 16-bit grey PNG, 65535 for 1."""
    whole = np.clip(np.rint(values * 65535.0), 0, 65535).astype(np.uint16)
    done, data = cv2.imencode(".png", whole)
    if not done:
        raise StorageError("a 16-bit PNG could not be encoded")
    return data.tobytes()


def version_of(photo: Path) -> list[int]:
    """Size and time of a file, by which a changed one is noticed."""
    status = photo.stat()
    return [status.st_size, status.st_mtime_ns]
