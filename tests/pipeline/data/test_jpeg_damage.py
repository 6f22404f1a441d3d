"""Damage inside JPEG files, and files that only look damaged."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.data.jpeg_damage import jpeg_damage


def photo(**options):
    """A JPEG file of noise."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(noise).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_whole_jpeg_has_no_damage(options):
    assert jpeg_damage(photo(**options)) is None
    assert jpeg_damage(photo(**options) + b"written by a camera") is None


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_jpeg_without_colours_or_for_print_has_no_damage(mode):
    stream = io.BytesIO()
    Image.new(mode, (40, 30), 7 if mode == "L" else (7, 80, 9, 10)).save(stream, "JPEG")

    assert jpeg_damage(stream.getvalue()) is None


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_jpeg_that_was_cut_and_ended_properly_is_damaged(share):
    data = photo()

    assert "Corrupt JPEG data" in jpeg_damage(data[: int(share * len(data))] + b"\xff\xd9")


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"quality": 95}])
def test_a_jpeg_with_zeros_inside_is_damaged(options):
    data = photo(**options)
    places = range(1500, len(data) - 300, len(data) // 30)

    found = [jpeg_damage(data[:at] + bytes(200) + data[at + 200 :]) for at in places]

    assert all(found)


@pytest.mark.parametrize("at", [0.4, 0.6, 0.8])
def test_a_jpeg_with_a_part_of_another_file_inside_is_damaged(at):
    data = photo(quality=95)
    start = int(at * len(data))
    other = np.random.default_rng(1).bytes(300)

    assert jpeg_damage(data[:start] + other + data[start + 300 :])


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_plain_surface_is_no_run_of_zeros(mode, options):
    stream = io.BytesIO()
    Image.new(mode, (2000, 1000)).save(stream, "JPEG", **options)

    assert jpeg_damage(stream.getvalue()) is None
