"""Photos from files: upright, eight bits, refused by size before they are decoded."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tsgb.explain.images import ImageError, TooLargeError, read_photo

PICTURE = np.kron(
    np.array([[0, 60, 120], [250, 200, 10]], np.uint8), np.ones((16, 16), np.uint8)
)  # every turn of it is another picture
TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


def wide(values):
    """A grey image of 16 bits."""
    return Image.fromarray(np.asarray(values, np.uint16))


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_photos_are_turned_as_exif_says(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {"quality": 100}
    Image.fromarray(PICTURE).save(tmp_path / f"a.{suffix}", exif=exif, **options)

    photo = read_photo(tmp_path / f"a.{suffix}")

    grey = np.asarray(photo.image)[..., 0].astype(int)
    np.testing.assert_allclose(grey, TURNS[orientation](PICTURE), atol=1)
    assert photo.note == ""


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_values_of_16_bits_are_divided(tmp_path, suffix):
    wide([[0, 255, 256], [32768, 65280, 65535]]).save(tmp_path / f"a.{suffix}")

    photo = read_photo(tmp_path / f"a.{suffix}")

    assert photo.image.mode == "RGB"
    assert np.asarray(photo.image)[..., 2].tolist() == [[0, 0, 1], [128, 255, 255]]
    assert photo.note == ""


def test_grey_values_of_16_bits_are_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    wide([[0, 255, 256], [32768, 65280, 65535]]).save(tmp_path / "a.png", exif=exif)

    photo = read_photo(tmp_path / "a.png")

    assert np.asarray(photo.image)[..., 2].tolist() == [[128, 0], [255, 0], [255, 1]]


def png(width, height, depth, kind, rows=b""):
    """A PNG file, which Pillow cannot write with colours of 16 bits."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("factor", "noted"), [(1, False), (16, True)])
def test_colours_of_16_bits(tmp_path, factor, noted):
    values = np.array([[[0, 30000, 65520], [1000, 40000, 160]]]) // factor
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, 2, rows))

    photo = read_photo(tmp_path / "a.png")

    np.testing.assert_array_equal(np.asarray(photo.image), values // 256)
    assert bool(photo.note) == noted


def test_values_of_12_bits_in_a_file_of_16_are_named(tmp_path):
    wide(np.full((4, 4), 4095)).save(tmp_path / "a.png")
    wide(np.full((4, 4), 4096)).save(tmp_path / "b.png")
    Image.fromarray(np.full((4, 4), 15, np.uint8)).save(tmp_path / "night.png")

    assert "no value above 4095 of 65535" in read_photo(tmp_path / "a.png").note
    assert "Multiply its values by 16" in read_photo(tmp_path / "a.png").note
    assert read_photo(tmp_path / "b.png").note == ""
    assert read_photo(tmp_path / "night.png").note == ""


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 7, (7, 7, 7)),
        ("LA", (7, 0), (7, 7, 7)),
        ("RGBA", (1, 2, 3, 0), (1, 2, 3)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_other_kinds_become_rgb(tmp_path, mode, colour, expected):
    Image.new(mode, (3, 2), colour).save(tmp_path / "a.png")

    assert read_photo(tmp_path / "a.png").image.getpixel((0, 0)) == expected


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_values_without_a_known_white_are_refused(tmp_path, kind):
    Image.fromarray(np.array([[0, 70000]], kind)).save(tmp_path / "a.tif")

    with pytest.raises(ImageError, match=r"a\.tif' holds (float|int)32 values from 0 to 70000\."):
        read_photo(tmp_path / "a.tif")


def test_a_huge_photo_is_refused_before_it_is_decoded(tmp_path):
    """There are no pixels in the file, so that decoding it would be another error."""
    before = Image.MAX_IMAGE_PIXELS
    (tmp_path / "a.png").write_bytes(png(30000, 30000, 8, 0))

    with pytest.raises(
        TooLargeError, match=r"30000 x 30000 pixels, 900 megapixels where 100 are allowed\. It was"
    ):
        read_photo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_photo(tmp_path / "a.png", max_megapixels=900)
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_limit_includes_its_own_value(tmp_path):
    Image.new("L", (100, 100)).save(tmp_path / "a.png")

    assert read_photo(tmp_path / "a.png", max_megapixels=0.01).image.size == (100, 100)
    with pytest.raises(TooLargeError, match=r"0 megapixels where 0\.009 are"):
        read_photo(tmp_path / "a.png", max_megapixels=0.009)
