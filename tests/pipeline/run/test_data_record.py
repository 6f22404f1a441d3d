"""A run's folder belongs to one data set."""

import json
import shutil
from dataclasses import replace

import pytest

from pipeline.base.errors import DataError, StorageError
from pipeline.run.run import Run
from tests.pipeline.runs import again, do, with_settings


@pytest.fixture
def begun(make_run):
    run = make_run()
    do(run, "classifier")
    return run


def record(run):
    return run.folder / "data.json"


def test_another_data_set_is_refused_and_changes_nothing(begun, tmp_path):
    before = record(begun).read_bytes()
    other = with_settings(begun, data={"root": str(tmp_path / "elsewhere"), "random_seed": 7})

    with pytest.raises(DataError, match=r"has results of the data set 'shapes'.*run_dir=PATH"):
        do(other, "report")

    assert record(begun).read_bytes() == before
    assert not (begun.folder / "report").exists()


def test_moved_data_are_the_same_data(begun, tmp_path, shapes_root):
    shutil.copytree(shapes_root, tmp_path / "moved")
    moved = with_settings(begun, data={"root": str(tmp_path / "moved")})

    assert moved.data_version == begun.data_version
    assert str(tmp_path / "moved") in record(begun).read_text()


def test_images_of_the_same_folder_may_come_and_go(begun):
    smaller = with_settings(begun, data={"val": 3})

    assert len(smaller.data.val.items) == 3


@pytest.mark.parametrize(
    "content", ["", "{", "null", "3", "[1]", '{"fingerprint": 5}', '{"layout": 3}']
)
def test_a_damaged_record_is_named(begun, content):
    record(begun).write_text(content)

    with pytest.raises(StorageError, match=r"data\.json: .*Remove this file|another version"):
        _ = Run(begun.settings, begun.folder).data


def test_any_changed_value_of_the_record_is_noticed(begun):
    whole = json.loads(record(begun).read_text())
    for key in whole:
        record(begun).write_text(json.dumps({**whole, key: [None]}))
        with pytest.raises(StorageError, match=r"data\.json"):
            _ = Run(begun.settings, begun.folder).data


def test_what_was_understood_is_shown_after_the_check_and_what_may_be_wrong_each_time(
    make_run, shapes_root, tmp_path, capsys
):
    shutil.copytree(shapes_root, tmp_path / "data")
    labels = tmp_path / "data" / "image_labels.csv"
    first, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([first + ",unicorn", *(f"{row},0" for row in rows)]))
    data = {
        "_target_": "pipeline.data.voc.load_voc", "root": str(tmp_path / "data"), "train": "train",
        "labels": str(labels), "classes": [*first.split(",")[1:], "unicorn"], "train_masks": None,
    }  # fmt: skip
    run = make_run()
    run.settings = replace(run.settings, data=data)

    assert run.data.classes[-1] == "unicorn"
    once = capsys.readouterr().err
    assert again(run).data == run.data
    twice = capsys.readouterr().err

    assert "held-out images" in once
    assert "64 x 64 px, 14 of 8 bits" in once
    assert "held-out images" not in twice
    assert once.count("no image shows unicorn") == twice.count("no image shows unicorn") == 1
