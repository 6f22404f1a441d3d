"""Label Studio: tasks with brush masks, in its own run lengths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import BoolImage, LabelImage
from pipeline.base.errors import DataError
from pipeline.base.files import write_bytes, write_json
from pipeline.data.palette import PALETTE
from pipeline.formats.instances import Instance
from pipeline.formats.masks import (
    Masks,
    Values,
    by_id,
    check_shape,
    explained,
    painted,
    safe_id,
)  # fmt: skip
from pipeline.formats.photos import Photo
from pipeline.formats.polygons import checked, filled

_KIND = "tasks of Label Studio"
_FROM, _TO = "label", "image"  # names in the labelling configuration
_LOCAL = "/data/local-files/?d="  # how Label Studio addresses files of its own machine
_ID = "tsgb_id"  # names the photo, also where the tool changes the address of its file
_CHANNELS = 4  # red, green, blue, opacity
_WORD = 8  # bits of a value
_SIZES = (3, 4, 8, 16)  # bits of the length of a run; each run uses the fewest that suffice
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # before the name of a file that was uploaded


class LabelStudioWriter:
    """Collects tasks; writes ``tasks_<split>.json`` and the labelling configuration.

    Args:
        folder: Where the files go.
        names: Class names by value.
        split: In the name of the file.
    """

    def __init__(self, folder: Path, names: Mapping[int, str], split: str) -> None:
        self._folder = folder
        self._names = names
        self.path = folder / f"tasks_{split}.json"
        self._tasks: list[dict[str, Any]] = []

    def add(self, photo: Photo, labels: LabelImage, objects: Sequence[Instance]) -> None:
        """Add a photo with its label image [H, W] and its objects."""
        height, width = labels.shape
        results = [
            {
                "id": f"{number}",
                "type": "brushlabels",
                "from_name": _FROM,
                "to_name": _TO,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "format": "rle",
                    "rle": encoded(one.within(labels.shape)),
                    "brushlabels": [self._names[one.value]],
                },
            }
            for number, one in enumerate(objects)
        ]
        data = {"image": f"{_LOCAL}images/{quote(photo.name)}", _ID: photo.id}
        data |= {"width": width, "height": height}
        predictions = [{"model_version": "tsgb", "result": results}]
        self._tasks.append({"data": data, "predictions": predictions})

    def finish(self) -> Path:
        """Write the files."""
        write_json(self.path, self._tasks)
        labels = "".join(map(_label, self._names, self._names.values()))
        text = (
            f'<View>\n  <Image name="{_TO}" value="$image" zoom="true"/>\n'
            f'  <BrushLabels name="{_FROM}" toName="{_TO}">\n{labels}  </BrushLabels>\n</View>\n'
        )
        write_bytes(self._folder / "label_config.xml", text.encode())
        return self.path


def _label(value: int, name: str) -> str:
    colour = "#" + PALETTE[value].tobytes().hex()
    return f'    <Label value={quoteattr(name)} background="{colour}"/>\n'


def encoded(pixels: BoolImage) -> list[int]:
    """A mask in Label Studio's run lengths: the bytes of a stream of bits.

    The stream has the number of values (32 bits), the bits of a value less one (5), the bits of
    the four kinds of lengths less one (4 each), and runs. A run has a 1 (0 if its values differ),
    the kind of its length (2), the length less one, and the value. Values are red, green, blue and
    opacity of each pixel, row by row.

    Example:
        >>> encoded(np.array([[True]]))
        [0, 0, 0, 4, 57, 27, 252, 127, 224]
    """
    values = np.repeat(pixels.ravel(), _CHANNELS)
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.append(starts, len(values)))
    bits = [f"{len(values):032b}{_WORD - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        word = f"{255 * int(values[start]):08b}"
        bits += [f"1{_length(part)}{word}" for part in _parts(length)]
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[place : place + 8], 2) for place in range(0, len(text), 8)]


def _parts(length: int) -> Iterator[int]:
    longest = 1 << _SIZES[-1]
    yield from [longest] * ((length - 1) // longest)
    yield (length - 1) % longest + 1


def _length(length: int) -> str:
    kind = next(k for k, size in enumerate(_SIZES) if length <= 1 << size)
    return f"{kind:02b}{length - 1:0{_SIZES[kind]}b}"


class _Bits:
    """A stream of bits, read from the front."""

    def __init__(self, data: bytes) -> None:
        self._text = "".join(map("{:08b}".format, data))
        self._place = 0

    def read(self, count: int) -> int:
        """The next bits as a number."""
        end = self._place + count
        if end > len(self._text):
            raise ValueError("the run lengths of a mask end too early")
        number = int(self._text[self._place : end], 2)
        self._place = end
        return number


def decoded(data: Sequence[int], shape: tuple[int, int]) -> BoolImage:
    """True where a mask in Label Studio's run lengths is not transparent.

    Args:
        data: Bytes.
        shape: Height and width.

    Raises:
        ValueError: The bytes are no mask of this size.
    """
    stream, total = _Bits(bytes(list(data))), shape[0] * shape[1] * _CHANNELS
    count, word = stream.read(32), stream.read(5) + 1
    if count != total or word > _WORD:
        raise ValueError(f"a mask of {count} values of {word} bits, not {total} of {_WORD}")
    sizes = [stream.read(4) + 1 for _ in _SIZES]
    values: NDArray[np.uint8] = np.zeros(total, np.uint8)
    place = 0
    while place < total:
        same, length = stream.read(1), stream.read(sizes[stream.read(2)]) + 1
        if place + length > total:
            raise ValueError("the run lengths of a mask are too long")
        for _ in range(1 if same else length):
            step = length if same else 1
            values[place : place + step] = stream.read(word)
            place += step
    return values.reshape(*shape, _CHANNELS)[..., -1] > 0


def read_labelstudio(
    path: Path, content: Any, classes: Sequence[str] | None, max_megapixels: float
) -> Masks:
    """The label images of exported tasks: brush masks, and polygons.

    The last annotation of a task counts, or else its last prediction.

    Args:
        path: The file, for errors.
        content: What it contains.
        classes: Names of the values 1, 2, 3...; None takes those that occur, sorted.
        max_megapixels: Larger images are refused before anything is decoded.

    Raises:
        DataError: The file is malformed or has other classes. Malformed masks are found when their
            image is decoded.
    """
    with explained(path, _KIND):
        tasks = [(_id(path, task["data"]), task["data"], _results(task)) for task in content]
        names = {_name(path, result) for _, _, results in tasks for result in results}
        values = Values(path, sorted(names), classes)
        readers = ((i, partial(_read, path, d, r, values, max_megapixels)) for i, d, r in tasks)
        return Masks(values.classes, by_id(path, readers))


def _id(path: Path, data: Any) -> str:
    if _ID in data:
        return safe_id(path, data[_ID])
    address = urlsplit(str(data["image"]))
    local = parse_qs(address.query).get("d", [""])[0].removeprefix("images/")
    return safe_id(path, local or _UPLOAD.sub("", PurePosixPath(unquote(address.path)).name))


def _results(task: Any) -> list[Any]:
    """Regions of a task that were drawn; choices and ratings are none."""
    made = [one for one in task.get("annotations") or [] if not one.get("was_cancelled")]
    made = made or list(task.get("predictions") or [])
    return [one for one in (made[-1]["result"] if made else []) if _is_drawn(one)]


def _is_drawn(result: Any) -> bool:
    kind = str(result["type"])
    return kind.endswith("labels") or kind in ("brush", "polygon")


def _name(path: Path, result: Any) -> str:
    value = result["value"]
    names = value.get("brushlabels") or value.get("polygonlabels") or value.get("labels")
    if not names:
        raise DataError(
            f"{path}: a region of type {result['type']!r} is no mask with a class. Draw with the "
            "brush or as a polygon, and give every region a label."
        )
    return str(names[0])


def _read(path: Path, data: Any, results: Sequence[Any], values: Values, most: float) -> LabelImage:
    with explained(path, _KIND):
        sizes = [(one["original_height"], one["original_width"]) for one in results]
        sizes = sizes or [(data["height"], data["width"])]
        shape = check_shape(f"{path}: {data['image']}", sizes[0], most)
        objects = ((values[_name(path, one)], _pixels(one["value"], shape)) for one in results)
        return painted(shape, objects)


def _pixels(value: Any, shape: tuple[int, int]) -> BoolImage:
    if "rle" in value:
        return decoded(value["rle"], shape)
    return filled(checked(value["points"], (shape[1] / 100, shape[0] / 100)), shape)
