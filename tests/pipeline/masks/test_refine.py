import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from pipeline.base.errors import ConfigError, DataError
from pipeline.masks.dense_crf import (
    Bilateral,
    DenseCRF,
    Gaussian,
    unary_from_labels,
    unary_from_probabilities,
)
from pipeline.masks.par import PixelAdaptiveRefinement
from pipeline.masks.refine import Chain, CRFRefinement, NoRefinement, with_features
from tests.conftest import ROOT, composed

IMAGE = np.random.default_rng(0).integers(0, 255, (10, 14, 3)).astype(np.uint8)
# Gaussian sxy and compat, bilateral sxy, srgb and compat, gt_prob of hard labels; all of them take
# 10 iterations.
PRESETS = {
    "crf": (1, 3, 67, 3, 4, None),
    "crf_a": (3, 3, 80, 13, 10, None),
    "crf_b": (3, 3, 50, 5, 10, 0.7),
    "crf_d": (1, 1, 121, 5, 4, None),
    "crf_e": (3, 3, 64, 5, 4, None),
    "crf_f": (3, 3, 83, 5, 3, None),
    "crf_g": (3, 3, 32, 13, 10, None),
}


def probabilities(labels, random_seed=0):
    planes = np.random.default_rng(random_seed).random((labels, 10, 14)).astype(np.float32)
    return planes / planes.sum(0)


def configured(name):
    return instantiate(composed(f"refine={name}").refine)


def test_no_refinement_returns_its_input():
    planes = [probabilities(2), probabilities(3)]

    assert NoRefinement()(IMAGE, planes) == planes


def test_crf_refinement_is_the_crf_of_each():
    planes = [probabilities(3, 0), probabilities(3, 1), probabilities(2, 2)]

    refined = CRFRefinement()(IMAGE, planes)

    crf = DenseCRF([Gaussian(1, 3), Bilateral(67, 3, 4)], iterations=10)
    for result, plane in zip(refined, planes, strict=True):
        np.testing.assert_array_equal(result, crf(IMAGE, unary_from_probabilities(plane)))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_crf_of_its_source(name):
    gaussian_sxy, gaussian_compat, sxy, srgb, compat, gt_prob = PRESETS[name]
    planes = probabilities(3)

    refined = configured(name)(IMAGE, [planes])[0]

    kernels = [Gaussian(gaussian_sxy, gaussian_compat), Bilateral(sxy, srgb, compat)]
    unary = (
        unary_from_labels(planes.argmax(0), 3, gt_prob)
        if gt_prob
        else unary_from_probabilities(planes)
    )
    np.testing.assert_array_equal(refined, DenseCRF(kernels, iterations=10)(IMAGE, unary))


def test_without_options_it_is_the_default_of_the_pipeline():
    default = configured("crf")

    refined = CRFRefinement()(IMAGE, [probabilities(3)])

    np.testing.assert_array_equal(refined, default(IMAGE, [probabilities(3)]))


def test_every_crf_configuration_is_a_known_preset():
    assert {path.stem for path in (ROOT / "configs/refine").glob("crf*.yaml")} == set(PRESETS)


def test_the_other_configurations():
    planes = [probabilities(3)]

    assert configured("none")(IMAGE, planes) == planes
    expected = PixelAdaptiveRefinement()(IMAGE, planes)
    np.testing.assert_array_equal(configured("par")(IMAGE, planes), expected)


class Reader:
    """Features that are the image's own colours."""

    def check(self, layers):
        """Every layer exists."""

    def __call__(self, image, layers, size):
        return [torch.tensor(image.astype(np.float32)).permute(2, 0, 1)]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        pytest.param("walk_crf", ["walk", "crf"], id="walk"),
        pytest.param("par_crf", ["par", "crf"], id="par"),
    ],
)
def test_a_configured_chain_is_its_parts_in_order(name, parts):
    expected = [probabilities(3)]
    for part in parts:
        expected = with_features(configured(part), Reader)(IMAGE, expected)

    refined = with_features(configured(name), Reader)(IMAGE, [probabilities(3)])

    np.testing.assert_array_equal(refined, expected)


def test_a_chain_applies_its_steps_in_order():
    chain = Chain(
        {
            "half": lambda image, planes: [plane / 2 for plane in planes],
            "more": lambda image, planes: [plane + 1 for plane in planes],
        }
    )

    np.testing.assert_allclose(chain(IMAGE, [probabilities(3)])[0], probabilities(3) / 2 + 1)


def test_a_reader_is_made_only_for_steps_that_need_features():
    asked = []

    def reader():
        asked.append(1)
        return Reader()

    with_features(CRFRefinement(), reader)
    with_features(Chain({"crf": CRFRefinement(), "none": NoRefinement()}), reader)
    assert asked == []
    with_features(Chain({"inner": Chain({"walk": configured("walk")})}), reader)
    assert asked == [1]


@pytest.mark.parametrize("steps", [{}, {"crf": {"iterations": 3}}])
def test_a_chain_without_refiners_is_refused(steps):
    with pytest.raises(ConfigError, match="Chain: steps"):
        Chain(steps)


def test_hard_labels_ignore_the_margin_between_probabilities():
    planes = probabilities(3)
    sharper = planes**2 / (planes**2).sum(0)  # the same order of labels everywhere
    refine = CRFRefinement(gt_prob=0.6, iterations=3)

    np.testing.assert_array_equal(refine(IMAGE, [planes]), refine(IMAGE, [sharper]))


def test_hard_labels_without_kernels_have_their_probability():
    planes = probabilities(3)
    refine = CRFRefinement(gaussian_compat=0, bilateral_compat=0, gt_prob=0.6)

    refined = refine(IMAGE, [planes])[0]

    expected = np.where(planes == planes.max(0), 0.6, 0.2)
    np.testing.assert_allclose(refined, expected, atol=1e-5)


def test_uncertain_pixels_start_undecided():
    planes = probabilities(3)
    refine = CRFRefinement(gaussian_compat=0, bilateral_compat=0, gt_prob=0.6, min_confidence=0.5)

    refined = refine(IMAGE, [planes])[0]

    undecided = planes.max(0) < 0.5
    assert 0 < undecided.mean() < 1
    np.testing.assert_allclose(refined[:, undecided], 1 / 3, atol=1e-5)
    np.testing.assert_allclose(refined[:, ~undecided].max(0), 0.6, atol=1e-5)


def test_scale_factor_shrinks_both_reaches():
    refined = CRFRefinement(scale_factor=4)(IMAGE, [probabilities(3)])

    expected = CRFRefinement(gaussian_sxy=0.25, bilateral_sxy=16.75)(IMAGE, [probabilities(3)])
    np.testing.assert_array_equal(refined, expected)


def test_one_preparation_for_all(monkeypatch):
    prepared = []
    prepare = DenseCRF.prepare
    monkeypatch.setattr(
        DenseCRF, "prepare", lambda self, image: prepared.append(1) or prepare(self, image)
    )

    CRFRefinement()(IMAGE, [probabilities(2, k) for k in range(4)])

    assert len(prepared) == 1


def test_options_reach_the_crf():
    refine = CRFRefinement(gaussian_compat=0, bilateral_compat=0)

    refined = refine(IMAGE, [probabilities(3)])[0]

    np.testing.assert_allclose(refined, probabilities(3), atol=1e-5)


@pytest.mark.parametrize("gt_prob", [None, 0.7])
def test_background_alone_is_returned_unchanged(gt_prob):
    alone = np.ones((1, 10, 14), np.float32)

    refined = CRFRefinement(gt_prob=gt_prob)(IMAGE, [alone, probabilities(2)])

    np.testing.assert_array_equal(refined[0], alone)
    assert refined[1].shape == (2, 10, 14)


def test_no_probabilities_give_no_probabilities():
    assert CRFRefinement()(IMAGE, []) == []


@pytest.mark.parametrize("refine", [NoRefinement(), CRFRefinement()])
def test_names_both_sizes(refine):
    with pytest.raises(
        DataError, match=r"probabilities\[1\] is \(2, 14, 10\) but the image is \(10, 14, 3\)"
    ):
        refine(IMAGE, [probabilities(2), probabilities(2).transpose(0, 2, 1)])


@pytest.mark.parametrize("gt_prob", [None, 0.7])
def test_values_that_are_not_probabilities_are_refused(gt_prob):
    with pytest.raises(DataError, match=r"NaN or outside \[0, 1\]"):
        CRFRefinement(gt_prob=gt_prob)(IMAGE, [probabilities(2) * np.float32("nan")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"bilateral_srgb": 0}, "Bilateral: srgb is 0", id="srgb"),
        pytest.param({"scale_factor": 0}, "factor is 0", id="scale"),
        pytest.param({"gt_prob": 1}, "gt_prob is 1", id="gt-prob"),
        pytest.param(
            {"gt_prob": 0.7, "min_confidence": 2}, "min_confidence is 2", id="min-confidence"
        ),
        pytest.param(
            {"min_confidence": 0.5},
            "min_confidence is 0.5 with gt_prob None",
            id="min-confidence-soft",
        ),
        pytest.param({"engine": "abacus"}, "abacus", id="engine"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ConfigError, match=message):
        CRFRefinement(**options)
