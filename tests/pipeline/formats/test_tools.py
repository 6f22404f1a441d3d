"""Files as the tools themselves write and read them, by other programs or by hand."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference

from pipeline.formats.labelstudio import decoded
from pipeline.formats.reading import read_masks
from tests.pipeline.formats.test_round_trip import NAMES, RING, export, photo_file


def written(path, content):
    text = content if isinstance(content, str) else json.dumps(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def coco(segmentation, height=3, width=4, **image):
    """A COCO file of one object."""
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "height": height, "width": width, **image}],
        "annotations": [{"image_id": 7, "category_id": 3, "segmentation": segmentation}],
        "categories": [{"id": 3, "name": "cat"}],
    }


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
@pytest.mark.parametrize("kind", ["coco", "coco polygons"])
def test_pycocotools_reads_what_is_written(tmp_path, kind):
    path, _, _ = export(tmp_path, kind, {"a": RING})

    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        coded = annotation["segmentation"]
        if isinstance(coded, list):
            coded = reference.merge(reference.frPyObjects(coded, 7, 7))
        assert np.array_equal(reference.decode(coded) > 0, annotation["category_id"] == RING)
        assert annotation["area"] == reference.area(coded)
        assert annotation["area"] in (40, 1)
        assert annotation["bbox"] == reference.toBbox(coded).tolist()


def test_coco_of_other_programs(tmp_path):
    whole = {"size": [3, 4], "counts": [4, 1, 7]}  # column by column, so row 1 of column 1
    two = [[0, 0, 1, 0, 1, 1, 0, 1], [3, 2, 4, 2, 4, 3, 3, 3]]
    content = coco(whole)
    content["annotations"].append({**content["annotations"][0], "segmentation": two})

    found = read_masks(written(tmp_path / "x.json", content))

    assert found["a"].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]


def panoptic(folder, rows, segments, names=("road", "cat")):
    """A panoptic file of one image; its pixels are numbers of segments."""
    numbers = np.array(rows, np.uint32)
    colours = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], axis=-1)
    picture = folder / "panoptic_val" / "a.png"
    picture.parent.mkdir(parents=True)
    Image.fromarray(colours.astype(np.uint8)).save(picture)
    size = {"height": len(rows), "width": len(rows[0])}
    infos = [{"id": id_, "category_id": category} for id_, category in segments.items()]
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", **size}],
        "annotations": [{"image_id": 7, "file_name": "a.png", "segments_info": infos}],
        "categories": [{"id": 10 * k, "name": name} for k, name in enumerate(names, start=1)],
    }
    return written(folder / "panoptic_val.json", content)


def test_coco_panoptic_of_other_programs(tmp_path):
    path = panoptic(tmp_path, [[0, 70_000], [258, 3]], {70_000: 10, 258: 20, 3: 10})

    found = read_masks(path, ["cat", "road"])

    assert found["a"].tolist() == [[0, 2], [1, 2]]


def test_pixels_without_a_segment_are_void_where_background_has_segments(tmp_path):
    names = ("cat", "background")
    path = panoptic(tmp_path, [[0, 1, 2]], {1: 10, 2: 20}, names)

    assert read_masks(path)["a"].tolist() == [[255, 1, 0]]


def test_coco_panoptic_lists_areas_and_boxes(tmp_path):
    path, _, _ = export(tmp_path, "panoptic", {"a": RING})

    content = json.loads(path.read_text())
    found = {s["area"]: s["bbox"] for s in content["annotations"][0]["segments_info"]}
    assert found == {8: [2, 2, 3, 3], 40: [0, 0, 7, 7], 1: [3, 3, 1, 1]}
    things = {category["name"]: category["isthing"] for category in content["categories"]}
    assert things == dict.fromkeys(NAMES, 1) | {"background": 0}


def test_a_folder_as_cvat_exports_coco(tmp_path):
    written(tmp_path / "annotations" / "instances_default.json", coco([[0, 0, 4, 0, 4, 3, 0, 3]]))

    assert read_masks(tmp_path)["a"].min() == 1


BITS = (
    f"{16:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"  # 16 values of 8 bits, lengths
    + "1" + "00" + "111" + f"{255:08b}"  # 8 times 255
    + "0" + "00" + "011" + f"{9:08b}" * 3 + f"{1:08b}"  # 4 values that differ
    + "1" + "01" + "0011" + f"{0:08b}"  # 4 times 0, with the second kind of length
)  # fmt: skip


def test_run_lengths_of_label_studio_by_hand():
    text = BITS + "0" * (-len(BITS) % 8)
    data = [int(text[k : k + 8], 2) for k in range(0, len(text), 8)]

    assert decoded(data, (2, 2)).tolist() == [[True, True], [True, False]]


def task(*results, **more):
    return {"data": {"image": "/data/upload/3/0a1b2c3d-my%20cat.jpg"}, **more} | {
        "annotations": [{"was_cancelled": False, "result": list(results)}]
    }


def polygon(points, label="cat"):
    size = {"original_width": 10, "original_height": 5}
    value = {"points": points, "polygonlabels": [label]}
    return {"type": "polygonlabels", "value": value, **size}


def test_the_last_annotation_of_label_studio_counts(tmp_path):
    half = polygon([[0, 0], [50, 0], [50, 100], [0, 100]])
    tasks = [task(half, {"type": "choices", "value": {"choices": ["cat"]}})]
    tasks[0]["annotations"].append({"was_cancelled": True, "result": []})
    tasks[0]["predictions"] = [{"result": [polygon([[0, 0], [1, 0], [1, 1]], "dog")]}]

    found = read_masks(written(tmp_path / "x.json", tasks), ["dog", "cat"])

    assert list(found) == ["my cat"]
    assert np.array_equal(found["my cat"], np.tile([2] * 5 + [0] * 5, (5, 1)))


def test_cvat_in_folders_colours_and_other_orders(tmp_path):
    path, _, _ = export(tmp_path, "cvat", {"deep/a": RING})
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
        lines = archive.read("labelmap.txt").decode().splitlines()
        assert lines[1] == "background:0,0,0::"
        assert archive.read("ImageSets/Segmentation/default.txt").decode() == "deep/a\n"
        data = io.BytesIO(archive.read("SegmentationObject/deep/a.png"))
        with Image.open(data) as image:
            assert len(image.convert("RGB").getcolors()) == 3  # two objects and the ground
    written(tmp_path / "unpacked" / "labelmap.txt", "\n".join([lines[0], *lines[:0:-1]]))

    assert np.array_equal(read_masks(tmp_path / "unpacked", NAMES)["deep/a"], RING)


LINES = "1 0 0 0.5 0 0.5 1 0 1\n\n0 0.75 0 1 0 1 1 0.75 1"


def test_yolo_of_other_programs(tmp_path):
    photo_file(tmp_path / "images" / "train", "a", (2, 4))
    written(tmp_path / "labels" / "train" / "a.txt", LINES)
    written(tmp_path / "my.yaml", "path: /elsewhere\nnames: [dog, cat]")

    found = read_masks(tmp_path / "my.yaml", ["cat", "dog"])

    assert found["a"].tolist() == [[1, 1, 0, 2]] * 2
