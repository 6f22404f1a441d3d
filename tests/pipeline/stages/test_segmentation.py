"""Trainings of the segmenter on a finished run: what they learn from, and by which recipe."""

import shutil

import numpy as np
import pytest
import torch

from pipeline.base.errors import ConfigError, DataError
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.run.run import Run
from pipeline.stages import trainer, training
from tests.pipeline.runs import check, do, kill_before, with_settings

DICE = {
    "_target_": "segmentation_models_pytorch.losses.DiceLoss",
    "mode": "multiclass",
    "ignore_index": 255,
}

ON_TRUTH = {"labels": "ground_truth", "weights": "none"}  # needs no stage before


def checkpoint(stage):
    return torch.load(stage.path / "last.ckpt", weights_only=True)


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def test_a_mean_of_weights_that_was_killed_ends_where_it_would_have_ended(copied, tmp_path):
    settings = {"epochs": 2, "ema": 0.5, "labels": "ground_truth", "weights": "none"}
    run = with_settings(copied, segmenter=settings)
    whole, killed = (Run(run.settings, tmp_path / name) for name in ("whole", "killed"))
    expected = checkpoint(do(whole, "segmentation"))
    kill_before(1, killed, "segmentation")
    resumed = checkpoint(do(killed, "segmentation"))

    for part in ("state_dict", "current_model_state"):
        assert same(expected[part], resumed[part])
    assert not same(expected["state_dict"], expected["current_model_state"])


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": {"_target_": "pipeline.tasks.losses.BalancedCrossEntropy"}, "void": "background"},
        {"loss": DICE, "freeze_until": "model.layer2"},
        {"loss": DICE},
    ],
    ids=["balanced", "dice-frozen", "dice"],
)
def test_every_recipe_trains_to_the_end_beside_the_first(copied, settings):
    first = copied.stage("segmentation")

    done = do(with_settings(copied, segmenter=settings), "segmentation")

    assert first.is_done
    assert done.path != first.path
    assert np.isfinite(done.summary["last_loss"])
    assert done.summary["last_loss"] != first.summary["last_loss"]


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("classifier", {"classifier": {"gradient_clip": 0.25}}),
        ("segmentation", {"segmenter": {"gradient_clip": 0.25, **ON_TRUTH}}),
    ],
)
def test_settings_of_the_training_reach_the_trainer(copied, monkeypatch, stage, settings):
    seen = []
    make = trainer.pl.Trainer

    def noted(**options):
        seen.append(options)
        return make(**options)

    run = with_settings(copied, **settings, trainer={"precision": "bf16-mixed"})
    monkeypatch.setattr(trainer.pl, "Trainer", noted)

    do(run, stage)

    assert seen[0]["gradient_clip_val"] == 0.25
    assert seen[0]["max_epochs"] == 1
    assert seen[0]["precision"] == "bf16-mixed"
    assert all(options["precision"] == "32-true" for options in seen[1:])  # validation


def test_dropout_has_other_masks_in_every_step_and_process():
    seeds = []
    callback = training._SeedEveryStep(3)

    class Where:
        def __init__(self, step, rank):
            self.global_step, self.global_rank = step, rank

    for step, rank in ((0, 0), (1, 0), (1, 1)):
        callback.on_train_batch_start(Where(step, rank), None, None, 0)
        seeds.append(torch.initial_seed())

    assert len(set(seeds)) == 3


def test_void_as_background_changes_what_pseudo_masks_teach_and_not_the_truth(copied):
    other = with_settings(copied, segmenter={"void": "background", "twin": False})
    states = []
    for run in (copied, other):
        one = with_settings(run, segmenter={"labels": "ground_truth"})
        states.append(checkpoint(do(one, "segmentation"))["state_dict"])

    assert same(*states)
    taught = [do(run, "segmentation").summary["last_loss"] for run in (copied, other)]
    assert taught[0] != taught[1]


@pytest.fixture
def masks(copied, tmp_path):
    """A folder of label images: the pseudo-masks of the finished run."""
    folder = tmp_path / "masks"
    shutil.copytree(copied.stage("pseudo_labels").path / "masks", folder)
    return folder


def test_a_segmenter_learns_from_any_folder_of_label_images(copied, masks):
    given = with_settings(copied, segmenter={"labels": str(masks)})

    stage = do(given, "segmentation")

    own = checkpoint(copied.stage("segmentation"))["state_dict"]
    assert same(own, checkpoint(stage)["state_dict"])  # since they are the same masks
    assert stage.path != copied.stage("segmentation").path


def test_another_label_image_in_the_folder_makes_another_segmenter(copied, masks):
    given = with_settings(copied, segmenter={"labels": str(masks)})
    before = given.stage("segmentation").path
    path = masks / f"{copied.data.train.ids[0]}.png"
    path.write_bytes(encode_label_image(np.zeros_like(read_label_image(path))))

    assert with_settings(given).stage("segmentation").path != before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "1 of 10 images of 'train' have no label image"),
        (
            lambda path: path.write_bytes(encode_label_image(np.full((64, 64), 77, np.uint8))),
            r"the mask contains the value\(s\) 77",
        ),
        (
            lambda path: path.write_bytes(encode_label_image(np.zeros((64, 32), np.uint8))),
            "the mask has 32 x 64 pixels, its image 64 x 64",
        ),
    ],
    ids=["missing", "values", "size"],
)
def test_label_images_that_do_not_fit_are_named_before_any_work(copied, masks, spoil, message):
    spoil(masks / f"{copied.data.train.ids[3]}.png")

    with pytest.raises(DataError, match=message):
        check(with_settings(copied, segmenter={"labels": str(masks)}), "segmentation")


@pytest.mark.parametrize("some", [{"images": 2}, {"split": "val"}])
def test_no_segmenter_learns_from_masks_of_some_images(copied, some):
    run = with_settings(copied, saliency=some)
    do(run, "pseudo_labels")

    with pytest.raises(ConfigError, match="stage=masks"):
        do(run, "segmentation")
