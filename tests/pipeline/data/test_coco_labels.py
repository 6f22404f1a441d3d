import json

import pytest

from pipeline.base.errors import DataError
from pipeline.data.coco_labels import read_coco_labels

IDS = ["a", "b", "c"]


def coco(**parts):
    whole = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"},
                   {"id": 9, "file_name": "c.jpg"}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "bbox": [0, 0, 2, 2]},
            {"image_id": 7, "category_id": 3, "bbox": [1, 1, 2, 2]},
            {"image_id": 7, "category_id": 1},
            {"image_id": 9, "category_id": 3},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "potted plant"}],
    }  # fmt: skip
    return {**whole, **parts}


@pytest.fixture
def saved(tmp_path):
    def write(content):
        path = tmp_path / "instances.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_an_image_shows_the_categories_of_its_annotations(saved):
    labels, classes = read_coco_labels(saved(coco()), IDS)

    assert classes == ("potted plant", "cat")
    assert labels == {"a": (0, 1), "b": (), "c": (1,)}


def test_given_classes_choose_and_order_the_categories(saved):
    assert read_coco_labels(saved(coco()), IDS, ["cat"]) == (
        {"a": (0,), "b": (), "c": (0,)},
        ("cat",),
    )
    assert read_coco_labels(saved(coco()), IDS, ["cat", "potted plant"])[0]["c"] == (0,)


def test_file_names_may_begin_with_folders_that_the_ids_lack(saved):
    images = [{"id": 7, "file_name": "train2017/a.jpg"}, {"id": 8, "file_name": "x/y/b.jpg"},
              {"id": 9, "file_name": "x\\c.jpg"}]  # fmt: skip

    labels, _ = read_coco_labels(saved(coco(images=images)), ["a", "y/b", "c", "b"])

    assert labels == {"a": (0, 1), "y/b": (), "c": (1,)}


def test_a_file_name_without_image_keeps_its_path(saved):
    images = [{"id": k, "file_name": f"train/{k}.jpg"} for k in (7, 8, 9)]

    assert list(read_coco_labels(saved(coco(images=images)), IDS)[0]) == [
        "train/7",
        "train/8",
        "train/9",
    ]


@pytest.mark.parametrize(
    "unused",
    [{"id": 0, "name": "background"}, {"id": 0, "name": "animals", "supercategory": "none"}],
    ids=["background", "group"],
)
def test_unused_headings_are_no_classes(saved, unused):
    categories = [unused, {"id": 3, "name": "cat", "supercategory": "animals"},
                  {"id": 1, "name": "dog", "supercategory": "animals"}]  # fmt: skip

    assert read_coco_labels(saved(coco(categories=categories)), IDS)[1] == ("dog", "cat")


def test_a_category_without_annotations_stays_a_class(saved):
    categories = [*coco()["categories"], {"id": 4, "name": "cow", "supercategory": "cow"}]

    assert read_coco_labels(saved(coco(categories=categories)), IDS)[1] == (
        "potted plant", "cat", "cow",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "classes", "message"),
    [
        ("{", None, r"cannot be read .*It should be a COCO file in JSON"),
        ([], None, r"no list 'images'"),
        ({"images": [], "annotations": [], "categories": {}}, None, r"no list 'categories'"),
        (coco(annotations=[{"image_id": 7, "caption": "a cat"}]), None,
         r"an entry of 'annotations' has no 'category_id'"),
        (coco(categories=[{"id": None, "name": "cat"}]), None, r"of 'categories' has no 'id'"),
        (coco(images=[{"id": [7], "file_name": "a.jpg"}]), None, r"of 'images' has no 'id'"),
        (coco(annotations=[{"image_id": 1, "category_id": 3}]), None, r"image 1 is not listed"),
        (coco(annotations=[{"image_id": 7, "category_id": 5}]), None,
         r"image 7: category 5 is not listed"),
        (coco(images=[*coco()["images"], {"id": 7, "file_name": "d.jpg"}]), None,
         r"two of the images have one id"),
        (coco(images=[*coco()["images"], {"id": 1, "file_name": "x/a.png"}]), None,
         r"two images have the id 'a'"),
        (coco(), ["cta"], r"(?s)'cta' \(did you mean 'cat'\?\).*categories are potted plant, cat"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_named(saved, content, classes, message):
    with pytest.raises(DataError, match=message):
        read_coco_labels(saved(content), IDS, classes)
