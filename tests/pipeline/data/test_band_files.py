"""Files of bands: TIFF, PNG and arrays hold the same values; damaged ones are refused by name."""

import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from pipeline.base.errors import DataError
from pipeline.data.band_files import read_band_header, read_bands
from pipeline.data.bands import Bands
from pipeline.data.checks import check_catalogue, data_fingerprint
from pipeline.data.folder import load_folder
from pipeline.data.pixels import picture_of, read_pixels, stored_size
from pipeline.formats.photos import Photos


def values(channels=4, dtype=np.uint16, size=(30, 40), seed=0):
    numbers = np.random.default_rng(seed).integers(0, 250, (*size, channels))
    return (numbers * 200 if np.dtype(dtype).itemsize > 1 else numbers).astype(dtype)


def write_tif(path, array, **options):
    height, width, count = array.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=count,
            dtype=array.dtype.name, **options,
        ) as file:  # fmt: skip
            file.write(array.transpose(2, 0, 1))


@pytest.mark.parametrize("options", [{}, {"compress": "lzw"}, {"compress": "deflate"}], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_tiff_and_array_hold_the_same_values(tmp_path, options, dtype):
    array = values(dtype=np.dtype(dtype))
    write_tif(tmp_path / "a.tif", array, **options)
    np.save(tmp_path / "a.npy", array)
    bands = Bands(4, (0, 1, 2))

    one, two = (read_bands(tmp_path / name, bands) for name in ("a.tif", "a.npy"))

    assert one.dtype == two.dtype == np.float32
    assert np.array_equal(one, array)
    assert np.array_equal(two, array)
    assert read_band_header(tmp_path / "a.tif") == read_band_header(tmp_path / "a.npy")


def test_pages_of_a_microscope_are_bands(tmp_path):
    array = values(3)
    pages = [Image.fromarray(array[..., k]) for k in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    assert np.array_equal(read_bands(tmp_path / "a.tif", Bands(3, (0, 1, 2))), array)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_thermal_images_are_one_band_of_16_bits(tmp_path, suffix):
    array = values(1)
    Image.fromarray(array[..., 0]).save(tmp_path / f"a.{suffix}")

    assert np.array_equal(read_bands(tmp_path / f"a.{suffix}", Bands(1, (0, 0, 0))), array)


def test_a_declared_value_means_no_value(tmp_path):
    array = values(2, np.float32)
    array[0, 0], array[1, 1, 0] = -9999, np.inf
    write_tif(tmp_path / "a.tif", array, nodata=-9999)

    found = np.isnan(read_bands(tmp_path / "a.tif", Bands(2, (0, 1, 1))))

    assert found.sum() == 3
    assert found[0, 0].all()
    assert found[1, 1].tolist() == [True, False]


def cut(path):
    path.write_bytes(path.read_bytes()[:1500])


def other_depth(path):
    write_tif(path, values(dtype=np.uint8))


def other_bands(path):
    write_tif(path, values(3))


def empty_pixels(path):
    write_tif(path, values(), nodata=int(values()[0, 0, 0]))


def no_image(path):
    path.write_text("<html>404</html>")


def turned(path):
    Image.fromarray(values(1)[..., 0]).save(path, tiffinfo={274: 6})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"b\.tif: not a whole image"),
        (empty_pixels, r"b\.tif: \d+ pixels have no value \(NaN"),
        (no_image, r"b\.tif: cannot be read"),
        (other_bands, r"b\.tif: 30 x 40 pixels of 3 band\(s\), where 4 are expected"),
        (other_depth, r"b\.tif: holds uint8, where 3 images hold uint16"),
        (turned, r"b\.tif: is turned by its orientation tag"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_file_is_reported_by_name_before_any_work(tmp_path, damage, message):
    folder = labelled(tmp_path)
    damage(folder / "b.tif")

    with pytest.raises(DataError, match=message):
        check_catalogue(load(tmp_path))


def labelled(tmp_path):
    """Four images of four bands, half of them arrays, and their labels."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate("abcd"):
        if number % 2:
            write_tif(folder / f"{name}.tif", values(seed=number))
        else:
            np.save(folder / f"{name}.npy", values(seed=number))
    (tmp_path / "labels.csv").write_text("a.npy,cat\nb.tif\nc.npy,cat\nd.tif\n")
    (tmp_path / "val.txt").write_text("d\n")
    return folder


def load(tmp_path, **options):
    settings = {"channels": 4, "bands": [4, 2, 1], **options}
    where = tmp_path / "images", tmp_path / "labels.csv"
    return load_folder(*where, val=tmp_path / "val.txt", **settings)


def test_statistics_come_from_the_training_images_alone(tmp_path):
    labelled(tmp_path)
    catalogue = load(tmp_path)

    found = check_catalogue(catalogue)

    every = np.concatenate([values(seed=k).reshape(-1, 4) for k in range(3)]).astype(float)
    np.testing.assert_allclose(found.bands.mean, every.mean(0))
    np.testing.assert_allclose(found.bands.deviation, every.std(0))
    assert found.bands.values == "uint16"
    item = catalogue.with_bands(found.bands).train.items[1]
    assert read_pixels(item).shape == (30, 40, 4)
    assert picture_of(item).shape == (30, 40, 3)
    assert stored_size(item) == (30, 40)
    assert any("pictures show bands 4, 2, 1" in fact for fact in found.facts)


def test_arrays_with_the_bands_first_are_refused_with_the_remedy(tmp_path):
    folder = labelled(tmp_path)
    np.save(folder / "a.npy", np.moveaxis(values(), 2, 0))

    with pytest.raises(DataError, match=r"save numpy\.moveaxis\(array, 0, 2\)"):
        check_catalogue(load(tmp_path))


def test_arrays_of_objects_are_not_executed(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)

    with pytest.raises(DataError, match="not a whole array of numpy"):
        read_band_header(tmp_path / "a.npy")


def test_large_images_are_not_read(tmp_path):
    labelled(tmp_path)

    with pytest.raises(DataError, match=r"more than the 0\.001 that are allowed"):
        check_catalogue(load(tmp_path, max_megapixels=0.001))


def test_without_channels_a_folder_of_tiffs_is_refused_with_the_remedy(tmp_path):
    labelled(tmp_path)

    with pytest.raises(DataError, match=r"2 \.tif, 2 \.npy|2 \.npy, 2 \.tif") as error:
        load(tmp_path, channels=None, bands=None)
    assert "4 bands of uint16" in str(error.value)
    assert "data.channels=4" in str(error.value)


def test_label_tools_get_names_and_sizes_of_files_of_bands(tmp_path):
    photos = Photos.within(labelled(tmp_path))

    assert {photos.named(id_).name for id_ in "abcd"} == {"a.npy", "b.tif", "c.npy", "d.tif"}
    assert photos.shape("a", 1) == photos.shape("b", 1) == (30, 40)


def test_the_data_are_others_if_other_bands_are_shown(tmp_path):

    labelled(tmp_path)

    prints = {data_fingerprint(load(tmp_path, bands=bands)) for bands in ([4, 2, 1], [1, 2, 3])}

    assert len(prints) == 2
