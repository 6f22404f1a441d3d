"""Corrected masks: which image each belongs to, and what is refused before any work."""

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import DataError
from pipeline.data.catalogue import Catalogue, Item, Split
from pipeline.data.palette import encode_label_image
from pipeline.formats.corrected import read_corrected
from pipeline.formats.instances import Splitter
from pipeline.formats.photos import Photos
from pipeline.formats.writing import FORMATS, writer

CLASSES = ("cat", "dog")


@pytest.fixture
def data(tmp_path):
    """Six training images, cat and dog by turns, and two held-out ones; 6 x 4 px."""

    def item(id_, label):
        path = tmp_path / "photos" / f"{id_}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6, 3), 90, np.uint8)).save(path)
        return Item(id_, path, (label,))

    train = [item(f"garden/{k}", k % 2) for k in range(5)] + [item("house/0", 0)]
    val = [item("v0", 0), item("v1", 1)]
    splits = [Split("train", tuple(train)), Split("scored", ()), Split("val", tuple(val))]
    return Catalogue("pets", CLASSES, *splits)


def mask_of(item, shape=(4, 6)):
    labels = np.zeros(shape, np.uint8)
    labels[1:3, 2:] = item.labels[0] + 1
    return labels


def folder_of(tmp_path, masks):
    for id_, labels in masks.items():
        path = tmp_path / "corrected" / f"{id_}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_label_image(labels))
    return tmp_path / "corrected"


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_masks(tmp_path, data, kind):
    items, named = data.train.items[:3], dict(enumerate(CLASSES, start=1))
    out = writer(kind, tmp_path / kind, named, "train")
    for item in items:
        out.add(Photos({}).named(item.id), *Splitter().split(mask_of(item)))
    path = out.finish()

    found = read_corrected(path, data)

    assert set(found.names) == {item.id for item in items}
    for item in items:
        assert (found.read(item.id) == mask_of(item)).all()
    png = read_corrected(folder_of(tmp_path, {i.id: mask_of(i) for i in items}), data)
    assert found.version == png.version
    assert found.notes == ()


@pytest.mark.parametrize(
    ("name", "id_"),
    [("1", "garden/1"), ("garden/1", "garden/1"), ("upload/garden/1", "garden/1")],
    ids=["ending", "same", "prefix"],
)
def test_an_id_is_matched_by_its_ending(tmp_path, data, name, id_):
    item = data.train.items[1]

    found = read_corrected(folder_of(tmp_path, {name: mask_of(item)}), data)

    assert found.names == {id_: name}


def test_a_pixel_or_another_image_makes_another_version(tmp_path, data):
    first, second = data.train.items[0], data.train.items[2]
    masks = {"a": {first.id: mask_of(first)}, "b": {second.id: mask_of(first)}}
    masks["c"] = {first.id: mask_of(first)}
    masks["c"][first.id][0, 0] = 1

    versions = [read_corrected(folder_of(tmp_path / k, m), data).version for k, m in masks.items()]

    assert len(set(versions)) == 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0"], r"0: one of garden/0, house/0\?"),
        (["attic/0"], "attic/0: no image has this id"),
        (["garden/1", "bird"], r"1 of 2 masks belong to no single image.*\n  - bird: no image"),
        (["garden/1", "1"], "garden/1: a second mask of garden/1, beside 1"),
        (["v0", "v1"], r"all 2 masks are of held-out images.*Correct images of 'train'"),
    ],
    ids=["ambiguous", "other-folder", "unknown", "twice", "val-only"],
)
def test_masks_that_belong_to_no_training_image_are_refused(tmp_path, data, names, message):
    folder = folder_of(tmp_path, dict.fromkeys(names, mask_of(data.train.items[0])))

    with pytest.raises(DataError, match=message):
        read_corrected(folder, data)


def test_masks_of_held_out_images_are_left_out_and_counted(tmp_path, data):
    items = (data.train.items[0], data.val.items[1])

    found = read_corrected(folder_of(tmp_path, {i.id: mask_of(i) for i in items}), data)

    assert set(found.names) == {"garden/0"}
    assert "1 of 2 masks are of held-out images (v1...)" in found.notes[0]


def test_a_missing_file_and_an_empty_folder_are_named_with_the_setting(tmp_path, data):
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataError, match=r"data\.corrected: .*gone: no such file or folder"):
        read_corrected(tmp_path / "gone", data)
    with pytest.raises(DataError, match=r"data\.corrected: .*empty: no label image"):
        read_corrected(tmp_path / "empty", data)


def test_other_classes_are_named(tmp_path, data):
    folder = folder_of(tmp_path, {"garden/0": mask_of(data.train.items[0])})
    (folder / "classes.txt").write_text("cat\nhorse\n")

    with pytest.raises(
        DataError, match=r"(?s)data\.corrected: .*'horse'.*The classes are cat, dog"
    ):
        read_corrected(folder, data)
    (folder / "classes.txt").unlink()
    folder_of(tmp_path, {"garden/0": np.full((4, 6), 7, np.uint8)})
    with pytest.raises(DataError, match="has the value 7, which no class has"):
        read_corrected(folder, data)


def test_masks_of_other_sizes_are_all_named(tmp_path, data):
    items = data.train.items[:3]
    shapes = [(4, 6), (8, 12), (6, 4)]
    masks = {i.id: mask_of(i, shape) for i, shape in zip(items, shapes, strict=True)}

    with pytest.raises(DataError, match=r"2 problem\(s\)") as raised:
        read_corrected(folder_of(tmp_path, masks), data)

    assert "garden/1: the mask has 12 x 8 pixels, its image 6 x 4 pixels" in str(raised.value)
    assert "garden/2: the mask has 4 x 6 pixels" in str(raised.value)


def test_single_masks_that_contradict_the_labels_are_counted_and_named(tmp_path, data):
    items = data.train.items
    masks = {i.id: mask_of(i) for i in items}
    masks["house/0"] = mask_of(items[1])  # a dog; the label says cat

    found = read_corrected(folder_of(tmp_path, masks), data)

    assert "the masks of 1 of 6 images show other classes than their labels" in found.notes[0]
    assert "house/0 (mask: dog; labels: cat)" in found.notes[0]


def test_masks_that_nobody_has_drawn_are_left_out_and_counted(tmp_path, data):
    items = data.train.items
    masks = {i.id: np.zeros((4, 6), np.uint8) for i in items} | {items[2].id: mask_of(items[2])}

    found = read_corrected(folder_of(tmp_path, masks), data)

    assert set(found.names) == {items[2].id}
    assert "5 of 6 masks show no object" in found.notes[0]
    (tmp_path / "corrected" / f"{items[2].id}.png").unlink()
    with pytest.raises(DataError, match="none of the 5 masks shows an object"):
        read_corrected(tmp_path / "corrected", data)


def test_masks_with_exchanged_classes_are_refused(tmp_path, data):
    items = data.train.items
    masks = {i.id: (3 - mask_of(i)) * (mask_of(i) > 0) for i in items}

    with pytest.raises(DataError, match=r"data\.corrected=.*contradict the image labels: 6 of 6"):
        read_corrected(folder_of(tmp_path, masks), data)
