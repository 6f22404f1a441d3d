"""What is missing, broken or cannot work is named before it costs anything."""

import errno
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipeline.base.errors import (
    ConfigError,
    DataError,
    MissingArtifactError,
    StageIncompleteError,
    StorageError,
)
from pipeline.data.palette import read_label_image
from tests.pipeline.runs import again, do, with_settings


def test_a_stage_without_the_one_before_it_names_the_command(make_run):
    with pytest.raises(MissingArtifactError, match=r"tsgb run stage=classifier"):
        do(make_run(), "pseudo_labels")
    with pytest.raises(MissingArtifactError, match=r"tsgb run stage=pseudo_labels"):
        do(make_run(), "segmentation")
    with pytest.raises(MissingArtifactError, match=r"tsgb run stage=segmentation"):
        do(make_run(), "evaluate")


def test_an_image_that_vanishes_is_named_and_the_others_are_done(copied, other_data):
    run = with_settings(copied, data={"root": str(other_data)})
    assert run.data_version  # the data are read and checked; now one goes
    victim = run.data.train.items[3]
    maps = run.stage("saliency").path / "maps"
    shutil.rmtree(run.folder / "saliency")
    content = victim.image.read_bytes()
    victim.image.unlink()
    with pytest.raises(StageIncompleteError, match=rf"1 of 10 images failed[\s\S]*{victim.id}"):
        do(run, "saliency")
    assert len(list(maps.glob("*.npz"))) == 9

    victim.image.write_bytes(content)
    do(again(run), "saliency")

    assert len(list(maps.glob("*.npz"))) == 10


def test_a_corrupt_image_or_a_wrong_mask_stops_the_run_before_any_work(make_run, other_data):
    voc = other_data / "VOCdevkit" / "VOC2012"
    images = sorted((voc / "JPEGImages").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:500])
    masks = sorted((voc / "SegmentationClass").iterdir())
    labels = read_label_image(masks[1])
    labels[0, 0] = 77
    Image.fromarray(labels).save(masks[1])
    run = make_run(f"data.root={other_data}")

    with pytest.raises(DataError) as caught:
        do(run, "all")

    assert images[0].name in str(caught.value)
    assert re.search(rf"{masks[1].name}.*77", str(caught.value))
    assert not (run.folder / "classifier").exists()


def test_a_full_disk_stops_with_advice_and_the_same_command_goes_on(copied, monkeypatch):
    shutil.rmtree(copied.stage("pseudo_labels").path)
    real, calls = Path.replace, []

    def full_after_some(source, target):
        calls.append(target)
        if len(calls) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(source, target)

    monkeypatch.setattr(Path, "replace", full_after_some)
    with pytest.raises(StorageError, match="disk is full"):
        do(copied, "pseudo_labels")
    monkeypatch.setattr(Path, "replace", real)
    leftovers = list((copied.folder / "pseudo_labels").rglob("*.tmp"))
    assert leftovers == []

    do(again(copied), "pseudo_labels")

    assert copied.stage("pseudo_labels").is_done


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": {"threshold": 0.9}}, "not in order"),
        ({"evaluate": {"classes": ["unicorn"]}}, "evaluate.classes: unicorn"),
        (
            {"evaluate": {"checkpoint": "nowhere.ckpt"}},
            "evaluate.checkpoint: no file 'nowhere.ckpt'",
        ),
        ({"classifier": {"backbone": "resnet81"}}, "no classifier 'resnet81'"),
        ({"classifier": {"weights": "nowhere.pth"}}, "no file 'nowhere.pth'"),
        ({"classifier": {"last_layer": "backbone.layer9"}}, "has no layer 'backbone.layer9'"),
        ({"classifier": {"freeze_until": "backbone.layer2"}}, "with classifier.weights=none"),
        ({"segmenter": {"encoder": "resnet81"}}, "encoder='resnet81'"),
        ({"segmenter": {"encoder": "resnet18"}}, "resnet18 is another network than the classifier"),
        ({"segmenter": {"labels": "guess"}}, "segmenter.labels: 'guess' is not a folder"),
        ({"segmenter": {"weights": "nowhere.pth"}}, "no file 'nowhere.pth'"),
        ({"saliency": {"method": {"_target_": "tsgb.TSGB", "kappa": -1}}}, "kappa is -1"),
        ({"saliency": {"method": {"_target_": "tsgb.TSGB", "kapa": 1}}}, "kapa"),
        ({"trainer": {"devices": 2}}, "trainer.devices=2"),
        ({"saliency": {"images": 0}}, "saliency.images=0"),
        ({"relabel": {"min_confidence": 1.0}}, "relabel.min_confidence=1.0"),
        ({"evaluate": {"scales": [1.0, 0.0]}}, "evaluate.scales=[1.0,0.0]"),
        ({"segmenter": {"loss": {"_target_": "torch.nn.BCELoss"}}}, "BCELoss cannot judge"),
        (
            {"segmenter": {"loss": {"_target_": "torch.nn.Los"}}},
            "'torch.nn.Los' cannot be imported",
        ),
        ({"segmenter": {"loss": {"_target_": "torch.nn.NLLLoss"}}}, "ignore_index=255"),
        ({"segmenter": {"ema": 1.0}}, "segmenter.ema=1.0"),
        ({"segmenter": {"freeze_until": "layer9"}}, "segmenter.freeze_until: 'layer9'"),
        ({"segmenter": {"freeze_until": "model.layer2", "weights": "none"}}, "weights=none"),
    ],
)
def test_settings_that_cannot_work_fail_before_the_first_stage(make_run, settings, message):
    run = make_run()

    with pytest.raises(ConfigError, match=re.escape(message)):
        do(with_settings(run, **settings), "relabel" if "relabel" in settings else "all")

    assert not (run.folder / "classifier").exists()
