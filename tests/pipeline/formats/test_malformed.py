"""Files from anybody: they are refused with their name, before anything large is made."""

import json
import zipfile

import numpy as np
import pytest

from pipeline.base.errors import ConfigError, DataError
from pipeline.formats.reading import read_masks
from pipeline.formats.writing import FORMATS
from tests.pipeline.formats.test_round_trip import export
from tests.pipeline.formats.test_tools import coco, panoptic, photo_file, polygon, task, written


def decode(path, **options):
    for labels in read_masks(path, **options).values():
        assert labels.size


RLE = {"size": [3, 4], "counts": [12]}
BAD_COCO = {
    "no list": {"images": 3, "annotations": [], "categories": []},
    "no images": {"annotations": []},
    "huge": coco([[0, 0, 1, 0, 1, 1]], height=10**6, width=10**6),
    "negative": coco([[0, 0, 1, 0, 1, 1]], height=-3),
    "fractional": coco([[0, 0, 1, 0, 1, 1]], height=2.5),
    "text as size": coco([[0, 0, 1, 0, 1, 1]], height="3"),
    "box": coco([]),
    "too short": coco({**RLE, "counts": [5]}),
    "too long": coco({**RLE, "counts": [5, 70]}),
    "below zero": coco({**RLE, "counts": [20, -8]}),
    "overflows": coco({**RLE, "counts": [2**62, 2**62, 2**62, 2**62, 12]}),
    "other size": coco({**RLE, "size": [4, 3]}),
    "short text": coco({**RLE, "counts": "5"}),
    "unfinished text": coco({**RLE, "counts": "oo"}),
    "no ASCII": coco({**RLE, "counts": "ä"}),
    "two corners": coco([[0, 0, 1, 1]]),
    "leaves the folder": coco(RLE, file_name="../../a.jpg"),
    "absolute": coco(RLE, file_name="/etc/passwd"),
    "unknown image": {**coco(RLE), "images": []},
    "twice": {**coco(RLE), "images": coco(RLE)["images"] * 2},
    "unknown class": {**coco(RLE), "categories": [{"id": 5, "name": "cat"}]},
    "only background": {**coco(RLE), "categories": [{"id": 3, "name": "background"}]},
}


@pytest.mark.parametrize("content", BAD_COCO.values(), ids=BAD_COCO)
def test_coco(tmp_path, content):
    with pytest.raises(DataError, match=r"x\.json"):
        decode(written(tmp_path / "x.json", content))


@pytest.mark.parametrize(("rows", "segments", "why"), [
    ([[1, 2]], {1: 10}, "the segment 2, which is not listed"),
    ([[1, 1]], {1: 30}, "cannot be read"),
])  # fmt: skip
def test_panoptic(tmp_path, rows, segments, why):
    with pytest.raises(DataError, match=why):
        decode(panoptic(tmp_path, rows, segments))


@pytest.mark.parametrize(("change", "why"), [
    ({"height": 9}, "not .* as listed"), ({"file_name": "../a.jpg"}, "Rename it"),
    ({"id": 8}, "cannot be read"),
])  # fmt: skip
def test_panoptic_images(tmp_path, change, why):
    path = panoptic(tmp_path, [[1, 1]], {1: 10})
    content = json.loads(path.read_text())
    content["images"][0] |= change

    with pytest.raises(DataError, match=why):
        decode(written(path, content))


def test_panoptic_without_its_pictures(tmp_path):
    path = panoptic(tmp_path, [[1, 1]], {1: 10})
    (tmp_path / "panoptic_val" / "a.png").write_bytes(b"x")

    with pytest.raises(DataError, match=r"a\.png"):
        decode(path)


@pytest.mark.parametrize("text", ["", "{", "[" * 10**5, "3", "null", '"x"', "[3]", '[{"data": 4}]'])
def test_other_json(tmp_path, text):
    with pytest.raises(DataError, match=r"x\.json"):
        decode(written(tmp_path / "x.json", text))


def brush(rle, height=2, width=2):
    value = {"format": "rle", "rle": rle, "brushlabels": ["cat"]}
    size = {"original_width": width, "original_height": height}
    return task({"type": "brushlabels", "value": value, **size})


BAD_TASKS = {
    "a number for bytes": brush(4 * 10**9),
    "no bytes": brush([300]),
    "nothing": brush([]),
    "another size": brush([255, 255, 255, 255, 57, 27, 252, 127, 224]),
    "ends early": brush([0, 0, 0, 16, 57, 27, 252]),
    "too long": brush([0, 0, 0, 4, 57, 27, 252, 255, 255, 224], 1, 1),
    "huge": brush([0], 10**6, 10**6),
    "rectangle": task({"type": "rectanglelabels", "value": {"rectanglelabels": ["cat"]}}),
    "no size": {"data": {"image": "a.jpg"}},
    "two corners": task(polygon([[0, 0], [1, 1]])),
    "leaves the folder": {**task(polygon([[0, 0], [9, 0], [9, 9]])), "data": {"tsgb_id": "../a"}},
}


@pytest.mark.parametrize("content", BAD_TASKS.values(), ids=BAD_TASKS)
def test_label_studio(tmp_path, content):
    with pytest.raises(DataError, match=r"x\.json"):
        decode(written(tmp_path / "x.json", [content]), classes=["cat"])


@pytest.mark.parametrize(("text", "labels"), [
    ("names: 3", "0 0 0 1 0 1 1"), ("names: [cat", "0 0 0 1 0 1 1"), ("", "0 0 0 1 0 1 1"),
    ("names: !!python/object/apply:os.getcwd []", "0 0 0 1 0 1 1"),
    ("names: [cat]", "0 0.5 0.5 1 1"), ("names: [cat]", "7 0 0 1 0 1 1"),
    ("names: [cat]", "0 0 0 1 0 1"), ("names: [cat]", "0 0 0 1 0 nan 1"),
    ("names: [cat]", "cat 0 0 1 0 1 1"),
])  # fmt: skip
def test_yolo(tmp_path, text, labels):
    photo_file(tmp_path / "images", "a", (4, 4))
    written(tmp_path / "labels" / "a.txt", labels)
    written(tmp_path / "data.yaml", text)

    with pytest.raises(DataError, match=r"data\.yaml|a\.txt"):
        decode(tmp_path)


def test_yolo_without_photos_names_the_remedy(tmp_path):
    written(tmp_path / "labels" / "a.txt", "0 0 0 1 0 1 1")
    written(tmp_path / "data.yaml", "names: [cat]")

    with pytest.raises(DataError, match="--images DIR"):
        decode(tmp_path)


@pytest.mark.parametrize(("name", "content"), [
    ("labelmap.txt", "cat:1,2::"), ("labelmap.txt", "cat"), ("labelmap.txt", "cat:400,0,0::"),
    ("labelmap.txt", "cat:9,9,9::"), ("SegmentationClass/a.png", "no picture"),
    ("SegmentationClass/../../a.png", "x"),
])  # fmt: skip
def test_cvat(tmp_path, name, content):
    path, _, _ = export(tmp_path, "cvat", {"a": photo()}, names=["cat"])
    with zipfile.ZipFile(path) as archive:
        files = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for key, value in {**files, name: content}.items():
            archive.writestr(key, value)

    with pytest.raises(DataError, match=r"bad\.zip"):
        decode(tmp_path / "bad.zip")


def photo():
    return np.eye(3, dtype=np.uint8)


def test_an_archive_that_unfolds_is_refused(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labelmap.txt", "cat:128,0,0::")
        archive.writestr("SegmentationClass/a.png", bytes(2**28 + 1))

    assert path.stat().st_size < 2**20
    with pytest.raises(DataError, match="256 MiB"):
        decode(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_sizes_are_checked_before_anything_is_decoded(tmp_path, kind):
    path, photos, _ = export(tmp_path, kind, {"a": photo()})

    with pytest.raises(DataError, match="megapixels"):
        decode(path, images=photos, max_megapixels=1e-6)


@pytest.mark.parametrize("name", ["x.txt", "x.json", "x.zip"])
def test_a_missing_file(tmp_path, name):
    with pytest.raises(DataError, match="no such file"):
        read_masks(tmp_path / name)


@pytest.mark.parametrize("name", ["x.txt", "x.zip"])
def test_another_file(tmp_path, name):
    with pytest.raises(DataError, match=name):
        read_masks(written(tmp_path / name, "x"))


def test_a_folder_without_masks_or_with_several_files(tmp_path):
    with pytest.raises(DataError, match="no label image"):
        read_masks(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(coco(RLE)))
    with pytest.raises(DataError, match="Name one"):
        read_masks(tmp_path)


@pytest.mark.parametrize("name", ["a:b", "#cat", "a\nb"])
def test_names_that_cvat_cannot_hold(tmp_path, name):
    with pytest.raises(ConfigError, match="label map"):
        export(tmp_path, "cvat", {"a": photo()}, names=[name])


def test_a_value_without_a_class(tmp_path):
    path, _, _ = export(tmp_path, "png", {"a": photo() * 2}, names=["cat", "dog"])

    (path / "classes.txt").unlink()
    with pytest.raises(DataError, match="the value 2"):
        decode(path, classes=["cat"])
