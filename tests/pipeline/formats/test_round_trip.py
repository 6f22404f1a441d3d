"""Out and in again: every format gives back the label image, to the pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from pipeline.formats.instances import Splitter
from pipeline.formats.photos import Photos
from pipeline.formats.reading import read_masks
from pipeline.formats.writing import FORMATS, KEEP_VOID, writer

KINDS = [*FORMATS, "coco polygons"]
NAMES = ("potted plant", "Äpfel, Birnen; 苹果", 'say "x" & <y> #1')
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
LABELS = SHAPES.flatmap(lambda s: arrays(np.uint8, s, elements=st.sampled_from([0, 1, 2, 3, 255])))
# Few values make large objects with holes, many make single pixels that touch by corners.
DENSE = SHAPES.flatmap(lambda s: arrays(np.uint8, s, elements=st.sampled_from([0, 1])))


def photo_file(folder, id_, shape):
    path = folder / f"{id_}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)


def export(folder, kind, images, names=NAMES, void=False, min_pixels=0, split="train"):
    """Write label images by id, with photos beside; what was read back, and the counts."""
    named = dict(enumerate(names, start=1)) | ({255: "void"} if void else {})
    photos = folder / "photos"
    for id_, labels in images.items():
        photo_file(photos, id_, labels.shape)
    name, _, polygons = kind.partition(" ")
    out, splitter = folder / "out", Splitter(min_pixels, void)
    written = writer(name, out, named, split, polygons=bool(polygons))
    for id_, labels in images.items():
        kept, objects = splitter.split(labels)
        written.add(Photos.within(photos).named(id_), kept, objects)
    path = written.finish()
    return path, photos, splitter.counts


def there_and_back(folder, kind, images, **options):
    names = options.get("names", NAMES)
    path, photos, _ = export(folder, kind, images, **options)
    found = read_masks(path, names, images=photos)
    assert found.classes == tuple(names)
    return dict(found)


def expected(labels, kind, void):
    return labels if void or kind in KEEP_VOID else np.where(labels == 255, 0, labels)


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(labels=LABELS | DENSE)
def test_equal_to_the_pixel(tmp_path_factory, kind, void, labels):
    folder = tmp_path_factory.mktemp("there")

    found = there_and_back(folder, kind, {"a": labels}, void=void)

    assert np.array_equal(found["a"], expected(labels, kind, void))
    assert found["a"].dtype == np.uint8


RING = np.ones((7, 7), np.uint8)
RING[2:5, 2:5] = 0
RING[3, 3] = 2  # an object in the hole of another
CASES = {
    "hole": RING,
    "two holes": np.pad(1 - np.pad(np.eye(2, dtype=np.uint8), 1), 1),
    "one pixel": np.pad(np.array([[3]], np.uint8), ((0, 4), (5, 0))),
    "everything": np.full((3, 5), 2, np.uint8),
    "nothing": np.zeros((4, 2), np.uint8),
    "only void": np.full((2, 2), 255, np.uint8),
    "touching": np.array([[1, 2], [2, 1]], np.uint8).repeat(3, 0).repeat(2, 1),
    "holes beside holes": (np.random.default_rng(0).random((150, 200)) < 0.8).astype(np.uint8),
    "chess board": (np.indices((6, 6)).sum(0) % 2).astype(np.uint8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_many_images_with_awkward_ids(tmp_path, kind):
    images = {f"sub folder/ä {name}.v1": labels for name, labels in CASES.items()}

    found = there_and_back(tmp_path, kind, images, void=True)

    assert found.keys() == images.keys()
    for id_, labels in images.items():
        assert np.array_equal(found[id_], labels), id_


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_wider_than_the_longest_run(tmp_path, kind):
    labels = np.zeros((70, 700), np.uint8)
    labels[1:-1] = 1  # 190 400 values in a row for Label Studio, whose runs end at 65 536

    found = there_and_back(tmp_path, kind, {"a": labels})

    assert np.array_equal(found["a"], labels)


@pytest.mark.parametrize("kind", KINDS)
def test_values_follow_the_classes_that_are_asked_for(tmp_path, kind):
    path, photos, _ = export(tmp_path, kind, {"a": np.array([[1, 2, 3]], np.uint8)})

    found = read_masks(path, tuple(reversed(NAMES)), images=photos)

    assert found["a"].tolist() == [[3, 2, 1]]


@pytest.mark.parametrize("kind", KINDS)
def test_without_classes_the_names_are_those_of_the_file(tmp_path, kind):
    path, photos, _ = export(tmp_path, kind, {"a": np.array([[1, 2, 3]], np.uint8)})

    found = read_masks(path, images=photos)

    assert [found.classes[value - 1] for value in found["a"][0]] == list(NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_small_objects_are_dropped_and_counted(tmp_path, kind):
    labels = np.array([[1, 0, 2, 2], [0, 0, 0, 0], [255, 0, 3, 1]], np.uint8)

    path, photos, counts = export(tmp_path, kind, {"a": labels}, min_pixels=2)

    found = read_masks(path, NAMES, images=photos)
    void = 255 if kind in KEEP_VOID else 0
    assert found["a"].tolist() == [[0, 0, 2, 2], [0, 0, 0, 0], [void, 0, 0, 0]]
    assert (counts.instances, counts.dropped, counts.dropped_pixels) == (1, 3, 3)
    assert (counts.images, counts.pixels, counts.void_pixels) == (1, 12, 1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "png"])
def test_a_class_that_the_data_do_not_have(tmp_path, kind):
    path, photos, _ = export(tmp_path, kind, {"a": np.ones((1, 1), np.uint8)}, names=["Cat"])

    with pytest.raises(Exception, match=r"'Cat' \(did you mean 'cat'\?\)"):
        read_masks(path, ["cat", "dog"], images=photos)
