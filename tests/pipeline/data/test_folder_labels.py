import pytest

from pipeline.base.errors import ConfigError, DataError
from pipeline.data.folder_labels import read_folder_labels


def test_the_first_folder_is_the_class():
    labels, classes, notes = read_folder_labels(["dog/1", "cat/1", "cat/tabby/dog"])

    assert classes == ("cat", "dog")
    assert labels == {"dog/1": (1,), "cat/1": (0,), "cat/tabby/dog": (0,)}
    assert notes == ()


@pytest.mark.parametrize("split", ["train", "Val", "test"])
def test_folders_of_splits_are_passed_over(split):
    labels, classes, _ = read_folder_labels([f"{split}/cat/1", f"{split}/dog/1", "cat/2"])

    assert classes == ("cat", "dog")
    assert labels[f"{split}/dog/1"] == (1,)


@pytest.mark.parametrize("good", ["good", "Good", "OK", "normal", "negative", "background"])
def test_a_good_folder_shows_no_class_and_a_note_says_so(good):
    labels, classes, notes = read_folder_labels([f"{good}/1", f"{good}/2", "bad/1"])

    assert classes == ("bad",)
    assert labels == {f"{good}/1": (), f"{good}/2": (), "bad/1": (0,)}
    assert notes == (f"the 2 images in the folder {good!r} show no class",)


def test_the_folder_without_any_class_may_have_any_name():
    ids = ["fine/1", "scratch/1", "good/1"]

    labels, classes, _ = read_folder_labels(ids, negative="fine")

    assert classes == ("good", "scratch")
    assert labels == {"fine/1": (), "scratch/1": (1,), "good/1": (0,)}
    assert read_folder_labels(ids, negative=["fine", "good"])[1] == ("scratch",)


def test_with_one_class_the_rest_is_negative():
    labels, classes, _ = read_folder_labels(["bad/1", "fine/1", "other/1"], classes=["bad"])

    assert classes == ("bad",)
    assert labels == {"bad/1": (0,), "fine/1": (), "other/1": ()}


def test_given_classes_have_the_order_of_the_mask_values():
    ids = ["cat/1", "dog/1", "good/1"]

    assert read_folder_labels(ids, ["dog", "cat"])[0] == {
        "cat/1": (1,),
        "dog/1": (0,),
        "good/1": (),
    }
    assert read_folder_labels(ids, ["good", "dog", "cat"])[0]["good/1"] == (0,)


def test_no_negative_folder_means_that_all_are_classes():
    assert read_folder_labels(["good/1", "bad/1"], negative=[])[1] == ("bad", "good")


@pytest.mark.parametrize(
    ("ids", "options", "error", "message"),
    [
        (["cat/1", "2"], {}, DataError, r"(?s)1 image\(s\) lie in no folder of a class.*- 2"),
        (["cat/1", "test/2"], {}, DataError, r"(?s)lie in no folder.*- test/2.*after a split"),
        (["good/1"], {}, DataError, r"no folder shows a class"),
        (["cat/1"], {"classes": ["dog"]}, DataError, r"no folder shows a class"),
        (
            ["cat/1", "dgo/1"], {"classes": ["cat", "dog"]}, DataError,
            r"(?s)'dgo' \(1 images\) \(did you mean 'dog'\?\).*or to data\.negative",
        ),
        (["cat/1", "Cat/1"], {}, DataError, r"differ only in case"),
        (["cat/1"], {"negative": "god"}, ConfigError, r"no folder 'god'.*folders are cat"),
        (["bad/1", "ground_truth/bad/1"], {}, DataError, r"'ground_truth' \(1 images\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_named(ids, options, error, message):
    with pytest.raises(error, match=message):
        read_folder_labels(ids, **options)
