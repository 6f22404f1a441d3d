from __future__ import annotations

import pytest

from pipeline.base.errors import DataError
from pipeline.data.class_names import read_classes
from pipeline.data.labels import read_csv_labels, read_xml_labels


@pytest.fixture
def csv_file(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def xml_with(*names):
    objects = "".join(f"<object><name>{name}</name></object>" for name in names)
    return f"<annotation>{objects}</annotation>"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("id,cat,dog\na,1,0\nb,0,1\nc,1,1\nd,0,0\n", id="table"),
        pytest.param("id,dog,cat\na,0,1\nb,1,0\nc,1,1\nd,0,0\n", id="table-in-other-column-order"),
        pytest.param("id;cat;dog\r\na;1;0\r\nb;0;1\r\nc;1;1\r\nd;0;0\r\n", id="semicolons-crlf"),
        pytest.param("\ufeffid,cat,dog\na,1,0\nb,0,1\nc,1,1\nd,0,0", id="byte-order-mark"),
        pytest.param("id,cat,dog\na,1.0,0.0\nb,False,True\nc,1,1\nd,0,0\n", id="floats-and-bools"),
        pytest.param("id,class,class\na,cat\nb,dog\nc,dog,cat\nd\n", id="list-with-header"),
        pytest.param("a,cat\nb,dog,\n\nc, cat, dog\nd,,\n", id="list-without-header"),
        pytest.param("a.jpg,cat,cat\nb.PNG,dog\nc.jpeg,cat,dog\nd.webp\n", id="file-names-as-ids"),
    ],
)
def test_both_layouts_give_the_same_labels(csv_file, text):
    labels, classes = read_csv_labels(csv_file(text), ["cat", "dog"])

    assert classes == ("cat", "dog")
    assert labels == {"a": (0,), "b": (1,), "c": (0, 1), "d": ()}


def test_ids_that_look_like_numbers_stay_strings(csv_file):
    labels, _ = read_csv_labels(csv_file("id,cat\n2007_000032,1\n007,0\n1e3,1\n"))

    assert list(labels) == ["2007_000032", "007", "1e3"]


def test_classes_come_from_the_file_if_none_are_given(csv_file):
    assert read_csv_labels(csv_file("id,dog,cat\na,1,0\n"))[1] == ("dog", "cat")
    assert read_csv_labels(csv_file("a,dog\nb,cat\n"))[1] == ("cat", "dog")


def test_a_class_called_by_a_number_is_possible_in_a_list(csv_file):
    labels, classes = read_csv_labels(csv_file("id,class\na,cat\nb,7\n"))

    assert classes == ("7", "cat")
    assert labels == {"a": (1,), "b": (0,)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("id,cat,dog\na,1,2\n", r"line 2 \(a\): column 'dog' contains '2'", id="two"),
        pytest.param(
            "id,cat,dog\na,1,\n", r"line 2 \(a\): column 'dog' contains ''", id="empty-cell"
        ),
        pytest.param("id,cat,dog\na,1\n", r"line 2 \(a\): 1 cells for 2 classes", id="short-row"),
        pytest.param(
            "id,cat,dog\na,1,0\na,0,1\n", r"line 3: id 'a' was already on line 2", id="id"
        ),
        pytest.param("a,cat\na.jpg,dog\n", r"id 'a' was already on line 1", id="id-with-suffix"),
        pytest.param(
            "a,cat\nb,dgo\n", r"line 2 \(b\): 'dgo' is not a class \(did you mean", id="typo"
        ),
        pytest.param(
            "id,cat,dgo\na,1,0\n", r"(?s)column 'dgo' is not a class.*'dog' has no column", id="col"
        ),
        pytest.param("id,cat,dog\n", r"contains no image labels", id="header-only"),
        pytest.param("", r"contains no image labels", id="empty-file"),
    ],
)
def test_a_wrong_line_is_named(csv_file, text, message):
    with pytest.raises(DataError, match=message):
        read_csv_labels(csv_file(text), ["cat", "dog"])


def test_only_the_first_twenty_problems_are_listed(csv_file):
    lines = "".join(f"image{k},bird\n" for k in range(30))

    with pytest.raises(DataError, match=r"(?s)30 problem.*line 20 .*\.\.\. and 10 more") as error:
        read_csv_labels(csv_file(lines), ["cat"])

    assert "line 21 " not in str(error.value)


def test_a_file_in_another_encoding_is_refused(csv_file):
    with pytest.raises(DataError, match="UTF-8"):
        read_csv_labels(csv_file("id,k\u00e4tzchen\na,1\n", encoding="latin-1"))


def test_a_missing_file_names_the_layouts(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv.*'id,class,class'"):
        read_csv_labels(tmp_path / "none.csv")


def test_xml_gives_the_objects_among_the_classes(tmp_path):
    (tmp_path / "a.xml").write_text(xml_with("dog", "cat", "dog", "tractor"))
    (tmp_path / "b.xml").write_text(xml_with())

    assert read_xml_labels(tmp_path, ["a", "b", "c"], ["cat", "dog"]) == {"a": (0, 1), "b": ()}


def test_xml_parts_are_not_objects(tmp_path):
    part = "<part><name>cat</name></part>"
    (tmp_path / "a.xml").write_text(
        f"<annotation><object><name>dog</name>{part}</object></annotation>"
    )

    assert read_xml_labels(tmp_path, ["a"], ["cat", "dog"]) == {"a": (1,)}


def test_broken_xml_names_the_file(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation><object>")

    with pytest.raises(DataError, match=r"a\.xml"):
        read_xml_labels(tmp_path, ["a"], ["cat"])


def test_classes_from_a_file_and_from_a_list(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\n dog \n\npotted plant\n")

    assert read_classes(tmp_path / "classes.txt") == ("cat", "dog", "potted plant")
    assert read_classes(["cat", "dog"]) == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(["cat", "cat"], "'cat' is listed more than once", id="repeated"),
        pytest.param(["cat", ""], "'' is not a name", id="empty"),
        pytest.param(
            ["background", "cat"], "'background' is value 0 of every mask", id="background"
        ),
        pytest.param([], "0 classes", id="none"),
        pytest.param([f"c{k}" for k in range(255)], "255 classes", id="too-many"),
    ],
)
def test_unusable_class_names_are_refused(names, message):
    with pytest.raises(DataError, match=message):
        read_classes(names)
