"""A refinement that looks with the run's own classifier."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.base.errors import ConfigError, DamagedFileError
from pipeline.data.images import read_image
from pipeline.masks.refine import CRFRefinement
from pipeline.masks.walk import FeatureWalk
from pipeline.networks.colours import IMAGENET
from pipeline.networks.features import NetworkFeatures
from pipeline.run.run import Run
from pipeline.run.table import STAGES
from pipeline.stages import refinement as refinement_of_a_run
from pipeline.stages.refinement import refinement
from pipeline.stages.trained import load_classifier
from tests.pipeline.runs import check, do, job, with_settings

LAYERS = ["backbone.layer2", "backbone.layer4"]
WALK = {"_target_": "pipeline.masks.walk.FeatureWalk", "layers": LAYERS, "size": 65}
CRF = {"_target_": "pipeline.masks.refine.CRFRefinement"}


def planes_of(image):
    planes = np.random.default_rng(0).random((3, *image.shape[:2])).astype(np.float32)
    return planes / planes.sum(0)


@pytest.fixture
def own(copied):
    """A copy of the finished run, with a refinement of the test's choice."""

    def make(node):
        return Run(replace(copied.settings, refine=node), copied.folder)

    return make


def test_the_walk_sees_what_the_trained_classifier_sees(own):
    run = own(WALK)
    image = read_image(run.data.train.items[0].image)

    refined = refinement(job(run, "pseudo_labels"))(image, [planes_of(image)])[0]

    reader = NetworkFeatures(load_classifier(run.stage("classifier").path).network, IMAGENET)
    expected = FeatureWalk(LAYERS, size=65).bound(lambda: reader)(image, [planes_of(image)])[0]
    np.testing.assert_allclose(refined, expected, atol=1e-6)


def test_a_chain_with_a_walk_makes_masks(own):
    chain = {"_target_": "pipeline.masks.refine.Chain", "steps": {"walk": WALK, "crf": CRF}}
    run = own(chain)

    stage = do(run, "pseudo_labels")

    assert stage.path.name.startswith("Chain-")
    assert len(list((stage.path / "masks").iterdir())) == len(run.data.train.items)


def test_no_classifier_is_read_where_none_is_needed(own):
    run = own(CRF)
    (run.stage("classifier").path / "last.ckpt").unlink()

    assert isinstance(refinement(job(run, "pseudo_labels")), CRFRefinement)
    with pytest.raises(DamagedFileError, match=r"last\.ckpt: gone"):
        refinement(job(own(WALK), "pseudo_labels"))


def test_competition_and_walk_share_one_classifier(own, monkeypatch):
    run = with_settings(own(WALK), seed={"competition": 3.0})
    load, loaded = refinement_of_a_run.load_classifier, []
    monkeypatch.setattr(
        refinement_of_a_run, "load_classifier", lambda path: loaded.append(path) or load(path)
    )
    do(run, "saliency")

    STAGES["pseudo_labels"].work(job(run, "pseudo_labels"))

    assert loaded == [run.stage("classifier").path]


def test_the_refinement_computes_where_the_networks_of_the_run_do(own, monkeypatch):
    monkeypatch.setattr(refinement_of_a_run, "device_of", lambda trainer: "cuda:1")
    monkeypatch.setattr(CRFRefinement, "on", lambda refine, device: (refine, device))

    _, device = refinement(job(own(CRF), "pseudo_labels"))

    assert device == "cuda:1"


def test_a_layer_that_is_not_there_fails_before_any_work(own):
    run = own({**WALK, "layers": ["backbone.layer9"]})

    with pytest.raises(ConfigError, match=r"no layer 'backbone\.layer9'.*backbone\.layer4"):
        check(run, "pseudo_labels")
