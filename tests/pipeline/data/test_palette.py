import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from pipeline.base.errors import DataError
from pipeline.data.palette import (
    PALETTE,
    colourise,
    encode_label_image,
    read_label_image,
    voc_palette,
)

LABELS = np.array([[0, 1, 20], [255, 15, 0]], np.uint8)


def saved(folder, image, name="mask.png", **options):
    path = folder / name
    image.save(path, **options)
    return path


def grey_png(depth, row):
    """A grey PNG of one row of four pixels at a depth that Pillow does not write."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, depth, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("label", "colour"),
    [
        pytest.param(0, (0, 0, 0), id="background"),
        pytest.param(1, (128, 0, 0), id="aeroplane"),
        pytest.param(8, (64, 0, 0), id="cat"),
        pytest.param(12, (64, 0, 128), id="dog"),
        pytest.param(15, (192, 128, 128), id="person"),
        pytest.param(20, (0, 64, 128), id="tvmonitor"),
        pytest.param(255, (224, 224, 192), id="void"),
    ],
)
def test_published_colours(label, colour):
    assert tuple(voc_palette()[label]) == colour


def test_all_colours_differ():
    assert PALETTE.shape == (256, 3)
    assert len(np.unique(PALETTE, axis=0)) == 256


@settings(deadline=None)
@given(
    arrays.arrays(
        np.uint8, arrays.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 255)
    )
)
def test_written_labels_are_read_back(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("masks") / "mask.png"
    path.write_bytes(encode_label_image(labels))

    np.testing.assert_array_equal(read_label_image(path), labels)


def test_file_is_8_bit_indexed_with_the_palette():
    content = encode_label_image(LABELS)

    assert content[24:26] == bytes([8, 3])  # depth 8, colour type 3: palette
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "P"
        assert image.getpalette() == PALETTE.ravel().tolist()
        np.testing.assert_array_equal(np.array(image.convert("RGB")), colourise(LABELS))


def test_the_same_labels_give_the_same_bytes():
    assert encode_label_image(LABELS) == encode_label_image(LABELS.copy(order="F"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(LABELS.astype(int), r"labels is int64 \(2, 3\)", id="type"),
        pytest.param(LABELS[0], r"labels is uint8 \(3,\)", id="shape"),
        pytest.param(LABELS[:0], r"labels is uint8 \(0, 3\)", id="empty"),
    ],
)
def test_encode_refuses(labels, message):
    with pytest.raises(DataError, match=message):
        encode_label_image(labels)


def test_grey_is_read_as_labels(tmp_path):
    path = saved(tmp_path, Image.fromarray(LABELS))

    np.testing.assert_array_equal(read_label_image(path), LABELS)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_narrow_palettes_are_read_as_labels(tmp_path, bits):
    labels = (np.arange(6).reshape(2, 3) % 2**bits).astype(np.uint8)
    image = Image.fromarray(labels)
    image.putpalette(bytes(range(3 * 2**bits)) if bits < 8 else PALETTE.tobytes())
    path = saved(tmp_path, image, bits=bits)

    np.testing.assert_array_equal(read_label_image(path), labels)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        pytest.param("RGB", "mode RGB.*indexed \\(palette\\) or 8-bit grey PNG", id="colours"),
        pytest.param("RGBA", "mode RGBA", id="alpha"),
        pytest.param("1", "mode 1", id="bilevel"),
        pytest.param("I;16", "mode I;16", id="16-bit"),
    ],
)
def test_images_without_labels_are_refused(tmp_path, mode, message):
    path = saved(tmp_path, Image.fromarray(LABELS).convert(mode))

    with pytest.raises(DataError, match=message):
        read_label_image(path)


@pytest.mark.parametrize(("depth", "row"), [(4, b"\x01\x23"), (2, b"\x1b")])
def test_refuses_narrow_grey_which_pillow_stretches(tmp_path, depth, row):
    path = tmp_path / "mask.png"
    path.write_bytes(grey_png(depth, row))

    with pytest.raises(DataError, match="grey of less than 8 bits"):
        read_label_image(path)


def test_refuses_lossy_formats(tmp_path):
    path = saved(tmp_path, Image.fromarray(LABELS), "mask.jpg")

    with pytest.raises(DataError, match="JPEG, which changes label values"):
        read_label_image(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "mask.png cannot be read", id="missing"),
        pytest.param(b"", "mask.png is not an image", id="empty"),
        pytest.param(b"not a PNG", "mask.png is not an image", id="text"),
        pytest.param(encode_label_image(LABELS)[:-24], "mask.png cannot be read", id="cut-off"),
    ],
)
def test_names_the_file_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "mask.png"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=message):
        read_label_image(path)
