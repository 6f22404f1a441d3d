"""Names that look as if two of them were meant for one, and names that only look so."""

import pytest

from pipeline.base.errors import DataError
from pipeline.data.class_names import doubtful_names, read_classes, suggestion
from pipeline.data.voc import VOC_CLASSES


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(dict.fromkeys(VOC_CLASSES, 1), id="voc-one-image-each"),
        pytest.param({name: 1 + 50 * (k % 2) for k, name in enumerate(VOC_CLASSES)}, id="voc"),
        pytest.param({"potted plant": 3, "traffic light": 9, "plant": 8}, id="several-words"),
        pytest.param({"hot dog": 7, "dog": 9, "teddy bear": 5}, id="a-word-that-is-a-class"),
        pytest.param({"grade1": 1, "grade2": 30, "grade10": 1}, id="numbers"),
        pytest.param({"cat": 30, "car": 1, "bus": 1}, id="short-words"),
    ],
)
def test_ordinary_names_are_in_no_doubt(names):
    assert doubtful_names(names) == []


@pytest.mark.parametrize(
    ("names", "about"),
    [
        ({"cat": 3, "dog": 3, "cat dog": 2}, "'cat dog'"),
        ({"cat": 3, "dog": 3, "dog/cat": 1}, "'dog/cat'"),
        ({"cat": 30, "cat bird": 1}, "'cat bird'"),
        ({"cat dog": 4, "dog cat": 4}, "'dog cat'"),
        ({"cat;dog": 4}, "'cat;dog'"),
        ({"['cat', 'dog']": 4}, "several names"),
        ({"potted plant": 4, "potted_plant": 4}, "differ only in case"),
        ({"Pottedplant": 4, "potted-plant": 4}, "differ only in case"),
        ({"dog": 20, "dgo": 1}, "did you mean 'dog'"),
        ({"defect": 40, "defects": 3}, "did you mean 'defect'"),
    ],
)
def test_names_in_doubt(names, about):
    assert about in " ".join(doubtful_names(names))


def test_a_suggestion_ignores_case():
    assert suggestion("CAT", ["dog", "cat"]) == " (did you mean 'cat'?)"
    assert suggestion("zebra", ["dog", "cat"]) == ""


@pytest.mark.parametrize("text", ["names: [cat, 7]", "names: {1: 7, 0: cat}"])
def test_names_of_a_yaml_file_are_in_the_order_of_their_numbers(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)

    assert read_classes(tmp_path / "data.yaml") == ("cat", "7")


@pytest.mark.parametrize("text", ["nc: 2", "- cat", "names: {1: cat, 3: dog}", "names: cat"])
def test_a_yaml_file_without_names_is_refused(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)

    with pytest.raises(DataError, match=r"has no 'names' of classes"):
        read_classes(tmp_path / "data.yaml")


def test_a_yaml_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [")

    with pytest.raises(DataError, match=r"the class names cannot be read"):
        read_classes(tmp_path / "data.yaml")
