"""`tsgb masks` as a person uses it: out of a run, and back."""

import json

import numpy as np
import pytest

from pipeline.command import main
from pipeline.data.palette import read_label_image
from pipeline.formats.reading import read_masks
from pipeline.formats.writing import FORMATS
from pipeline.stages.label_images import mask_path


@pytest.fixture
def masks(finished):
    """The pseudo-masks of a run by id."""
    folder = finished.stage("pseudo_labels").path
    items = finished.data.train.items
    return {item.id: read_label_image(mask_path(folder, "masks", item)) for item in items}


@pytest.fixture
def photos(finished):
    return finished.data.train.items[0].image.parent


def command(*words, code=0):
    assert main(["masks", *map(str, words)]) == code


@pytest.mark.parametrize("kind", FORMATS)
def test_out_and_in_again(finished, masks, photos, tmp_path, kind):
    out, back = tmp_path / "out", tmp_path / "back"

    command("export", finished.folder, "--format", kind, "--out", out, "--void")
    command("import", out, "--run", finished.folder, "--out", back, "--images", photos)

    names = (back / "classes.txt").read_text().splitlines()
    assert names == list(finished.data.classes)
    for id_, labels in masks.items():
        assert np.array_equal(read_label_image(back / f"{id_}.png"), labels)


def test_void_is_left_out_and_counted(finished, masks, tmp_path, capsys):
    command("export", finished.folder, "--format", "coco", "--out", tmp_path / "out")

    void = sum(int((labels == 255).sum()) for labels in masks.values())
    assert f"{void} pixels" in capsys.readouterr().err
    found = read_masks(tmp_path / "out")
    for id_, labels in masks.items():
        assert np.array_equal(found[id_], np.where(labels == 255, 0, labels))


def test_predictions_of_the_evaluated_split(finished, tmp_path):
    out = tmp_path / "out"

    words = ("export", finished.folder, "--format", "png", "--predictions", "--out", out)
    command(*words, "--split", "val")

    folder = finished.stage("evaluate").path / "predictions"
    for item in finished.data.val.items:
        wanted = read_label_image(folder / f"{item.id}.png")
        assert np.array_equal(read_label_image(out / f"{item.id}.png"), wanted)
    command(*words, code=1)  # only val was evaluated


def test_photos_are_named_and_copied(finished, photos, tmp_path):
    command(
        "export", finished.folder, "--format", "yolo", "--out", tmp_path / "o", "--images", photos
    )

    copied = {path.name for path in (tmp_path / "o" / "images" / "train").iterdir()}
    assert copied == {item.image.name for item in finished.data.train.items}
    assert len(read_masks(tmp_path / "o")) == len(finished.data.train.items)


def test_some_images_alone(finished, photos, tmp_path, capsys):
    ids = finished.data.train.ids[2:5]
    (tmp_path / "ids.txt").write_text("".join(f"{id_}.jpg\n" for id_ in ids))
    words = ("export", finished.folder, "--format", "png", "--only", tmp_path / "ids.txt", "--out")

    command(*words, tmp_path / "o", "--images", photos)

    assert sorted(path.stem for path in (tmp_path / "o").glob("*.png")) == list(ids)
    (tmp_path / "ids.txt").write_text(f"{ids[0]}\n{finished.data.val.ids[0]}\n")
    command(*words, tmp_path / "p", code=1)
    said = " ".join(capsys.readouterr().err.split())
    assert f"1 of 2 images have no mask. - {finished.data.val.ids[0]}" in said


def test_missing_photos_are_named_and_the_masks_are_written(finished, tmp_path, capsys):
    (tmp_path / "empty").mkdir()

    command(
        "export", finished.folder, "--format", "coco", "--out", tmp_path / "o", "--images",
        tmp_path / "empty", code=1,
    )  # fmt: skip

    assert finished.data.train.items[0].id in capsys.readouterr().err
    assert (tmp_path / "o" / "instances_train.json").exists()


def test_a_damaged_mask_is_named_and_the_others_are_written(copied, tmp_path, capsys):
    item = copied.data.train.items[1]
    mask_path(copied.stage("pseudo_labels").path, "masks", item).write_bytes(b"x")

    command("export", copied.folder, "--format", "coco", "--out", tmp_path / "o", code=1)

    assert item.id in capsys.readouterr().err
    content = json.loads((tmp_path / "o" / "instances_train.json").read_text())
    assert len(content["images"]) == len(copied.data.train.items) - 1


@pytest.mark.parametrize("kind", ["png", "yolo"])
def test_label_files_of_other_photos_are_not_mixed(finished, tmp_path, kind, capsys):
    words = ("export", finished.folder, "--format", kind, "--out", tmp_path / "o")
    command(*words)
    command(*words)  # the same ones again
    other = "a.png" if kind == "png" else "labels/train/a.txt"
    (tmp_path / "o" / other).touch()

    command(*words, code=1)

    assert "other photos, such as 'a'" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_no_run(tmp_path, place, capsys):
    command("export", tmp_path / place, "--format", "png", "--out", tmp_path / "o", code=1)

    assert "no finished pseudo_labels of train" in capsys.readouterr().err


def test_the_folder_of_a_stage(finished, tmp_path):
    stage = finished.stage("pseudo_labels").path

    command("export", stage, "--format", "png", "--out", tmp_path / "o")

    assert len(read_masks(tmp_path / "o")) == len(finished.data.train.items)


def test_other_classes_are_named_before_anything_is_written(finished, tmp_path, capsys):
    out = tmp_path / "o"
    command("export", finished.folder, "--format", "labelstudio", "--out", out)

    command("import", out, "--classes", "cat,dog", "--out", tmp_path / "back", code=1)

    assert "classes are cat, dog" in capsys.readouterr().err
    assert not (tmp_path / "back").exists()
