import pytest

from pipeline.base.errors import ConfigError, DataError
from pipeline.data.checks import check_catalogue
from pipeline.data.defects import load_defects
from pipeline.data.shapes import load_shapes

SMALL = {"train": 20, "val": 10, "size": 64}


def test_the_surfaces_are_a_data_set_of_one_class_with_masks(tmp_path):
    catalogue = load_defects(tmp_path / "defects", **SMALL)

    seen = check_catalogue(catalogue)

    assert catalogue.classes == ("defect",)
    assert (len(catalogue.train.items), len(catalogue.val.items)) == (20, 10)
    assert catalogue.scored.ids == catalogue.train.ids
    bad = sum(bool(item.labels) for item in catalogue.train.items)
    assert 0 < bad < 10
    assert seen.rows[0] == ["defect", str(bad), str(bad), *seen.rows[0][3:]]
    assert not seen.notes


def test_each_kind_of_pictures_leaves_the_other_alone(tmp_path):
    load_shapes(tmp_path / "shapes", train=1, val=1, size=64)
    load_defects(tmp_path / "defects", **SMALL)

    with pytest.raises(DataError, match=r"Choose another root for data=defects"):
        load_defects(tmp_path / "shapes", **SMALL)
    with pytest.raises(DataError, match=r"Choose another root for data=shapes"):
        load_shapes(tmp_path / "defects", train=1, val=1, size=64)


def test_impossible_numbers_are_refused_by_the_name_of_the_data(tmp_path):
    with pytest.raises(ConfigError, match=r"^defects: train=0, val=10, size=64\. Choose"):
        load_defects(tmp_path / "defects", **{**SMALL, "train": 0})
