"""A refinement that looks with the run's own classifier."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.data.images import read_image
from pipeline.errors import ConfigError, MissingArtifactError
from pipeline.masks.refine import CRFRefinement
from pipeline.masks.walk import FeatureWalk
from pipeline.stages import classifier, pseudo_labels
from pipeline.stages.context import Run
from pipeline.stages.refinement import refinement
from pipeline.tasks.features import NetworkFeatures
from tests.pipeline.stages.runs import with_settings

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
        return Run(replace(copied.config, refine=node), copied.folder)

    return make


def test_the_walk_sees_what_the_trained_classifier_sees(own):
    run = own(WALK)
    image = read_image(run.catalogue.train.items[0].image)

    refined = refinement(run)(image, [planes_of(image)])[0]

    reader = NetworkFeatures(classifier.load(run).network)
    expected = FeatureWalk(LAYERS, size=65).bound(lambda: reader)(image, [planes_of(image)])[0]
    np.testing.assert_allclose(refined, expected, atol=1e-6)


def test_a_chain_with_a_walk_makes_masks(own):
    chain = {"_target_": "pipeline.masks.refine.Chain", "steps": {"walk": WALK, "crf": CRF}}
    run = own(chain)

    stage = pseudo_labels.run(run)

    assert stage.path.name.startswith("Chain-")
    assert len(list((stage.path / "masks").iterdir())) == len(run.catalogue.train.items)


def test_no_classifier_is_read_where_none_is_needed(own):
    run = own(CRF)
    (classifier.folder(run).path / "manifest.json").unlink()

    assert isinstance(refinement(run), CRFRefinement)
    with pytest.raises(MissingArtifactError, match="stage=classifier"):
        refinement(own(WALK))


def test_competition_walk_and_scoring_share_one_classifier(own, monkeypatch):
    run = with_settings(own(WALK), seed={"competition": 3.0})
    load, loaded = classifier.load, []
    monkeypatch.setattr(classifier, "load", lambda run: loaded.append(run) or load(run))

    stage = pseudo_labels.run(run)

    assert stage.summary["scores"]["refined"]["mIoU"] > 0
    assert loaded == [run]


def test_beside_saliency_they_still_share_one(own, monkeypatch):
    """The way it goes where the network is on a GPU: masks are made while maps still are."""
    run = with_settings(own(WALK), seed={"competition": 3.0}, saliency={"size": 97})
    monkeypatch.setattr(pseudo_labels, "on_gpu", lambda _: True)
    load, loaded = classifier.load, []
    monkeypatch.setattr(classifier, "load", lambda run: loaded.append(run) or load(run))

    stage = pseudo_labels.run(run)

    assert stage.summary["scores"]["refined"]["mIoU"] > 0
    assert loaded == [run, run]  # one is explained, one is looked at


def test_a_layer_that_is_not_there_fails_before_any_work(own):
    run = own({**WALK, "layers": ["backbone.layer9"]})

    with pytest.raises(ConfigError, match=r"no layer 'backbone\.layer9'.*backbone\.layer4"):
        pseudo_labels.check_settings(run)
