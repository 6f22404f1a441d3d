from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import ConfigError, DataError
from pipeline.data.folder import load_folder
from pipeline.data.truth import ground_truth

IDS = [f"photo{k}" for k in range(40)]


@pytest.fixture
def mine(tmp_path):
    """Forty pictures, and a CSV file that says cat or dog for each."""
    (tmp_path / "images").mkdir()
    for id_ in IDS:
        Image.new("RGB", (6, 4), "teal").save(tmp_path / "images" / f"{id_}.png")
    write_labels(tmp_path, IDS)
    return tmp_path


def write_labels(root, ids):
    rows = [f"{id_},{'dog' if k % 2 else 'cat'}" for k, id_ in enumerate(ids)]
    (root / "labels.csv").write_text("\n".join(rows))


def write_masks(root, ids):
    (root / "masks").mkdir(exist_ok=True)
    for id_ in ids:
        Image.fromarray(np.zeros((4, 6), np.uint8)).save(root / "masks" / f"{id_}.png")


def load(root, **options):
    return load_folder(root / "images", root / "labels.csv", **options)


def test_own_images_become_a_catalogue(mine):
    catalogue = load(mine)

    assert catalogue.classes == ("cat", "dog")
    assert sorted(catalogue.train.ids + catalogue.val.ids) == sorted(IDS)
    assert 0 < len(catalogue.val.ids) < 20
    assert catalogue.scored.items == ()
    assert not catalogue.val.has_masks
    assert {item.id: item.labels for item in catalogue.train.items + catalogue.val.items} == {
        id_: (k % 2,) for k, id_ in enumerate(IDS)
    }


def test_adding_an_image_moves_no_other_one(mine):
    before = set(load(mine).val.ids)
    Image.new("RGB", (6, 4)).save(mine / "images" / "new.jpg")
    write_labels(mine, [*IDS, "new"])

    assert set(load(mine).val.ids) - {"new"} == before


@pytest.mark.parametrize("val", [0.1, 0.2, 0.35, 0.5])
def test_adding_as_many_images_again_moves_no_other_one(mine, val):
    """A share by rank would hold out others as soon as there are more images."""
    before, more = set(load(mine, val=val).val.ids), [f"new{k}" for k in range(40)]
    for id_ in more:
        Image.new("RGB", (6, 4)).save(mine / "images" / f"{id_}.png")
    write_labels(mine, [*IDS, *more])

    after = set(load(mine, val=val).val.ids)

    assert after & set(IDS) == before
    assert 0 < len(after & set(more)) < 30


def test_images_are_in_the_order_of_their_ids_and_not_of_their_paths(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    ids = ["a", "a-b", "a/b", "a.b"]
    for id_ in ids:
        Image.new("RGB", (6, 4)).save(tmp_path / "images" / f"{id_}.jpg")
    write_labels(tmp_path, ids)

    catalogue = load(tmp_path, val=0.001)

    left = [id_ for id_ in ("a", "a-b", "a.b", "a/b") if id_ not in catalogue.val.ids]
    assert list(catalogue.train.ids) == left
    assert len(left) == 3


def test_the_random_seed_chooses_the_held_out_images(mine):
    assert load(mine, random_seed=1).val == load(mine, random_seed=1).val
    assert load(mine, random_seed=1).val != load(mine, random_seed=2).val


def test_a_few_images_still_leave_one_to_validate_on(tmp_path):
    (tmp_path / "images").mkdir()
    for id_ in ("a", "b", "c"):
        Image.new("RGB", (6, 4)).save(tmp_path / "images" / f"{id_}.jpg")
    write_labels(tmp_path, ["a", "b", "c"])

    assert len(load(tmp_path, val=0.001).val.ids) == 1


def test_a_list_says_what_to_hold_out(mine):
    (mine / "val.txt").write_text("photo3\nphoto5.png\n")

    assert load(mine, val=mine / "val.txt").val.ids == ("photo3", "photo5")


def test_images_in_sub_folders_have_their_path_as_id(tmp_path):
    for folder in ("day", "night"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        Image.new("RGB", (6, 4)).save(tmp_path / "images" / folder / "one two.JPG")
    (tmp_path / "labels.csv").write_text("id,cat\nday/one two.JPG,1\nnight/one two,0\n")
    (tmp_path / "val.txt").write_text("night/one two\n")

    catalogue = load(tmp_path, val=tmp_path / "val.txt")

    assert catalogue.train.ids == ("day/one two",)
    assert catalogue.val.ids == ("night/one two",)


def test_masks_that_exist_are_used(mine):
    held_out = load(mine).val.ids
    with_mask = [id_ for id_ in IDS if id_ not in held_out][:7]
    write_masks(mine, with_mask)

    catalogue = load(mine, masks=mine / "masks")

    assert catalogue.scored.ids == tuple(sorted(with_mask))
    assert catalogue.scored.has_masks
    assert all(item.mask is None for item in catalogue.val.items)


def test_a_held_out_image_without_mask_is_left_for_the_check_to_name(mine):
    held_out = load(mine).val.ids
    write_masks(mine, held_out[1:])

    catalogue = load(mine, masks=mine / "masks")

    assert catalogue.val.has_masks
    assert [item.id for item in catalogue.val.items if not item.mask.exists()] == [held_out[0]]


@pytest.mark.parametrize("given", ["list", "file"])
def test_classes_may_be_given_in_the_order_of_the_mask_values(mine, given):
    (mine / "classes.txt").write_text("dog\ncat\n")
    classes = ["dog", "cat"] if given == "list" else mine / "classes.txt"

    assert load(mine, classes=classes).classes == ("dog", "cat")


def test_columns_are_sorted_if_no_classes_are_given(mine):
    (mine / "labels.csv").write_text("id,dog,cat\n" + "".join(f"{id_},1,0\n" for id_ in IDS))

    catalogue = load(mine)

    assert catalogue.classes == ("cat", "dog")
    assert {item.labels for item in catalogue.train.items} == {(1,)}


def test_images_and_lines_that_do_not_match_are_named(mine):
    write_labels(mine, [*IDS[1:], "ghost"])

    with pytest.raises(DataError, match=r"(?s)photo0: an image without a line.*ghost: a line in"):
        load(mine)


def test_two_files_with_one_id_are_refused(mine):
    Image.new("RGB", (6, 4)).save(mine / "images" / "photo0.jpg")

    with pytest.raises(DataError, match=r"photo0\.png have the same id 'photo0'"):
        load(mine)


@pytest.mark.parametrize("val", [0, 1, 1.5, -0.1])
def test_a_share_outside_zero_to_one_is_refused(mine, val):
    with pytest.raises(ConfigError, match=r"not a share between 0 and 1"):
        load(mine, val=val)


def test_an_unknown_id_in_the_list_is_named(mine):
    (mine / "val.txt").write_text("photo3\nfoto5\n")

    with pytest.raises(DataError, match=r"(?s)1 id\(s\) of the list have no image.*- foto5"):
        load(mine, val=mine / "val.txt")


def test_a_mask_folder_without_masks_of_the_images_is_refused(mine):
    write_masks(mine, ["other"])

    with pytest.raises(DataError, match=r"no mask for any of the 40 images.*photo0\.png"):
        load(mine, masks=mine / "masks")


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    write_labels(tmp_path, ["a"])

    with pytest.raises(DataError, match=r"contains no image"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"this folder does not exist"):
        load_folder(tmp_path / "none", tmp_path / "labels.csv")


@pytest.mark.parametrize("suffix", ["PNG", "tif", "TIFF", "bmp"])
def test_masks_of_any_lossless_format_are_found(mine, suffix):
    (mine / "masks").mkdir()
    for id_ in IDS:
        Image.fromarray(np.ones((4, 6), np.uint8)).save(mine / "masks" / f"{id_}.{suffix}")

    catalogue = load(mine, masks=mine / "masks")

    assert catalogue.val.has_masks
    assert all(ground_truth(item).max() == 1 for item in catalogue.val.items)


def test_a_lossy_mask_is_found_so_that_its_reader_can_refuse_it(mine):
    (mine / "masks").mkdir()
    for id_ in IDS:
        Image.fromarray(np.zeros((4, 6), np.uint8)).save(mine / "masks" / f"{id_}.jpg")

    with pytest.raises(DataError, match="is JPEG, which changes label values"):
        ground_truth(load(mine, masks=mine / "masks").val.items[0])


def test_masks_that_belong_to_no_image_are_noted(mine):
    write_masks(mine, [*IDS, "stranger"])

    assert "1 of 41 masks in" in load(mine, masks=mine / "masks").notes[0]
    assert "stranger" in load(mine, masks=mine / "masks").notes[0]


def test_a_misspelt_folder_of_masks_or_images_is_named_with_its_neighbours(mine):
    write_masks(mine, IDS)

    with pytest.raises(DataError, match=r"maks: this folder of masks does not.*Did you mean masks"):
        load(mine, masks=mine / "maks")
    with pytest.raises(DataError, match=r"image: this folder does not exist.*Did you mean images"):
        load_folder(mine / "image", mine / "labels.csv")


def test_masks_named_otherwise_are_shown(mine):
    write_masks(mine, [f"{id_}_mask" for id_ in IDS])

    with pytest.raises(DataError, match=r"no mask for any.*contains photo0_mask\.png"):
        load(mine, masks=mine / "masks")


def test_images_of_another_kind_are_counted(mine):
    (mine / "scan.tif").write_bytes(b"")
    (mine / "scans").mkdir()
    (mine / "scan.tif").rename(mine / "scans" / "photo0.tif")

    with pytest.raises(DataError, match=r"contains no image .*but 1 \.tif\. Save them as PNG"):
        load_folder(mine / "scans", mine / "labels.csv")


def test_a_line_without_an_image_suggests_one(mine):
    write_labels(mine, [*IDS[1:], "Photo_0"])

    with pytest.raises(DataError, match=r"Photo_0: a line .* \(did you mean 'photo0'\?\)"):
        load(mine)


def test_a_line_with_the_folder_in_it_suggests_the_image(mine):
    write_labels(mine, [f"data/train/images/{id_}" for id_ in IDS])

    with pytest.raises(DataError, match=r"images/photo0: a line .* \(did you mean 'photo0'\?\)"):
        load(mine)


def test_the_object_may_have_another_value_in_masks_of_one_class(mine):
    (mine / "labels.csv").write_text("id,object\n" + "".join(f"{id_},1\n" for id_ in IDS))
    (mine / "masks").mkdir()
    for id_ in IDS:
        values = np.array([[0, 255, 0]], np.uint8)
        Image.fromarray(values).save(mine / "masks" / f"{id_}.png")

    item = load(mine, masks=mine / "masks", object_value=255).val.items[0]

    assert ground_truth(item).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("value", [0, 256, -1])
def test_a_value_that_no_object_can_have_is_refused(mine, value):
    (mine / "labels.csv").write_text("id,object\n" + "".join(f"{id_},1\n" for id_ in IDS))

    with pytest.raises(ConfigError, match=rf"data.object_value={value} with 1 classes"):
        load(mine, object_value=value)


def test_the_value_of_the_object_is_for_one_class(mine):
    with pytest.raises(ConfigError, match=r"data.object_value=255 with 2 classes"):
        load(mine, object_value=255)


def labels_of(catalogue):
    return {item.id: item.labels for item in (*catalogue.train.items, *catalogue.val.items)}


def test_one_folder_per_class_needs_no_file(tmp_path):
    for id_ in ("good/1", "good/2", "bad/1"):
        (tmp_path / id_).parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4)).save(tmp_path / f"{id_}.jpg")

    catalogue = load_folder(tmp_path, "folders", val=0.5)

    assert catalogue.classes == ("bad",)
    assert labels_of(catalogue) == {"good/1": (), "good/2": (), "bad/1": (0,)}
    assert "'good' show no class" in catalogue.notes[0]
    assert load_folder(tmp_path, "folders", negative="bad").classes == ("good",)


def test_a_coco_file_is_read_as_image_labels(mine):
    content = {
        "images": [{"id": k, "file_name": f"{id_}.png"} for k, id_ in enumerate(IDS)],
        "annotations": [{"image_id": k, "category_id": k % 2} for k in range(0, 40, 2)],
        "categories": [{"id": 0, "name": "dog"}, {"id": 1, "name": "cat"}],
    }
    (mine / "all.json").write_text(json.dumps(content))

    catalogue = load_folder(mine / "images", mine / "all.json")

    assert catalogue.classes == ("dog", "cat")
    assert labels_of(catalogue) == {id_: () if k % 2 else (0,) for k, id_ in enumerate(IDS)}


def test_an_image_that_a_coco_file_lacks_is_named(mine):
    content = {"images": [{"id": 1, "file_name": "photo1.png"}], "annotations": []}
    content["categories"] = [{"id": 0, "name": "dog"}]
    (mine / "all.json").write_text(json.dumps(content))

    with pytest.raises(DataError, match=r"(?s)photo0: an image without an entry in all\.json"):
        load_folder(mine / "images", mine / "all.json")


def test_a_folder_of_yolo_files_is_read_as_image_labels(mine):
    (mine / "labels").mkdir()
    (mine / "labels" / "classes.txt").write_text("cat\ndog\n")
    for id_ in IDS[:7]:
        (mine / "labels" / f"{id_}.txt").write_text("1 0.5 0.5 0.1 0.1\n")

    catalogue = load_folder(mine / "images", mine / "labels")

    assert catalogue.classes == ("cat", "dog")
    assert labels_of(catalogue) == {id_: (1,) if k < 7 else () for k, id_ in enumerate(IDS)}
    assert "33 of 40 images have no file" in catalogue.notes[0]


def test_a_yolo_file_without_image_is_named(mine):
    (mine / "labels").mkdir()
    for id_ in ("photo1", "ghost"):
        (mine / "labels" / f"{id_}.txt").write_text("0 0.5 0.5 0.1 0.1\n")

    with pytest.raises(DataError, match=r"ghost: a file in labels without an image"):
        load_folder(mine / "images", mine / "labels", classes=["cat"])


def test_a_yaml_file_in_place_of_labels_is_refused(mine):
    with pytest.raises(DataError, match=r"pass the folder of its \.txt files"):
        load_folder(mine / "images", mine / "data.yaml")


def test_negative_folders_need_folders(mine):
    with pytest.raises(ConfigError, match=r"data\.negative=good: .*data\.labels=folders"):
        load(mine, negative="good")
