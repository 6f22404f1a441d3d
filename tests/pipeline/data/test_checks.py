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


def test_a_rotated_phone_photo_keeps_its_stored_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 32)).save(tmp_path / "x.jpg", exif=exif)

    assert read_image(tmp_path / "x.jpg").shape == (32, 48, 3)


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
