"""Networks and numbers that cannot work are refused before any work, with nothing removed."""

import cv2
import numpy as np
import pytest
import torch

from pipeline.base.config import Command
from pipeline.base.errors import ConfigError
from pipeline.data.palette import encode_label_image
from pipeline.run import context, executor, trials
from pipeline.run.run import Run
from tests.pipeline.runs import again, do, when_made, with_settings

OTHER = {"weights": "none", "twin": False}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param(
            {"segmenter": {"arch": "unet", "encoder": "tu-test_maxvit", "size": 160}},
            r"encoder=tu-test_maxvit cannot predict an image of 64 x 64 px at scale 1: height "
            r"\(16\) must be divisible by window \(5\)\. .*dynamic_img_size:true",
            id="trains, but cannot predict",
        ),
        pytest.param(
            {"segmenter": {"arch": "unet", "encoder": "tu-test_maxvit"}},
            r"cannot be trained on batches of 4 crops of 64 x 64 px: .*another segmenter\.arch",
            id="cannot take the crop",
        ),
        pytest.param(
            {"segmenter": {"arch": "pan", "encoder": "resnet18"}},
            r"arch=pan with encoder=resnet18 cannot be trained on .*Output size is too small",
            id="crop too small for the decoder",
        ),
        pytest.param(
            {"segmenter": {"arch": "deeplabv3plus", "encoder": "tu-vgg11_bn"}},
            r"cannot make arch='deeplabv3plus' with encoder='tu-vgg11_bn'.*AssertionError",
            id="a bare assertion of the library",
        ),
        pytest.param(
            {"segmenter": {"batch_size": 1}},
            r"cannot be trained on one crop of 64 x 64 px: .*segmenter\.batch_size=2 or more",
            id="batch normalisation of one value",
        ),
        pytest.param(
            {"classifier": {"library": "timm", "backbone": "test_maxvit"}},
            r"classifier\.backbone: timm/test_maxvit cannot take an image of 256 x 128 px: height "
            r"\(32\) must be divisible by window \(5\)\. Choose a convolutional network",
            id="a classifier for one size",
        ),
        pytest.param(
            {"evaluate": {"scales": [0.005, 1.0]}},
            r"evaluate\.scales: 4 of 4 images have less than one pixel at scale 0\.005.*\n.*64 x",
            id="nothing left of an image",
        ),
        ({"classifier": {"mean": [0.5]}}, r"classifier\.mean: \[0\.5\]\. Give three numbers"),
        ({"trainer": {"devices": 2}}, r"trainer\.devices=2"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(make_run, settings, message):
    if "segmenter" in settings:
        settings = {"segmenter": {**OTHER, **settings["segmenter"]}}
    run = with_settings(make_run(), **settings)

    with pytest.raises(ConfigError, match=message):
        do(run, "all")

    assert not when_made(run)
    assert not (run.folder / "classifier").exists()


@pytest.mark.parametrize("settings", [{"devices": 2}, {"accelerator": "gpu"}])
def test_an_outdated_result_outlives_a_command_that_is_refused(copied, monkeypatch, settings):
    monkeypatch.setattr(context, "code_version", lambda _: "other code")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = with_settings(copied, trainer=settings)
    before = sorted((copied.folder / "classifier").rglob("*"))

    with pytest.raises(ConfigError, match=r"trainer\."):
        do(run, "classifier")

    assert sorted((copied.folder / "classifier").rglob("*")) == before
    assert (copied.folder / "classifier") in {p.parent.parent for p in before}


def test_one_tiny_image_is_named_before_the_training(make_run, other_data):
    voc = other_data / "VOCdevkit" / "VOC2012"
    run = make_run(f"data.root={other_data}", "segmenter.weights=none", "evaluate.scales=[0.3]")
    victim = run.data.val.items[1]
    cv2.imwrite(str(victim.image), np.zeros((1, 1, 3), np.uint8))
    mask = voc / "SegmentationClass" / f"{victim.id}.png"
    mask.write_bytes(encode_label_image(np.ones((1, 1), np.uint8)))

    with pytest.raises(ConfigError, match=rf"1 of 4 images have less.*\n.*{victim.id}: 1 x 1 px"):
        do(Run(run.settings, run.folder), "all")

    assert not (run.folder / "classifier").exists()


def test_relabelling_is_tried_with_the_training_images(copied):
    run = with_settings(copied, relabel={"scales": [0.005]})

    with pytest.raises(ConfigError, match=r"relabel\.scales: 10 of 10 images"):
        do(run, "relabel")


def test_a_method_that_cannot_explain_the_network_is_named_before_the_training(make_run):
    method = {"_target_": "tsgb.CAM", "layer": "backbone.layer1"}
    run = with_settings(make_run(), saliency={"method": method})

    with pytest.raises(ConfigError, match=r"CAM cannot explain timm/test_resnet: "):
        do(run, "masks")

    assert not (run.folder / "classifier").exists()


def test_what_is_done_is_not_tried_again(copied, monkeypatch):
    def never(*_):
        raise AssertionError("tried")

    for name in ("try_training", "try_classifier", "try_segmenter"):
        monkeypatch.setattr(trials, name, never)
    before = when_made(copied)
    do(again(copied), "all")

    assert when_made(copied) == before


def test_the_twin_is_not_tried_a_second_time(make_run, monkeypatch):
    tried = []

    def two_seconds(task, *_):
        tried.append(task.group)
        return 2.0

    monkeypatch.setattr(trials, "try_training", two_seconds)

    seconds = executor._try(executor.steps_of(make_run(), Command.all))

    assert tried == ["classifier", "segmenter"]
    # One epoch of two steps. The twin's training takes as long.
    assert [seconds[0], seconds[3], seconds[5]] == [4.0, 4.0, 4.0]


def test_a_trial_leaves_random_numbers_as_they_were(make_run):
    steps = executor.steps_of(make_run(), Command.all)
    before = torch.random.get_rng_state()

    executor._try(steps)

    assert torch.equal(torch.random.get_rng_state(), before)
