"""One preprocessing from the classifier's training to its segmenter, its maps and its pictures."""

import pytest
import torch

from pipeline.commands.explained import own_model
from pipeline.networks.colours import Colours
from pipeline.stages import saliency
from pipeline.stages.refinement import shared_features
from pipeline.stages.trained import load_classifier, load_segmenter
from tests.pipeline.runs import do, job, with_settings

LITE = ("classifier.backbone=tf_efficientnet_lite0", "classifier.freeze_until=")
LAYERS = ("classifier.middle_layer=backbone.blocks.4", "classifier.last_layer=backbone.blocks.6")
HALF = Colours((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
WHITE = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)


def test_every_stage_sees_the_colours_of_the_classifier(make_run):
    run = make_run(
        *LITE, *LAYERS, "segmenter.encoder=tu-tf_efficientnet_lite0", "saliency=grad_cam"
    )
    do(run, "masks")
    do(run, "segmentation")

    assert load_classifier(run.stage("classifier").path).colours == HALF
    assert load_segmenter(run.stage("segmentation").path).colours == HALF
    assert saliency._predictor(job(run, "saliency")).normalise(WHITE).unique().tolist() == [1.0]
    assert shared_features(job(run, "pseudo_labels"))()._colours == HALF
    explained = own_model(run, None, "explain").classifier.preprocessing
    assert (explained.mean, explained.deviation) == (HALF.mean, HALF.deviation)


@pytest.mark.parametrize("stage", ["classifier", "segmentation"])
def test_other_colours_make_another_result(copied, stage):
    group = "classifier" if stage == "classifier" else "segmenter"
    kept = copied.stage(stage)

    given = with_settings(copied, **{group: {"mean": [0.485, 0.456, 0.406]}})
    other = with_settings(copied, **{group: {"mean": [0.5, 0.5, 0.5]}})

    assert kept.parts["settings"][group]["mean"] == [0.485, 0.456, 0.406]
    assert given.stage(stage).path == kept.path
    assert given.stage(stage).fingerprint == kept.fingerprint
    assert other.stage(stage).path != kept.path
