"""Where objects are: from label images and from VOC's boxes."""

import numpy as np
import pytest

from pipeline.base.errors import DataError
from pipeline.data.catalogue import Item
from pipeline.data.palette import encode_label_image
from pipeline.data.truth import boxes_of, masks_of

BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def annotation(path, *objects):
    """``(name, difficult, box)`` as a VOC file."""
    items = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult>{BOX.format(*box)}</object>"
        for name, hard, box in objects
    )
    path.write_text(f"<annotation>{items}</annotation>")
    return path


def test_a_label_image_has_a_mask_for_each_class_in_it_and_its_void(tmp_path):
    labels = np.array([[0, 3, 3], [255, 1, 0]], dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(encode_label_image(labels))

    found = masks_of(Item("a", tmp_path / "a.jpg", (), tmp_path / "a.png"))

    assert found.objects.keys() == {0, 2}
    assert found.objects[2].tolist() == [[False, True, True], [False, False, False]]
    assert found.void.tolist() == [[False, False, False], [True, False, False]]


def test_boxes_count_from_one_and_include_their_last_pixel(tmp_path):
    path = annotation(tmp_path / "a.xml", ("cat", 0, (1, 1, 2, 1)), ("cat", 0, (3, 2, 9, 9)))

    found = boxes_of(path, ["dog", "cat"], (2, 4))

    assert found.objects.keys() == {1}
    assert found.objects[1].astype(int).tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert not found.void.any()


def test_classes_with_only_difficult_boxes_are_left_out(tmp_path):
    path = annotation(
        tmp_path / "a.xml",
        ("cat", 1, (1, 1, 1, 1)), ("dog", 1, (1, 1, 1, 1)), ("dog", 0, (4, 1, 4, 1)),
        ("table", 0, (1, 1, 2, 2)),
    )  # fmt: skip

    found = boxes_of(path, ["dog", "cat"], (1, 4))

    assert {k: mask.astype(int).tolist() for k, mask in found.objects.items()} == {
        0: [[1, 0, 0, 1]]
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"a\.xml: the boxes cannot be read"),
        ("<annotation><object>", r"a\.xml: the boxes cannot be read"),
        ("<a><object><name>cat</name></object></a>", r"a box lacks one of xmin, ymin"),
    ],
)
def test_annotations_that_cannot_be_used_are_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "a.xml").write_text(text)

    with pytest.raises(DataError, match=message):
        boxes_of(tmp_path / "a.xml", ["cat"], (2, 2))
