"""Photos: upright everywhere, and refused before they fill the memory."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.base.errors import DataError
from pipeline.data.headers import check_size, chunks_fit, read_header
from pipeline.data.images import read_image
from pipeline.data.palette import read_label_image

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def oriented(path, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif, **options)
    return path


def chunk(kind, content, length=None):
    size = struct.pack(">I", len(content) if length is None else length)
    return size + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "options"),
    [("png", {}), ("webp", {"lossless": True}), ("jpg", {"quality": 100, "subsampling": 0})],
)
def test_a_photo_is_turned_as_exif_says(tmp_path, suffix, options, orientation):
    path = oriented(tmp_path / f"x.{suffix}", orientation, **options)

    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_allclose(read_image(path), expected, atol=2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_in_the_same_way(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "m.png", exif=exif)

    turned = read_image(oriented(tmp_path / "x.png", orientation))[..., 0]

    np.testing.assert_array_equal(read_label_image(tmp_path / "m.png"), turned)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_tiff_mask_with_an_orientation_is_refused(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "m.tif", exif=exif)

    with pytest.raises(DataError, match="TIFF with an orientation"):
        read_label_image(tmp_path / "m.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_the_header_has_the_shape_of_the_turned_picture(tmp_path, suffix, orientation):
    path = oriented(tmp_path / f"x.{suffix}", orientation)

    header = read_header(path.read_bytes())

    assert header.shape == read_image(path).shape[:2]
    assert header.hides_turn == (orientation in (2, 3, 4))


def test_an_orientation_that_does_not_exist_means_upright(tmp_path):
    assert read_header(oriented(tmp_path / "x.png", 9).read_bytes()).orientation == 1


def test_values_of_sixteen_bits_are_divided_by_256(tmp_path):
    Image.fromarray(np.array([[0, 255, 256, 4095, 65535]], np.uint16)).save(tmp_path / "x.png")

    assert read_image(tmp_path / "x.png")[0, :, 0].tolist() == [0, 0, 1, 15, 255]
    assert read_header((tmp_path / "x.png").read_bytes()).bits == 16


def test_a_small_file_of_many_pixels_is_refused_by_its_header(tmp_path):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b""))

    with pytest.raises(DataError, match=r"30000 x 30000 pixels are 900 megapixels, more than the"):
        check_size(tmp_path / "x.png", 100)
    check_size(tmp_path / "x.png", 900)


def test_a_chunk_longer_than_the_file_is_refused_before_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("decoded"))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    data = start + chunk(b"IDAT", zlib.compress(bytes(20)), length=0xE0000010) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(data)

    assert not chunks_fit(data)
    with pytest.raises(DataError, match="not a whole image"):
        read_image(tmp_path / "x.png")


def test_data_after_the_last_chunk_are_no_chunk(tmp_path):
    Image.new("L", (3, 3)).save(tmp_path / "x.png")

    assert chunks_fit((tmp_path / "x.png").read_bytes() + b"\xff" * 20)
