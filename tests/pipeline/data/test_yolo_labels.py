import pytest

from pipeline.base.errors import DataError
from pipeline.data.yolo_labels import read_yolo_labels

BOX = "0.5 0.5 0.2 0.1"
IDS = ["a", "b", "c"]


@pytest.fixture
def labels(tmp_path):
    """A shows a dog and a cat, b is an empty file, c has none; the names lie beside the folder."""
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "a.txt").write_text(f"1 {BOX}\n0 .1 .1 .2 .2 .3 .1\n\n1 {BOX} 0.93\n")
    (folder / "b.txt").write_text("")
    (tmp_path / "data.yaml").write_text("nc: 2\nnames: [cat, dog]\n")
    return folder


def test_an_image_shows_the_classes_of_its_lines(labels):
    found, classes, notes = read_yolo_labels(labels, IDS)

    assert classes == ("cat", "dog")
    assert found == {"a": (0, 1), "b": (), "c": ()}
    assert len(notes) == 1
    assert notes[0].startswith("1 of 3 images have no file in")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.yaml", "names:\n  1: dog\n  0: cat\n"),
        ("data.yaml", "names:\n- cat\n- dog\n"),
        ("labels/classes.txt", "cat\ndog\n"),
        ("obj.names", "cat\ndog\n"),
    ],
)
def test_names_are_found_beside_the_labels(labels, name, text):
    (labels.parent / "data.yaml").unlink()
    (labels.parent / name).write_text(text)

    assert read_yolo_labels(labels, IDS)[:2] == ({"a": (0, 1), "b": (), "c": ()}, ("cat", "dog"))


def test_a_list_of_classes_chooses_among_the_names(labels):
    found, classes, _ = read_yolo_labels(labels, IDS, ["dog"])

    assert (found["a"], classes) == ((0,), ("dog",))
    assert read_yolo_labels(labels, IDS, ["dog", "cat"])[1] == ("dog", "cat")


def test_without_a_file_the_list_is_the_names(labels):
    (labels.parent / "data.yaml").unlink()

    assert read_yolo_labels(labels, IDS, ["scratch", "spot"])[1] == ("scratch", "spot")


def test_a_file_of_names_may_lie_anywhere(labels, tmp_path):
    (labels.parent / "data.yaml").rename(tmp_path / "coco128.yaml")

    assert read_yolo_labels(labels, IDS, tmp_path / "coco128.yaml")[1] == ("cat", "dog")


def test_images_and_labels_lie_in_folders_of_these_names(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / split / "labels").mkdir(parents=True)
        (tmp_path / split / "labels" / "1.txt").write_text(f"0 {BOX}")
    (tmp_path / "data.yaml").write_text("names: [cat]")
    (tmp_path / "README.roboflow.txt").write_text("Exported")
    (tmp_path / "train.txt").write_text("images/1.jpg")

    found, _, notes = read_yolo_labels(tmp_path, ["train/images/1", "valid/images/1"])

    assert found == {"train/images/1": (0,), "valid/images/1": (0,)}
    assert notes == ()


def test_a_file_without_image_keeps_its_name_so_that_it_can_be_named(labels):
    (labels / "d.txt").write_text(f"0 {BOX}")

    assert "d" in read_yolo_labels(labels, IDS)[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"2 {BOX}", r"a\.txt line 1: class 2 has no name, there are 2.*1 dog"),
        (f"cat {BOX}", r"line 1: 'cat 0\.5 0\.5 0\.2 0\.1' is no box"),
        ("0", r"line 1: '0' is no box"),
        (f"-1 {BOX}", r"is no box"),
        (f"0.5 {BOX}", r"is no box"),
        (f"nan {BOX}", r"is no box"),
    ],
)
def test_a_line_that_is_no_box_is_named(labels, line, message):
    (labels / "a.txt").write_text(line)

    with pytest.raises(DataError, match=f"(?s){message}"):
        read_yolo_labels(labels, IDS)


def test_numbers_without_names_are_refused(labels):
    (labels.parent / "data.yaml").unlink()

    with pytest.raises(DataError, match=r"numbers of classes without names.*Pass data\.classes"):
        read_yolo_labels(labels, IDS)


def test_labels_of_other_images_are_refused(labels):
    with pytest.raises(DataError, match=r"2 label files \(\.txt\), for example a\.txt, none of"):
        read_yolo_labels(labels, ["x", "y"])


def test_a_class_that_has_no_number_is_refused(labels):
    with pytest.raises(DataError, match=r"(?s)'dgo' \(did you mean 'dog'\?\).*names are cat, dog"):
        read_yolo_labels(labels, IDS, ["dgo"])
