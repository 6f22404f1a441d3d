from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import ConfigError, DataError, StorageError
from pipeline.data.checks import check_catalogue, describe
from pipeline.data.scenes import CLASSES, draw_scene
from pipeline.data.shapes import load_shapes

SMALL = {"train": 6, "val": 3, "size": 64}


def bytes_of(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def test_the_pictures_are_a_data_set_that_passes_the_check(tmp_path):
    catalogue = load_shapes(tmp_path / "shapes", **SMALL)

    check_catalogue(catalogue)
    assert catalogue.classes == tuple(CLASSES)
    assert (len(catalogue.train.items), len(catalogue.val.items)) == (6, 3)
    assert catalogue.scored.ids == catalogue.train.ids
    assert opened(catalogue.val.items[0].image).size == (64, 64)


def test_labels_agree_with_the_masks(tmp_path):
    catalogue = load_shapes(tmp_path / "shapes", train=20, val=1, size=64)

    for item in catalogue.train.items:
        mask = opened(item.mask)
        values = set(np.unique(np.asarray(mask)).tolist())
        assert mask.mode == "P"
        assert 255 in values
        assert values - {0, 255} == {label + 1 for label in item.labels}


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    load_shapes(tmp_path / "one", random_seed=3, **SMALL)
    load_shapes(tmp_path / "two", random_seed=3, **SMALL)
    load_shapes(tmp_path / "other", random_seed=4, **SMALL)

    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert bytes_of(tmp_path / "one") != bytes_of(tmp_path / "other")


def test_a_picture_does_not_depend_on_how_many_there_are(tmp_path):
    few = load_shapes(tmp_path / "few", train=2, val=1, size=64)
    many = load_shapes(tmp_path / "many", train=4, val=2, size=64)

    assert few.train.items[1].image.read_bytes() == many.train.items[1].image.read_bytes()


def test_training_and_validation_differ(tmp_path):
    catalogue = load_shapes(tmp_path / "shapes", train=3, val=3, size=64)

    pictures = {i.image.read_bytes() for i in catalogue.train.items + catalogue.val.items}
    assert len(pictures) == 6


def test_a_second_call_draws_nothing(tmp_path, monkeypatch):
    first = load_shapes(tmp_path / "shapes", **SMALL)
    monkeypatch.setattr("pipeline.data.shapes.draw_scene", None)

    assert load_shapes(tmp_path / "shapes", **SMALL) == first


@pytest.mark.parametrize(
    "changed", [{"random_seed": 1}, {"train": 7}, {"val": 4}, {"size": 48}], ids=str
)
def test_other_arguments_replace_the_pictures(tmp_path, changed):
    load_shapes(tmp_path / "shapes", **SMALL)
    (tmp_path / "shapes" / "left over.txt").touch()
    load_shapes(tmp_path / "fresh", **{**SMALL, **changed})

    load_shapes(tmp_path / "shapes", **{**SMALL, **changed})

    assert bytes_of(tmp_path / "shapes") == bytes_of(tmp_path / "fresh")


def test_pictures_of_another_version_of_the_code_are_replaced(tmp_path):
    load_shapes(tmp_path / "shapes", **SMALL)
    manifest = tmp_path / "shapes" / "shapes.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "drawing": "older"}))
    (tmp_path / "shapes" / "left over.txt").touch()

    load_shapes(tmp_path / "shapes", **SMALL)

    assert not (tmp_path / "shapes" / "left over.txt").exists()


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.data.shapes.draw_scene", stopped)
    with pytest.raises(KeyboardInterrupt):
        load_shapes(tmp_path / "shapes", **SMALL)

    assert list(tmp_path.iterdir()) == []


def test_the_pictures_of_a_faster_process_are_kept(tmp_path, monkeypatch):
    from pipeline.data import shapes

    write = shapes._write

    def slow(folder, recipe):
        write(folder, recipe)
        monkeypatch.setattr(shapes, "_write", write)
        load_shapes(tmp_path / "shapes", **SMALL)

    monkeypatch.setattr(shapes, "_write", slow)

    catalogue = load_shapes(tmp_path / "shapes", **SMALL)

    check_catalogue(catalogue)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").touch()

    with pytest.raises(DataError, match=r"neither empty nor a folder of built-in pictures"):
        load_shapes(tmp_path, **SMALL)

    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / "shapes").mkdir()

    assert load_shapes(tmp_path / "shapes", **SMALL).train.has_masks


def test_a_disk_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=r"cannot be written.*Free some space"):
        load_shapes(tmp_path / "file" / "shapes", **SMALL)


@pytest.mark.parametrize("options", [{"train": 0}, {"val": 0}, {"size": 16}], ids=str)
def test_impossible_arguments_are_refused(tmp_path, options):
    with pytest.raises(ConfigError, match=r"Choose train and val >= 1 and size >= 32"):
        load_shapes(tmp_path / "shapes", **{**SMALL, **options})


def test_every_class_is_common_and_none_is_in_every_picture(tmp_path):
    catalogue = load_shapes(tmp_path / "shapes", train=60, val=1, size=64)

    counts = describe(catalogue)["train"]["images_per_class"]
    assert all(8 <= count <= 40 for count in counts.values()), counts


def test_colour_does_not_reveal_a_class():
    scenes = [draw_scene(np.random.default_rng([0, k]), 48) for k in range(150)]
    means = np.array([scene.image.mean(axis=(0, 1)) for scene in scenes])
    shown = np.array([[k in scene.labels for k in range(len(CLASSES))] for scene in scenes])

    for k in range(len(CLASSES)):
        gap = means[shown[:, k]].mean(axis=0) - means[~shown[:, k]].mean(axis=0)
        assert np.abs(gap).max() < 0.5 * means.std(axis=0).max()
