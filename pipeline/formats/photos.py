"""The photos that label images belong to: their names, and their sizes where a file has none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.base.errors import DataError
from pipeline.data.band_files import read_band_header
from pipeline.data.found_files import files_by_id
from pipeline.data.headers import check_pixels, check_size, read_header
from pipeline.data.ids import BAND_SUFFIXES, IMAGE_SUFFIXES
from pipeline.data.images import read_bytes

_SUFFIX = ".jpg"  # of a photo that nobody has shown
_SUFFIXES = tuple(dict.fromkeys((*IMAGE_SUFFIXES, *BAND_SUFFIXES)))


class Photo(NamedTuple):
    """What names a photo.

    Attributes:
        id: Path in the folder of all photos, without suffix.
        name: The same with suffix.
    """

    id: str
    name: str


@dataclass(frozen=True)
class Photos:
    """Photos by id.

    Attributes:
        files: Their files, as far as they are known.
    """

    files: dict[str, Path]

    @classmethod
    def within(cls, folder: Path | None) -> Photos:
        """Every photo in a folder and its sub-folders; none for None.

        Raises:
            DataError: The folder does not exist.
        """
        if folder is None:
            return cls({})
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder. Give the folder of the photos.")
        return cls(files_by_id(folder.rglob("*"), folder, _SUFFIXES))

    def named(self, id_: str) -> Photo:
        """A photo by its id; its suffix is ``.jpg`` if the file is unknown.

        Example:
            >>> Photos({"deep/a": Path("photos/deep/a.PNG")}).named("deep/a").name
            'deep/a.PNG'
        """
        return Photo(id_, id_ + (self.files[id_].suffix if id_ in self.files else _SUFFIX))

    def shape(self, id_: str, max_megapixels: float) -> tuple[int, int]:
        """Height and width of a photo, upright, from its header.

        Raises:
            DataError: The photo is unknown, is none, or is too large.
        """
        path = self.files.get(id_)
        if path is None:
            raise DataError(
                f"{id_}: no photo of this name, and the masks do not have its size. Name the "
                "folder of the photos with --images DIR."
            )
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            found = read_band_header(path)
            check_pixels(path, found.width, found.height, max_megapixels, "--megapixels N")
            return found.height, found.width
        check_size(path, max_megapixels, "--megapixels N")
        header = read_header(read_bytes(path))
        if header is None:
            raise DataError(f"{path}: not an image. Replace it, or remove its mask.")
        return header.shape
