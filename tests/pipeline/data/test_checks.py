from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import DataError
from pipeline.data.catalogue import Catalogue, Item, Split
from pipeline.data.checks import check_catalogue, data_fingerprint, describe
from pipeline.data.images import read_image

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "voc-animals"


@pytest.fixture
def good(tmp_path):
    """Two training images, one of them scored, and one validation image, all with masks."""
    train = (item(tmp_path, "a", (0,)), item(tmp_path, "b", (0, 1)))
    return Catalogue(
        name="toy",
        classes=("cat", "dog"),
        train=Split("train_aug", train),
        scored=Split("train", train[:1]),
        val=Split("val", (item(tmp_path, "c", (1,)),)),
    )


def item(folder, id_, labels):
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    Image.fromarray(noise).save(folder / f"{id_}.jpg")
    save_mask(folder / f"{id_}.png", np.full((32, 48), labels[-1] + 1))
    return Item(id_, folder / f"{id_}.jpg", labels, folder / f"{id_}.png")


def save_mask(path, values):
    mask = Image.fromarray(values.astype(np.uint8)).convert("P")
    mask.putdata(values.ravel().tolist())
    mask.save(path)


def truncate(path, share=0.6):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def problem(catalogue):
    with pytest.raises(DataError) as error:
        check_catalogue(catalogue, workers=2)
    return str(error.value)


def test_a_good_data_set_passes_and_progress_is_reported(good):
    told = []

    check_catalogue(good, workers=1, progress=lambda done, total: told.append((done, total)))

    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_void_border_and_a_missing_mask_path_are_fine(good):
    values = np.zeros((32, 48))
    values[:4] = 255
    save_mask(good.train.items[0].mask, values)
    without = replace(good, val=Split("val", (replace(good.val.items[0], mask=None),)))

    check_catalogue(without)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 0.999])
def test_a_truncated_photo_is_found(good, share):
    truncate(good.train.items[1].image, share)

    assert "b.jpg: not a whole image" in problem(good)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "a.jpg: cannot be read (No such file", id="missing"),
        pytest.param(b"", "a.jpg: not a whole image (0 bytes", id="empty"),
        pytest.param(b"<html>404</html>", "a.jpg: not a whole image (16 bytes", id="web-page"),
    ],
)
def test_an_unreadable_photo_is_named(good, content, message):
    path = good.train.items[0].image
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    assert message in problem(good)


def test_a_missing_mask_is_named(good):
    good.val.items[0].mask.unlink()

    assert "c.png: this mask is missing" in problem(good)


def test_a_truncated_mask_is_named(good):
    truncate(good.val.items[0].mask)

    assert "c.png cannot be read" in problem(good)


def test_a_colour_picture_is_not_a_mask(good):
    Image.new("RGB", (48, 32), "red").save(good.val.items[0].mask)

    assert "c.png is mode RGB, not one 8-bit label per pixel" in problem(good)


def test_a_mask_of_another_size_gives_both_sizes(good):
    save_mask(good.val.items[0].mask, np.zeros((48, 32)))

    assert "c.png: the mask has 32 x 48 pixels, its image 48 x 32 pixels" in problem(good)


def test_values_outside_the_classes_are_listed(good):
    values = np.zeros((32, 48))
    values[0, :3] = [3, 200, 254]
    save_mask(good.val.items[0].mask, values)

    assert "c.png: the mask contains the value(s) 3, 200, 254; allowed are 0..2 and 255" in problem(
        good
    )


def test_a_label_beyond_the_classes_is_named(good):
    wrong = replace(good.train.items[0], labels=(0, 2))
    catalogue = replace(good, train=Split("train_aug", (wrong, good.train.items[1])))

    assert "a: label 2 is not an index of 2 classes (0..1)" in problem(catalogue)


def test_a_problem_of_an_image_in_two_splits_is_reported_once(good):
    good.train.items[0].image.unlink()

    assert "'toy': 1 problem(s)" in problem(good)


def test_both_masks_of_an_image_are_checked(good, tmp_path):
    official = replace(good.scored.items[0], mask=tmp_path / "official.png")
    save_mask(official.mask, np.full((32, 48), 9))

    assert "official.png: the mask contains the value(s) 9" in problem(
        replace(good, scored=Split("train", (official,)))
    )


@pytest.mark.parametrize("role", ["train", "val"])
def test_an_empty_split_is_named(good, role):
    catalogue = replace(good, **{role: Split("mine", ())})

    assert f"split {role} (mine): has no images" in problem(catalogue)


def test_a_repeated_id_is_named(good):
    catalogue = replace(good, train=Split("train_aug", good.train.items + good.train.items[:1]))

    assert "a: is 2 times in train (train_aug)" in problem(catalogue)


def test_a_leak_is_named(good):
    catalogue = replace(good, val=Split("val", good.val.items + good.train.items[:1]))

    assert "a: is in train (train_aug) and in val (val)" in problem(catalogue)


def test_scored_outside_train_is_named(good):
    catalogue = replace(good, scored=Split("train", good.val.items))

    assert "c: is in scored (train), but not in train" in problem(catalogue)


def test_at_most_twenty_problems_are_reported_at_once(good, tmp_path):
    missing = tuple(Item(f"m{k}", tmp_path / f"m{k}.jpg", (0,)) for k in range(30))
    catalogue = replace(good, train=Split("t", missing), scored=Split("none", ()))

    text = problem(catalogue)

    assert text.count("cannot be read") == 20
    assert "'toy': 30 problem(s)" in text
    assert "... and 10 more" in text


def with_values(catalogue, values):
    """The same data with masks of one value each, by id."""
    for split in (catalogue.train, catalogue.val):
        for one in split.items:
            save_mask(one.mask, np.full((32, 48), values[one.id]))
    return catalogue


def test_an_orientation_that_the_mask_does_not_follow_is_named(good):
    one = good.val.items[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(one.image).save(one.image, exif=exif)

    assert "as the photo is stored, but its EXIF orientation 6 turns the photo to 32 x 48" in (
        problem(good)
    )
    save_mask(one.mask, np.full((48, 32), 2))
    assert not [note for note in check_catalogue(good).notes if "EXIF" in note]


def test_an_orientation_that_the_size_cannot_tell_is_noted(good):
    exif = Image.Exif()
    exif[0x0112] = 3
    one = good.val.items[0]
    Image.open(one.image).save(one.image, exif=exif)

    (note,) = (note for note in check_catalogue(good).notes if "EXIF" in note)

    assert note.startswith("1 photos with masks are turned or mirrored")
    assert "(c)" in note


@pytest.mark.parametrize(
    ("damage", "words"), [("cut", "Corrupt JPEG data: premature end"), ("zeros", "")]
)
def test_a_jpeg_that_is_damaged_inside_is_named(good, damage, words):
    path = good.val.items[0].image
    data = bytearray(path.read_bytes())
    middle = len(data) * 2 // 3
    if damage == "cut":
        data[middle:] = b"\xff\xd9"
    else:
        data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)

    assert f"c.jpg: not a whole image ({words}" in problem(good)
    assert "save it anew" in problem(good)


def test_a_picture_of_too_many_pixels_is_not_decoded(good, monkeypatch):
    small = replace(good, max_megapixels=0.001)
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("decoded"))

    text = problem(small)

    assert "c.jpg: 48 x 32 pixels are 0 megapixels, more than the 0.001 that are allowed" in text
    assert "c.png: 48 x 32 pixels" in text
    assert "data.max_megapixels=N" in text


def test_a_large_mask_is_refused_by_its_header_and_read_if_that_is_meant(good):
    one = good.val.items[0]
    Image.new("P", (13_500, 13_500)).save(one.mask)  # 182 megapixels, above Pillow's own limit

    assert "13500 x 13500 pixels are 182 megapixels, more than the 100" in problem(good)
    assert "the mask has 13500 x 13500 pixels, its image 48 x 32" in (
        problem(replace(good, max_megapixels=200))
    )


def test_values_of_twelve_bits_in_a_file_of_sixteen_are_noted(good, tmp_path):
    dark = np.full((32, 48), 4095, np.uint16)
    Image.fromarray(dark).save(tmp_path / "dark.png")
    one = replace(good.val.items[0], image=tmp_path / "dark.png")

    notes = check_catalogue(replace(good, val=Split("val", (one,)))).notes

    assert (
        "the images of 16 bits are nearly black: no value is above 4095 of 65535. If that is all "
        "the camera gives, multiply the values by 16 and save the images again"
    ) in notes


def test_masks_in_another_order_than_the_classes_are_refused_with_both_readings(good):
    text = problem(with_values(good, {"a": 2, "b": 255, "c": 1}))

    assert "2 of 3 images agree with their labels only if value 1 is 'dog', value 2 is" in text
    assert "data.classes=[dog,cat]" in text


def one_class(catalogue):
    def positive(split):
        return Split(split.name, tuple(replace(one, labels=(0,)) for one in split.items))

    splits = {role: positive(getattr(catalogue, role)) for role in ("train", "scored", "val")}
    return replace(catalogue, classes=("object",), **splits)


def with_object_value(catalogue, value):
    splits = {
        role: Split(role, tuple(replace(i, object_value=value) for i in split.items))
        for role, split in (("train", catalogue.train), ("val", catalogue.val))
    }
    return replace(catalogue, scored=Split("none", ()), **splits)


def test_an_object_of_255_is_refused_and_read_if_that_is_meant(good):
    binary = with_values(one_class(good), dict.fromkeys("abc", 255))

    assert "set data.object_value=255" in problem(binary)
    found = check_catalogue(with_object_value(binary, 255))
    assert found.rows[0] == ["object", "2", "2", "1", "1"]


def test_another_value_of_the_only_object_is_named_with_the_setting(good):
    binary = with_values(one_class(good), dict.fromkeys("abc", 128))

    assert "the value(s) 128; allowed are 0..1 and 255. If that is the object, set " in (
        problem(binary)
    )
    check_catalogue(with_object_value(binary, 128))


def test_masks_of_a_split_without_labels_contradict_nothing(good):
    unlabelled = Split("test", (replace(good.val.items[0], labels=()),))

    assert check_catalogue(replace(good, val=unlabelled)).rows[-1] == ["(all)", "2", "2", "1", "1"]


def test_no_training_image_with_a_class_is_refused(good):
    none = Split("train", tuple(replace(one, labels=()) for one in good.train.items))

    assert "train (train): none of the 2 images has a class" in problem(
        replace(good, train=none, scored=Split("none", ()))
    )


@pytest.mark.parametrize("id_", ["../x", "/x", "C:/x", "a\\b", "nul", "a\nb", "x" * 252])
def test_an_id_that_cannot_name_a_file_is_refused(good, id_):
    one = replace(good.val.items[0], id=id_)

    assert "this id " in problem(replace(good, val=Split("val", (one,))))


def test_what_was_understood_is_a_table(good):
    found = check_catalogue(good)

    assert found.rows == [
        ["cat", "2", "1", "0", "0"],
        ["dog", "1", "1", "1", "1"],
        ["(no class)", "0", "0", "0", "0"],
        ["(all)", "2", "2", "1", "1"],
    ]
    assert found.facts == ["images: 48 x 32 px, 3 of 8 bits", "masks: 1 cat, 2 dog"]


def test_classes_that_cannot_be_learnt_are_noted(good):
    two = Split("train", tuple(replace(one, labels=(0,)) for one in good.train.items))
    only = replace(good, train=two, scored=Split("none", ()))
    values = with_values(only, {"a": 1, "b": 1, "c": 2})

    notes = check_catalogue(replace(values, classes=("cat", "dog", "cow"))).notes

    assert notes == [
        "only held-out images show dog, which the classifier cannot learn",
        "no image shows cow",
        "every training image shows cat: without images that do not, the classifier cannot learn "
        "what it looks like",
    ]


def test_description_counts_images_masks_and_classes(good):
    summary = describe(good)

    assert summary["train"] == {
        "name": "train_aug",
        "images": 2,
        "with_mask": 2,
        "images_per_class": {"cat": 2, "dog": 1},
    }
    assert summary["val"]["images"] == 1


def test_fingerprint_does_not_depend_on_the_folder(good, tmp_path):
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    moved = [item(copy, "a", (0,)), item(copy, "b", (0, 1)), item(copy, "c", (1,))]
    same = replace(
        good,
        train=Split("other_name", tuple(moved[:2])),
        scored=Split("train", (moved[0],)),
        val=Split("val", (moved[2],)),
    )

    assert data_fingerprint(same) == data_fingerprint(good)


def test_fingerprint_sees_labels_files_classes_and_splits(good):
    relabelled = replace(good.train.items[0], labels=(1,))
    changed = [
        replace(good, classes=("cat", "cow")),
        replace(good, train=Split("train_aug", (relabelled, good.train.items[1]))),
        replace(good, scored=Split("train", ())),
        replace(good, train=Split("train_aug", good.train.items[::-1])),
    ]
    prints = {data_fingerprint(catalogue) for catalogue in [good, *changed]}
    truncate(good.train.items[0].image)

    assert len(prints | {data_fingerprint(good)}) == 6


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA", "I;16", "1"])
def test_every_kind_of_png_becomes_rgb(tmp_path, mode):
    source = Image.new("L", (5, 3), 255)
    image = Image.new("I;16", (5, 3), 65535) if mode == "I;16" else source.convert(mode)
    image.save(tmp_path / "x.png")

    pixels = read_image(tmp_path / "x.png")

    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 5, 3)
    assert pixels.min() == 255


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "jpg"])
def test_channels_are_red_green_blue(tmp_path, suffix):
    Image.new("RGB", (16, 16), (250, 120, 10)).save(tmp_path / f"x.{suffix}", quality=100)

    assert np.allclose(read_image(tmp_path / f"x.{suffix}")[8, 8], (250, 120, 10), atol=6)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_truncated_image_of_any_kind_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"x.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    truncate(path, share)

    with pytest.raises(DataError, match=rf"x\.{suffix}: not a whole image"):
        read_image(path)


def test_a_decoder_that_fills_in_missing_pixels_is_not_trusted(tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    Image.new("RGB", (64, 64), "teal").save(path)
    truncate(path, 0.9)
    monkeypatch.setattr("cv2.imdecode", lambda *_: np.full((64, 64, 3), 128, np.uint8))

    with pytest.raises(DataError, match="not a whole image"):
        read_image(path)


def test_data_after_the_end_of_a_photo_are_ignored(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(buffer, format="JPEG")
    (tmp_path / "x.jpg").write_bytes(buffer.getvalue() + b"written by a camera")

    assert read_image(tmp_path / "x.jpg").shape == (16, 16, 3)


def test_names_outside_ascii_are_read(tmp_path):
    Image.new("RGB", (16, 16), "teal").save(tmp_path / "K\u00e4tzchen \u732b.png")

    assert read_image(tmp_path / "K\u00e4tzchen \u732b.png").shape == (16, 16, 3)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real VOC photos in {REAL}")
def test_real_photos_pass():
    from pipeline.data.voc import load_voc

    catalogue = load_voc(REAL, labels=REAL / "image_labels.csv")
    few = Split("some", catalogue.train.items[::10])

    check_catalogue(replace(catalogue, train=few, scored=Split("none", ())))

    assert describe(catalogue)["train"]["images_per_class"]["cat"] == 204
