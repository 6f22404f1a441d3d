from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import DataError
from pipeline.data.checks import check_catalogue
from pipeline.data.voc import VOC_CLASSES, load_voc

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "voc-animals"
CLASSES = ["cat", "dog"]


@pytest.fixture
def voc(tmp_path):
    """Six images: train_aug a b c d, train a b, val e f; only c lacks an official mask."""
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "Annotations"):
        (folder / part).mkdir(parents=True)
    for id_ in "abcdef":
        Image.new("RGB", (6, 4), "teal").save(folder / "JPEGImages" / f"{id_}.jpg")
        (folder / "Annotations" / f"{id_}.xml").write_text(
            "<annotation><object><name>cat</name></object></annotation>"
        )
    mask = Image.fromarray(np.zeros((4, 6), np.uint8))
    for id_ in "abdef":
        mask.save(folder / "SegmentationClass" / f"{id_}.png")
    for id_ in "ac":
        mask.save(folder / "SegmentationClassAug" / f"{id_}.png")
    write_list(tmp_path, "train_aug", "abcd")
    write_list(tmp_path, "train", "ab")
    write_list(tmp_path, "val", "ef")
    (tmp_path / "labels.csv").write_text("a,cat\nb,dog\nc,cat,dog\nd,dog\ne,cat\nf,dog\n")
    return tmp_path


def write_list(root, name, ids):
    folder = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text("".join(f"{id_}\n" for id_ in ids))


def replace_torchvision(monkeypatch, downloader):
    """Put a stand-in where the real, slowly imported package would be."""
    datasets = SimpleNamespace(VOCSegmentation=downloader)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=datasets))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


def load(root, **options):
    options = {"classes": CLASSES, "labels": root / "labels.csv", **options}
    return load_voc(root, **options)


def masks_of(split):
    return {i.id: i.mask and i.mask.relative_to(i.mask.parents[1]).as_posix() for i in split.items}


def test_a_voc_folder_becomes_three_splits(voc):
    catalogue = load(voc)

    assert catalogue.classes == ("cat", "dog")
    assert (catalogue.train.name, catalogue.train.ids) == ("train_aug", ("a", "b", "c", "d"))
    assert (catalogue.scored.name, catalogue.scored.ids) == ("train", ("a", "b"))
    assert (catalogue.val.name, catalogue.val.ids) == ("val", ("e", "f"))
    assert [item.labels for item in catalogue.train.items] == [(0,), (1,), (0, 1), (1,)]
    assert all(item.image.is_file() for item in catalogue.train.items)


def test_training_masks_come_from_sbd_and_scores_from_the_official_masks(voc):
    catalogue = load(voc)

    assert masks_of(catalogue.train) == {
        "a": "SegmentationClassAug/a.png",
        "b": "SegmentationClass/b.png",
        "c": "SegmentationClassAug/c.png",
        "d": "SegmentationClass/d.png",
    }
    assert masks_of(catalogue.scored)["a"] == "SegmentationClass/a.png"
    assert masks_of(catalogue.val)["e"] == "SegmentationClass/e.png"


def test_without_sbd_masks_the_rest_is_used(voc):
    shutil.rmtree(voc / "VOCdevkit" / "VOC2012" / "SegmentationClassAug")

    masks = masks_of(load(voc).train)

    assert masks["a"] == "SegmentationClass/a.png"
    assert masks["c"] is None


def test_a_missing_official_mask_stays_in_the_catalogue_for_the_check_to_name(voc):
    (voc / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "e.png").unlink()

    item = load(voc).val.items[0]

    assert item.mask is not None
    assert not item.mask.exists()


def test_a_test_split_needs_neither_masks_nor_labels(voc):
    for id_ in "ef":
        (voc / "VOCdevkit" / "VOC2012" / "SegmentationClass" / f"{id_}.png").unlink()
    (voc / "labels.csv").write_text("a,cat\nb,dog\nc,cat\nd,dog\n")

    catalogue = load(voc)

    assert not catalogue.val.has_masks
    assert [item.labels for item in catalogue.val.items] == [(), ()]


def test_xml_is_read_if_no_csv_is_given(voc):
    assert load(voc, labels=None).train.items[1].labels == (0,)


def test_scored_may_be_empty(voc):
    assert load(voc, scored=None).scored.items == ()


def test_the_devkit_folder_itself_is_a_root_too(voc):
    assert (
        load(voc).train
        == load_voc(voc / "VOCdevkit", classes=CLASSES, labels=voc / "labels.csv").train
    )


def test_a_split_may_be_a_list_file_anywhere_with_paths_in_it(voc):
    listed = voc / "mine.txt"
    lines = [f"/JPEGImages/{id_}.jpg /SegmentationClassAug/{id_}.png\n" for id_ in "ab"]
    listed.write_text("".join(lines))

    assert load(voc, train=listed).train.ids == ("a", "b")
    assert load(voc, train=str(listed)).train.name == "mine"


def test_ids_that_look_like_numbers_stay_strings(voc):
    folder = voc / "VOCdevkit" / "VOC2012"
    for old, new in (("e", "2007_000032"), ("f", "0007")):
        (folder / "JPEGImages" / f"{old}.jpg").rename(folder / "JPEGImages" / f"{new}.jpg")
    write_list(voc, "val", ["2007_000032", "0007"])
    (voc / "labels.csv").write_text("a,cat\nb,dog\nc,cat\nd,dog\n2007_000032,cat\n0007,dog\n")

    catalogue = load(voc)

    assert catalogue.val.ids == ("2007_000032", "0007")
    assert all(item.image.is_file() for item in catalogue.val.items)


def test_an_id_in_train_and_val_is_a_leak(voc):
    write_list(voc, "val", "aef")

    with pytest.raises(DataError, match=r"(?s)1 id\(s\) are both in train .*- a"):
        load(voc)


def test_scored_must_be_part_of_train(voc):
    write_list(voc, "train", "abx")

    with pytest.raises(DataError, match=r"(?s)scored \(train\) are not in train.*- x"):
        load(voc)


def test_an_id_listed_twice_is_refused(voc):
    write_list(voc, "train", "aba")

    with pytest.raises(
        DataError, match=r"(?s)train\.txt: 1 id\(s\) are listed more than once.*- a"
    ):
        load(voc)


@pytest.mark.parametrize("id_", ["a", "e"])
def test_an_image_without_labels_is_named(voc, id_):
    lines = (voc / "labels.csv").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(id_)]
    (voc / "labels.csv").write_text("\n".join(kept))

    with pytest.raises(DataError, match=rf"(?s)labels\.csv: 1 of 6 images have no labels.*- {id_}"):
        load(voc)


def test_a_missing_train_aug_list_tells_where_it_comes_from(voc):
    (voc / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "train_aug.txt").unlink()

    with pytest.raises(DataError, match=r"Lists in that folder: train, val\..*use train=train"):
        load(voc)


def test_a_wrong_root_says_which_folder_is_meant(tmp_path):
    with pytest.raises(DataError, match=r"VOCdevkit/VOC2012.*contains VOCdevkit"):
        load_voc(tmp_path)


def test_existing_data_are_not_downloaded(voc, monkeypatch):
    replace_torchvision(monkeypatch, None)

    assert load(voc, download=True).train.ids == ("a", "b", "c", "d")


def test_a_download_leaves_a_data_set_that_is_read(tmp_path, voc, monkeypatch):
    fetched = []

    def downloader(root, **options):
        fetched.append(options)
        shutil.copytree(voc / "VOCdevkit", tmp_path / "new" / "VOCdevkit")

    replace_torchvision(monkeypatch, downloader)

    catalogue = load_voc(
        tmp_path / "new", classes=CLASSES, labels=voc / "labels.csv", download=True, year=2012
    )

    assert catalogue.val.ids == ("e", "f")
    assert fetched == [{"year": "2012", "image_set": "train", "download": True}]


def test_a_failed_download_says_what_to_do_by_hand(tmp_path, monkeypatch):
    def no_network(*args, **options):
        raise OSError("Network is unreachable")

    replace_torchvision(monkeypatch, no_network)

    with pytest.raises(DataError, match=r"Network is unreachable.*unpack it here"):
        load_voc(tmp_path, download=True)


def folder_of(root):
    return root / "VOCdevkit" / "VOC2012"


def rename(root, old, new, part="JPEGImages"):
    (folder_of(root) / part / old).rename(folder_of(root) / part / new)


def test_suffixes_in_upper_case_are_found(voc):
    rename(voc, "a.jpg", "a.JPG")
    rename(voc, "b.png", "b.PNG", "SegmentationClass")

    catalogue = load(voc)

    assert catalogue.train.items[0].image.name == "a.JPG"
    assert masks_of(catalogue.scored)["b"] == "SegmentationClass/b.PNG"


@pytest.mark.parametrize(
    "line",
    [
        "my photo 1",
        "my photo 1.jpg",
        "/JPEGImages/my photo 1.jpg /SegmentationClass/my photo 1.png",
        "my photo 1.jpg 1",
    ],
)
def test_ids_with_spaces_are_found(voc, line):
    rename(voc, "e.jpg", "my photo 1.jpg")
    write_list(voc, "val", [line, "f -1"])
    (voc / "labels.csv").write_text("a,cat\nb,dog\nc,cat\nd,dog\nmy photo 1,cat\nf,dog\n")

    assert load(voc).val.ids == ("my photo 1", "f")


@pytest.mark.parametrize("line", [r"..\..\..\x", r"\abs\x", r"C:\x"])
def test_ids_that_lead_out_of_the_folder_are_refused(voc, line):
    write_list(voc, "val", ["e", line])
    id_ = line.replace("\\", "/")
    (voc / "labels.csv").write_text(f"a,cat\nb,dog\nc,cat\nd,dog\ne,cat\n{id_},dog\n")

    with pytest.raises(DataError, match=r"this id (has the part|is an absolute path)"):
        check_catalogue(load(voc))


@pytest.mark.parametrize("setting", ["masks", "train_masks"])
def test_a_misspelt_folder_of_masks_is_named_with_its_neighbours(voc, setting):
    with pytest.raises(DataError, match=rf"data\.{setting}: .*SegmentationClss\. Did you mean"):
        load(voc, **{setting: "SegmentationClss"})


def test_the_default_folder_in_another_spelling_is_named(voc):
    folder_of(voc).joinpath("SegmentationClassAug").rename(folder_of(voc) / "segmentationclassaug")

    with pytest.raises(DataError, match=r"data\.train_masks: .*mean segmentationclassaug"):
        load(voc)


def test_masks_of_which_none_belongs_to_an_image_are_noted(voc):
    for id_ in "ac":
        rename(voc, f"{id_}.png", f"{id_}_mask.png", "SegmentationClassAug")

    (note,) = load(voc).notes

    assert "none of the 2 masks in" in note
    assert note.endswith("SegmentationClassAug belongs to a listed image, for example a_mask")


def test_masks_may_be_left_out(voc):
    catalogue = load(voc, masks=None, train_masks=None)

    assert not any(item.mask for item in (*catalogue.train.items, *catalogue.val.items))


def test_forgotten_classes_are_named(voc):
    for path in folder_of(voc).joinpath("Annotations").iterdir():
        path.write_text("<annotation><object><name>thing</name></object></annotation>")

    with pytest.raises(DataError, match=r"(?s)'thing': 6 images.*data\.classes=\[thing\]"):
        load(voc, labels=None, classes=None)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real VOC photos in {REAL}")
def test_real_photos():
    catalogue = load_voc(REAL, labels=REAL / "image_labels.csv")
    from_xml = load_voc(REAL)

    splits = (catalogue.train, catalogue.scored, catalogue.val)
    assert [len(split.items) for split in splits] == [1000, 437, 222]
    assert all(split.has_masks for split in splits)
    assert catalogue.classes == VOC_CLASSES
    assert len(catalogue.classes) == 20
    differing = sum(
        a.labels != b.labels
        for a, b in zip(catalogue.train.items, from_xml.train.items, strict=True)
    )
    assert differing < 0.1 * len(catalogue.train.items)
