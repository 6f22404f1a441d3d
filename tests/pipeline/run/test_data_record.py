"""A run's folder belongs to one data set."""

import json
import shutil

import pytest

from pipeline.base.errors import DataError, StorageError
from pipeline.run.run import Run
from tests.pipeline.runs import do, with_settings


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
