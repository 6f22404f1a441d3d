"""Recipes of the network and ways of scoring it, on a finished run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback

from pipeline.data.images import read_image
from pipeline.data.palette import read_label_image
from pipeline.errors import MissingArtifactError
from pipeline.stages import classifier, evaluate, segmentation, training
from pipeline.stages.context import Run
from pipeline.tasks.pixels import resize
from pipeline.tasks.segmenter import SegmenterTask
from tests.pipeline.stages.runs import with_settings

DICE = {
    "_target_": "segmentation_models_pytorch.losses.DiceLoss",
    "mode": "multiclass",
    "ignore_index": 255,
}


class Kill(Callback):
    """Ends a training as the second epoch begins."""

    def on_train_epoch_start(self, trainer, _task):
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")


def checkpoint(stage):
    return torch.load(stage.path / "last.ckpt", weights_only=True)


def test_a_mean_of_weights_that_was_killed_ends_where_it_would_have_ended(
    copied, tmp_path, monkeypatch
):
    settings = {"epochs": 2, "ema": 0.5, "labels": "ground_truth", "weights": "none"}
    run = with_settings(copied, segmenter=settings)
    whole, killed = (Run(run.config, tmp_path / name) for name in ("whole", "killed"))
    expected = checkpoint(segmentation.run(whole))
    make = training.make_trainer

    def killing(run, folder, **options):
        return make(run, folder, **{**options, "callbacks": [*options["callbacks"], Kill()]})

    with monkeypatch.context() as patch:
        patch.setattr(training, "make_trainer", killing)
        with pytest.raises(RuntimeError, match="killed"):
            segmentation.run(killed)

    resumed = checkpoint(segmentation.run(killed))

    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(expected[part][key], resumed[part][key]) for key in expected[part])
    assert any(
        not torch.equal(value, expected["current_model_state"][key])
        for key, value in expected["state_dict"].items()
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": {"_target_": "pipeline.tasks.losses.BalancedCrossEntropy"}, "void": "background"},
        {"loss": DICE, "freeze_until": "model.layer2"},
    ],
    ids=["balanced", "dice"],
)
def test_every_recipe_trains_to_the_end_beside_the_first(copied, settings):
    first = segmentation.folder(copied)

    done = segmentation.run(with_settings(copied, segmenter=settings))

    assert first.is_done
    assert done.path != first.path
    assert np.isfinite(done.summary["last_loss"])


def test_void_as_background_changes_what_pseudo_masks_teach_and_not_the_truth(copied):
    other = with_settings(copied, segmenter={"void": "background", "twin": False})
    states = []
    for run in (copied, other):
        one = with_settings(run, segmenter={"labels": "ground_truth"})
        states.append(checkpoint(segmentation.run(one))["state_dict"])

    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    taught = [segmentation.run(run).summary["last_loss"] for run in (copied, other)]
    assert taught[0] != taught[1]


def test_the_classifiers_prior_multiplies_and_is_named(copied):
    run = with_settings(copied, evaluate={"classifier_prior": True})

    stage = evaluate.run(run)

    plain = evaluate.folder(copied)
    assert plain.is_done
    assert stage.path != plain.path
    ending = ", times the classifier's odds"
    assert stage.summary["scores"]["protocol"] == plain.summary["scores"]["protocol"] + ending
    assert classifier.folder(run).path.name in stage.parts["from"]
    network = SegmenterTask.from_checkpoint(str(segmentation.folder(run).path / "last.ckpt"))
    names = classifier.load(run)
    for item in run.catalogue.val.items:
        image = torch.from_numpy(read_image(item.image)).permute(2, 0, 1)[None]
        with torch.no_grad():
            planes = network.predict_probabilities(image, [1.0], flip=False)
            shown = names(resize(image.float(), (64, 64)))[0].sigmoid()
        planes[1:] *= shown[:, None, None]
        labels = read_label_image(evaluate.prediction_path(stage, item))
        assert (labels == planes.argmax(0).numpy()).mean() > 0.999


def test_the_twin_gets_the_same_prior(copied):
    run = with_settings(copied, evaluate={"classifier_prior": True})

    protocols = {
        evaluate.run(run, labels).summary["scores"]["protocol"]
        for labels in ("pseudo", "ground_truth")
    }

    assert len(protocols) == 1


@pytest.mark.parametrize("refined", [False, True])
def test_with_names_given_the_arg_max_is_over_the_classes_of_the_label(copied, refined):
    run = with_settings(copied, evaluate={"names_given": True, "crf": refined})

    stage = evaluate.run(run)

    assert stage.summary["scores"]["protocol"].endswith(", names given (oracle)")
    network = SegmenterTask.from_checkpoint(str(segmentation.folder(run).path / "last.ckpt"))
    for item in run.catalogue.val.items:
        labels = read_label_image(evaluate.prediction_path(stage, item))
        shown = [0, *(label + 1 for label in item.labels)]
        assert set(np.unique(labels)) <= set(shown)
        image = torch.from_numpy(read_image(item.image)).permute(2, 0, 1)[None]
        with torch.no_grad():
            planes = network.predict_probabilities(image, [1.0], flip=False)
        best = np.array(shown)[planes[shown].argmax(0).numpy()]
        assert refined or (labels == best).all()


def test_a_refinement_that_looks_with_the_classifier_does_so_for_predictions_too(copied):
    walk = {"_target_": "pipeline.masks.walk.FeatureWalk", "layers": ["backbone.layer2"]}
    refine = {**walk, "size": 64, "scale": 1.0, "nodes": 8}
    crf = with_settings(copied, evaluate={"crf": True})
    run = Run(replace(crf.config, refine=refine), crf.folder)

    stage = evaluate.run(run, "ground_truth")

    name = classifier.folder(run).path.name
    assert name in stage.parts["from"]
    assert name not in evaluate.folder(crf, "ground_truth").parts["from"]
    assert stage.summary["scores"]["mIoU"] is not None


def test_the_prior_of_a_classifier_that_is_gone_is_asked_for(copied, make_run):
    run = with_settings(copied, evaluate={"classifier_prior": True, "checkpoint": "x.ckpt"})
    (run.folder / "x.ckpt").touch()
    run = with_settings(run, evaluate={"checkpoint": str(run.folder / "x.ckpt")})
    (classifier.folder(run).path / "manifest.json").unlink()

    with pytest.raises(MissingArtifactError, match="stage=classifier`"):
        evaluate.run(run)
