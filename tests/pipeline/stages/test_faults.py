"""What is missing, broken or cannot work is named before it costs anything."""

import errno
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipeline.data.palette import read_label_image
from pipeline.errors import (
    ConfigError,
    DataError,
    MissingArtifactError,
    StageIncompleteError,
    StorageError,
)
from pipeline.stages import chain, evaluate, pseudo_labels, saliency, segmentation
from pipeline.stages.context import Run
from tests.pipeline.stages.runs import with_settings


def test_a_stage_without_the_one_before_it_names_the_command(make_run):
    with pytest.raises(MissingArtifactError, match=r"run\.py stage=classifier"):
        pseudo_labels.run(make_run())
    with pytest.raises(MissingArtifactError, match=r"run\.py stage=pseudo_labels"):
        segmentation.run(make_run())
    with pytest.raises(MissingArtifactError, match=r"run\.py stage=segmentation"):
        evaluate.run(make_run())


def test_an_image_that_vanishes_is_named_and_the_others_are_done(copied, other_data):
    run = with_settings(copied, data={"root": str(other_data)})
    assert run.data_version  # the data are read and checked; now one goes
    victim = run.catalogue.train.items[3]
    maps = saliency.folder(run).path / "maps"
    shutil.rmtree(run.folder / "saliency")
    content = victim.image.read_bytes()
    victim.image.unlink()
    with pytest.raises(StageIncompleteError, match=rf"1 of 10 images failed[\s\S]*{victim.id}"):
        saliency.run(run)
    assert len(list(maps.glob("*.npz"))) == 9

    victim.image.write_bytes(content)
    saliency.run(Run(run.config, run.folder))

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
        chain.run(run)

    assert images[0].name in str(caught.value)
    assert re.search(rf"{masks[1].name}.*77", str(caught.value))
    assert not (run.folder / "classifier").exists()


def test_a_full_disk_stops_with_advice_and_the_same_command_goes_on(copied, monkeypatch):
    shutil.rmtree(pseudo_labels.folder(copied).path)
    real, calls = Path.replace, []

    def full_after_some(source, target):
        calls.append(target)
        if len(calls) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(source, target)

    monkeypatch.setattr(Path, "replace", full_after_some)
    with pytest.raises(StorageError, match="disk is full"):
        pseudo_labels.run(copied)
    monkeypatch.setattr(Path, "replace", real)
    leftovers = list((copied.folder / "pseudo_labels").rglob("*.tmp"))
    assert leftovers == []

    pseudo_labels.run(Run(copied.config, copied.folder))

    assert pseudo_labels.folder(copied).is_done


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": {"threshold": 0.9}}, "not in order"),
        ({"evaluate": {"split": "test"}}, "evaluate.split: 'test' is unknown"),
        ({"evaluate": {"classes": ["unicorn"]}}, "evaluate.classes: unicorn"),
        ({"evaluate": {"checkpoint": "nowhere.ckpt"}}, "evaluate.checkpoint: 'nowhere.ckpt'"),
        ({"classifier": {"backbone": "resnet81"}}, "no classifier 'resnet81'"),
        ({"classifier": {"weights": "nowhere.pth"}}, "no file 'nowhere.pth'"),
        ({"classifier": {"last_layer": "backbone.layer9"}}, "has no layer 'backbone.layer9'"),
        ({"classifier": {"optimizer": "lion"}}, "Choose sgd or adamw"),
        ({"classifier": {"output_stride": 12}}, "classifier.output_stride: 12. Networks have"),
        ({"classifier": {"consistency": -1}}, "classifier.consistency: -1"),
        ({"classifier": {"freeze_until": "backbone.layer2"}}, "with classifier.weights=none"),
        ({"segmenter": {"encoder": "resnet81"}}, "encoder='resnet81'"),
        ({"segmenter": {"encoder": "resnet18"}}, "segmenter.weights=classifier does not fit"),
        ({"segmenter": {"labels": "guess"}}, "segmenter.labels: 'guess'"),
        ({"segmenter": {"weights": "nowhere.pth"}}, "no file 'nowhere.pth'"),
        ({"saliency": {"method": {"_target_": "tsgb.TSGB", "kappa": -1}}}, "kappa is -1"),
        ({"saliency": {"method": {"_target_": "tsgb.TSGB", "kapa": 1}}}, "kapa"),
        ({"trainer": {"devices": 2}}, "trainer.devices=2"),
    ],
)
def test_settings_that_cannot_work_fail_before_the_first_stage(make_run, settings, message):
    run = with_settings(make_run(), **settings)

    with pytest.raises(ConfigError, match=re.escape(message)):
        chain.run(run)

    assert not (run.folder / "classifier").exists()
