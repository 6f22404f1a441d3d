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


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("id,cat,dog\na,-1,1\nb,1,-1\n", id="minus-one-and-one"),
        pytest.param("id,cat,dog\na,no,yes\nb,Yes,NO\n", id="yes-and-no"),
        pytest.param("id,cat,dog\na,FALSE,True\nb,t,f\n", id="true-and-false"),
        pytest.param("id,cat,dog\na,0.00,1.\nb,+1,-1.0\n", id="numbers"),
        pytest.param("id,cat,dog\na,n,y\nb,Y,N\n", id="letters"),
        pytest.param("image_name,cat,dog\na,0,1\nb,1,0\n", id="image_name"),
        pytest.param("File Name,cat,dog\na.jpg,0,1\nb.jpg,1,0\n", id="file-name"),
        pytest.param("microscope slide,cat,dog\na,0,1\nb,1,0\n", id="any-header-over-flags"),
        pytest.param(",image,cat,dog\n0,a,0,1\n1,b,1,0\n", id="index-of-pandas"),
        pytest.param("Unnamed: 0,id,class\n0,a,dog\n1,b,cat\n", id="index-of-pandas-read-again"),
        pytest.param(",cat,dog\na,0,1\nb,1,0\n", id="ids-as-index-of-pandas"),
        pytest.param("id,label_1,label_2\na,dog,\nb,cat,\n", id="numbered-label-columns"),
    ],
)
def test_tables_as_people_write_them(csv_file, text):
    labels, classes = read_csv_labels(csv_file(text))

    assert classes == ("cat", "dog")
    assert labels == {"a": (1,), "b": (0,)}


def test_numbers_as_ids_are_no_index(csv_file):
    labels, _ = read_csv_labels(csv_file("id,cat,dog\n0,1,0\n1,0,1\n"))

    assert labels == {"0": (0,), "1": (1,)}


def test_one_column_of_truth_values_is_one_class(csv_file):
    assert read_csv_labels(csv_file("id,defect\na,yes\nb,no\n")) == (
        {"a": (0,), "b": ()},
        ("defect",),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "id,cat\na,yes\nb,maybe\n", r"line 3 \(b\): column 'cat' contains 'maybe'", id="maybe"
        ),
        pytest.param(
            "id,cat,dog\na,1,0.7\n", r"line 2 \(a\): column 'dog' contains '0.7'", id="score"
        ),
        pytest.param(
            "id,cat,dog\na,1,0\nb,-1,0\n", r"both 0 \(line 2\) and -1 \(line 3\)", id="three"
        ),
        pytest.param(
            "a,0,1\nb,1,0\n", r"line 1: cells like '0' are truth values, but no", id="headless"
        ),
        pytest.param(
            "id,split,cat,dog\na,train,1,0\nb,val,0,1\n",
            r"(?s)1 problem.*column 'split' contains no truth value, for example 'train' on line 2",
            id="other-column-of-a-table",
        ),
        pytest.param(
            "id,width,label\na,640,cat\nb,480,dog\n",
            r"column 'width': does it hold",
            id="other-column",
        ),
        pytest.param(
            "a,cat\nb,no\nc,dog\n", r"line 2 \(b\): 'no' is a truth value", id="no-as-class"
        ),
        pytest.param("a\nb\n", r"names no class", id="ids-only"),
        pytest.param(
            "id,cat,dog\na,x,\nb,,x\n",
            r"column 'cat': .* write 0 or 1 into its cells",
            id="crosses",
        ),
        pytest.param('{"images": []}', r"this is JSON, as COCO and many", id="coco"),
        pytest.param("PK\x03\x04", r"this is an Excel workbook", id="excel"),
        pytest.param("\n <annotation/>", r"this is XML or a web page. For VOC's", id="xml"),
    ],
)
def test_what_cannot_be_understood_is_named(csv_file, text, message):
    with pytest.raises(DataError, match=message):
        read_csv_labels(csv_file(text))


def test_text_of_excel_in_utf_16_is_named(csv_file):
    with pytest.raises(DataError, match="this is text in UTF-16"):
        read_csv_labels(csv_file("id;cat\na;1\n", encoding="utf-16"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "a,cat\nb,dog\nc,cat dog\n", r"'cat dog' \(1 image\): several names", id="space"
        ),
        pytest.param("a,cat|dog\nb,bird\n", r"'cat\|dog' \(1 image\): several names", id="bar"),
        pytest.param(
            "a,cat\nb,Cat\n", r"'cat' \(1 image\), 'Cat' \(1 image\) differ only", id="case"
        ),
        pytest.param(
            "a,cat\nb,cat\nc,catt\n", r"'catt' \(1 image\).*did you mean 'cat'", id="typo"
        ),
        pytest.param("id,Cat,cat\na,1,0\n", r"'Cat' \(1 image\), 'cat'", id="columns"),
    ],
)
def test_names_in_doubt_are_refused_unless_they_are_listed(csv_file, text, message):
    with pytest.raises(DataError, match=rf"(?s)in doubt.*{message}.*data\.classes=\["):
        read_csv_labels(csv_file(text))

    cells = {cell for row in text.splitlines() for cell in row.split(",")[1:]}
    names = sorted(cells - {"0", "1"})
    assert read_csv_labels(csv_file(text), names)[1] == tuple(names)


def test_xml_names_of_which_none_is_a_class_are_listed(tmp_path):
    (tmp_path / "a.xml").write_text(xml_with("disc", "square", "disc"))

    with pytest.raises(DataError, match=r"(?s)'disc': 1 images.*data\.classes=\[disc,square\]"):
        read_xml_labels(tmp_path, ["a"], ["cat", "dog"])


def test_xml_names_in_another_spelling_are_refused(tmp_path):
    (tmp_path / "a.xml").write_text(xml_with("cat", "Dining Table", "tractor"))

    with pytest.raises(DataError, match=r"'Dining Table' \(1 images\): the class is 'diningtable'"):
        read_xml_labels(tmp_path, ["a"], ["cat", "diningtable"])
