import sys

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.masks.superpixels import SuperpixelVote, vote

IMAGE = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)


def probabilities(labels=3, size=(20, 30), random_seed=0):
    planes = np.random.default_rng(random_seed).random((labels, *size)).astype(np.float32)
    return planes / planes.sum(0)


@pytest.mark.parametrize(
    ("patches", "plane", "expected"),
    [
        pytest.param([[0, 0], [1, 1]], [[0, 1], [0.2, 0.4]], [[0.5, 0.5], [0.3, 0.3]], id="rows"),
        pytest.param([[0, 1], [1, 1]], [[1, 0.3], [0.6, 0]], [[1, 0.3], [0.3, 0.3]], id="corner"),
        pytest.param([[5, 5], [2, 2]], [[0, 1], [1, 1]], [[0.5, 0.5], [1, 1]], id="gaps"),
    ],
)
def test_vote_by_hand(patches, plane, expected):
    result = vote(np.array(patches), np.array([plane], np.float32))

    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [expected], atol=1e-6)


def test_vote_equals_the_loop_over_patches():
    patches = np.random.default_rng(1).integers(0, 9, (20, 30))
    planes = probabilities()
    expected = planes.copy()
    for number in np.unique(patches):
        expected[:, patches == number] = planes[:, patches == number].mean(1, keepdims=True)

    np.testing.assert_allclose(vote(patches, planes), expected, atol=1e-6)


@pytest.mark.parametrize(
    "patches", [np.zeros((30, 20), int), np.full((20, 30), -1)], ids=["size", "negative"]
)
def test_vote_refuses(patches):
    with pytest.raises(DataError, match=r"vote: patches is .* for planes \(3, 20, 30\)"):
        vote(patches, probabilities())


class TestSuperpixels:
    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("skimage")

    def test_the_edge_of_the_image_becomes_the_edge_of_the_mask(self):
        image = np.full((30, 40, 3), (200, 60, 40), dtype=np.uint8)
        image[:, 17:] = (40, 90, 180)
        truth = (np.arange(40) >= 17) * np.ones((30, 1), dtype=int)
        blurred = np.clip((np.arange(40) - 10) / 14, 0, 1) * np.ones((30, 1))
        planes = np.stack([1 - blurred, blurred]).astype(np.float32)

        refined = SuperpixelVote(segments=12)(image, [planes])[0]

        np.testing.assert_array_equal(refined.argmax(0), truth)

    def test_sums_and_means_are_kept_and_patches_have_one_value(self):
        planes = probabilities()
        slope = np.linspace(0, 255, 30).astype(np.uint8)[:, None] * np.ones((20, 1, 3), np.uint8)

        refined = SuperpixelVote(segments=10)(slope, [planes])[0]

        np.testing.assert_allclose(refined.sum(0), 1, atol=1e-5)
        np.testing.assert_allclose(refined.mean((1, 2)), planes.mean((1, 2)), atol=1e-5)
        assert 1 < len(np.unique(refined[0])) < 30

    def test_each_array_is_refined_by_itself(self):
        planes = [probabilities(2), probabilities(4, random_seed=1), probabilities(1)]
        refine = SuperpixelVote(segments=10)

        together = refine(IMAGE, planes)

        for result, plane in zip(together, planes, strict=True):
            np.testing.assert_array_equal(result, refine(IMAGE, [plane])[0])

    @pytest.mark.parametrize("size", [(1, 1), (1, 5)])
    def test_tiny_and_flat_images(self, size):
        planes = np.full((2, *size), 0.5, np.float32)

        refined = SuperpixelVote()(np.full((*size, 3), 9, np.uint8), [planes])[0]

        np.testing.assert_allclose(refined, 0.5)

    @pytest.mark.parametrize(
        ("image", "planes", "message"),
        [
            pytest.param(IMAGE, probabilities(2, (9, 7)), r"is \(2, 9, 7\) but", id="size"),
            pytest.param(IMAGE / 255, probabilities(), r"float64 \(20, 30, 3\)", id="float"),
            pytest.param(IMAGE[..., 0], probabilities(), r"uint8 \(20, 30\)", id="grey"),
        ],
    )
    def test_refuses(self, image, planes, message):
        with pytest.raises(DataError, match=message):
            SuperpixelVote()(image, [planes])


@pytest.mark.parametrize(
    "options", [{"segments": 1}, {"compactness": 0}, {"compactness": float("nan")}]
)
def test_refuses_options(options):
    with pytest.raises(ConfigError, match="SuperpixelVote: segments is"):
        SuperpixelVote(**options)


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)

    with pytest.raises(ConfigError, match="pip install scikit-image"):
        SuperpixelVote()
