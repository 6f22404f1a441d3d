"""A segmenter labels the images that it learned from, and another one learns from that."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.base.errors import DataError, MissingArtifactError, StageIncompleteError
from pipeline.data.images import read_image
from pipeline.data.palette import read_label_image
from pipeline.masks.refine import NoRefinement
from pipeline.run.building import build
from pipeline.run.run import Run
from pipeline.stages import relabel
from pipeline.stages.label_images import KINDS
from pipeline.tasks.segmenter import SegmenterTask
from tests.pipeline.runs import again, do, stages_of, when_made, with_settings


@pytest.fixture(scope="module")
def relabelled(finished, tmp_path_factory):
    """A copy of a finished run with relabelled images."""
    folder = tmp_path_factory.mktemp("relabelled") / "run"
    shutil.copytree(finished.folder, folder)
    settings = replace(finished.settings.relabel, min_confidence=0.6)  # one epoch is never sure
    run = Run(replace(finished.settings, relabel=settings), folder)
    do(run, "relabel")
    return run


@pytest.fixture
def damaged(relabelled, tmp_path):
    """A copy of it that a test may damage."""
    folder = tmp_path / "copy"
    shutil.copytree(relabelled.folder, folder)
    return Run(relabelled.settings, folder)


def label_images(run, item):
    folder = run.stage("relabel").path
    return [read_label_image(folder / kind / f"{item.id}.png") for kind in KINDS]


def test_the_label_images_are_what_segmenter_label_and_refinement_say(relabelled):
    path = relabelled.stage("segmentation").path / "last.ckpt"
    network = SegmenterTask.from_checkpoint(path)
    refine = build(relabelled.settings.refine, "refine")
    voids = 0
    for item in relabelled.data.train.items[:4]:
        pixels = read_image(item.image)
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = [network(image)[0], network(image.flip(-1))[0].flip(-1)]
        planes = sum(one.softmax(0) for one in logits) / 2
        values = np.array([0, *(k + 1 for k in item.labels)], np.uint8)
        chosen = planes[values.tolist()]
        chosen = (chosen / chosen.sum(0)).numpy()
        refined = refine(pixels, [chosen])[0]

        seeds, smooth, masks = label_images(relabelled, item)

        assert (seeds == values[chosen.argmax(0)]).mean() > 0.999  # ties by rounding
        assert (smooth == values[refined.argmax(0)]).mean() > 0.999
        own = np.take_along_axis(chosen, refined.argmax(0)[None], 0)[0]
        assert ((masks == 255) == (own < 0.6)).mean() > 0.999
        assert (masks[masks != 255] == smooth[masks != 255]).all()
        voids += (masks == 255).sum()
    assert voids


def test_certainty_is_that_of_the_refined_label(tmp_path):
    """A refinement turns over what the segmenter was sure of."""
    Image.new("RGB", (2, 1)).save(tmp_path / "photo.png")
    item = relabel.Item("photo", tmp_path / "photo.png", (4,))
    probabilities = np.array([[[0.9, 0.2]], [[0.1, 0.8]]], np.float32)
    swapped = relabel._Maker(tmp_path, 0.5, lambda _image, planes: [planes[0][:, :, ::-1]])

    swapped.make(item, probabilities)

    made = {kind: read_label_image(tmp_path / kind / "photo.png").tolist() for kind in KINDS}
    assert made == {"seeds": [[0, 5]], "refined": [[5, 0]], "masks": [[255, 255]]}


def test_a_label_of_exactly_the_least_confidence_is_kept(tmp_path):
    Image.new("RGB", (3, 1)).save(tmp_path / "photo.png")
    item = relabel.Item("photo", tmp_path / "photo.png", (4,))
    probabilities = np.array([[[0.75, 0.25, 0.5]], [[0.25, 0.75, 0.5]]], np.float32)

    relabel._Maker(tmp_path, 0.75, NoRefinement()).make(item, probabilities)

    assert read_label_image(tmp_path / "masks" / "photo.png").tolist() == [[0, 5, 255]]


def test_without_refinement_the_segmenter_alone_decides(damaged):
    run = with_settings(damaged, relabel={"refine": False})

    stage = do(run, "relabel")

    assert stage.path != damaged.stage("relabel").path
    for item in run.data.train.items:
        seeds, smooth, masks = label_images(run, item)
        assert (seeds == smooth).all()
        assert (masks[masks != 255] == seeds[masks != 255]).all()


def test_every_training_image_has_label_images_with_the_classes_of_its_label(relabelled):
    for item in relabelled.data.train.items:
        allowed = {0, *(k + 1 for k in item.labels)}
        for labels, extra in zip(
            label_images(relabelled, item), (set(), set(), {255}), strict=True
        ):
            assert labels.shape == (64, 64)
            assert set(np.unique(labels)) <= allowed | extra


def test_the_scores_have_the_form_of_those_of_pseudo_masks(relabelled):
    scores = relabelled.stage("relabel").summary["scores"]

    first = relabelled.stage("pseudo_labels").summary["scores"]
    assert scores.keys() == first.keys() - {"oracle"} | {"corrected_masks"}
    assert scores["masks"]["void"] == "excluded"
    lines = dict(relabelled.terminal.lines)
    assert "% of the pixels" in lines["training masks mIoU (train, honest)"]


def test_a_second_segmenter_learns_from_the_new_masks_by_two_commands(damaged):
    masks = damaged.stage("relabel").path / "masks"
    made = when_made(damaged)
    run = with_settings(damaged, segmenter={"labels": str(masks)})

    do(run, "all")

    after, word = when_made(run), masks.parent.name.replace("-", "_")
    assert made.items() <= after.items()
    assert stages_of(after.keys() - made.keys()) == {
        f"segmentation/{word}", f"evaluate/{word}_val",
    }  # fmt: skip
    second = run.stage("segmentation").parts["settings"]
    assert second["learned_from"] == masks.parent.name
    do(run, "report")
    do(run, "compare")  # which knows both


def test_ground_truth_has_no_say_in_the_new_masks(damaged, other_data):
    for path in (other_data / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turned.save(path)
    run = with_settings(damaged, data={"root": str(other_data)})
    stage, items = damaged.stage("relabel"), run.data.train.items
    old = {item.id: label_images(damaged, item) for item in items}
    scores = stage.summary["scores"]
    shutil.rmtree(stage.path)

    do(run, "relabel")

    assert run.stage("relabel").path == stage.path
    assert run.stage("relabel").summary["scores"] != scores
    for item in items:
        assert all(map(np.array_equal, label_images(run, item), old[item.id]))


def test_what_a_killed_run_left_is_kept_and_the_rest_is_made(damaged):
    stage, items = damaged.stage("relabel"), damaged.data.train.items
    kept, gone = (stage.path / "masks" / f"{item.id}.png" for item in items[:2])
    expected, when = gone.read_bytes(), kept.stat().st_mtime_ns
    gone.unlink()
    stage.begin()  # and the run is killed here

    do(again(damaged), "relabel")

    assert gone.read_bytes() == expected
    assert kept.stat().st_mtime_ns == when
    assert stage.manifest.resumed is True
    assert "scores" in stage.summary


def test_images_that_fail_are_named_and_the_others_are_done(damaged, monkeypatch):
    stage, items = damaged.stage("relabel"), damaged.data.train.items
    shutil.rmtree(stage.path)
    unreadable, unrefinable = items[2], items[5]
    real, made = relabel._Maker.make, []

    def failing(maker, item, probabilities):
        if item.id == unrefinable.id:
            raise ValueError("cannot be refined")
        made.append(item.id)
        real(maker, item, probabilities)

    def read(path):
        if path == unreadable.image:
            raise DataError(f"{path}: cannot be read")
        return read_image(path)

    monkeypatch.setattr(relabel._Maker, "make", failing)
    monkeypatch.setattr("pipeline.data.pixels.read_image", read)
    with pytest.raises(StageIncompleteError, match="2 of 10 images failed") as caught:
        do(damaged, "relabel")

    assert unreadable.id in str(caught.value)
    assert f"{unrefinable.id}: {unrefinable.image}: cannot be refined" in str(caught.value)
    assert len(made) == 8
    assert not stage.is_done


def test_the_segmenter_is_asked_for_by_its_command(make_run):
    with pytest.raises(MissingArtifactError, match=r"stage=segmentation segmenter\.labels=pseudo`"):
        do(make_run(), "relabel")
