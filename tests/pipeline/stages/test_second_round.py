"""A network labels the images that it learned from, and a second one learns from that."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.artifacts import read_json
from pipeline.data.images import read_image
from pipeline.data.palette import read_label_image
from pipeline.errors import ConfigError, MissingArtifactError, StageIncompleteError
from pipeline.stages import chain, pseudo_labels, relabel, rounds, segmentation
from pipeline.stages.context import Run, build
from pipeline.tasks.segmenter import SegmenterTask
from tests.pipeline.stages.runs import stages_of, when_made, with_settings

KINDS = ("seeds", "refined", "masks")


@pytest.fixture(scope="module")
def before(finished, tmp_path_factory):
    """A copy of a run with one round."""
    folder = tmp_path_factory.mktemp("rounds") / "run"
    shutil.copytree(finished.folder, folder)
    return Run(finished.config, folder)


@pytest.fixture(scope="module")
def second(before):
    """The same run after a second round."""
    run = with_settings(before, segmenter={"rounds": 2}, relabel={"certain": 0.6})
    run.made_before = when_made(before)
    chain.run(run)
    return run


@pytest.fixture
def damaged(second, tmp_path):
    """A copy of it that a test may damage."""
    folder = tmp_path / "copy"
    shutil.copytree(second.folder, folder)
    return Run(second.config, folder)


def label_images(run, item, stage=None):
    stage = stage or relabel.folder(run)
    return [read_label_image(stage.path / kind / f"{item.id}.png") for kind in KINDS]


def test_a_second_round_adds_three_stages_and_leaves_the_first_alone(second):
    after = when_made(second)

    assert second.made_before.items() <= after.items()
    assert stages_of(after.keys() - second.made_before.keys()) == {
        "relabel/round_2", "segmentation/pseudo_2", "evaluate/pseudo_2_val",
    }  # fmt: skip
    assert all(read_json(second.folder / name / "manifest.json")["state"] == "done"
               for name in after)  # fmt: skip


def test_both_networks_and_the_one_twin_are_in_the_summary(second):
    lines = dict(second.lines)

    scored = [name for name in lines if name.startswith("mIoU, ")]
    assert [name.partition(" (")[0] for name in scored] == [
        "mIoU, pseudo labels", "mIoU, pseudo labels, round 2", "mIoU, ground_truth labels",
    ]  # fmt: skip
    assert "round 2, refined mIoU (train, honest)" in lines
    assert "% of the pixels" in lines["round 2, training masks (train, void left out)"]


def test_means_over_chosen_classes_say_whose_they_are(damaged):
    first = damaged.catalogue.classes[0]
    run = with_settings(damaged, evaluate={"classes": [first]})

    done = relabel.run(run)

    iou = done.summary["scores"]["seeds"]["IoU"]
    mean = (iou["background"] + iou[first]) / 2
    assert dict(run.lines)[f"  over background, {first}"].startswith(f"network's own {mean:.3f}, ")


def test_the_label_images_are_what_network_label_and_refinement_say(second):
    network = SegmenterTask.from_checkpoint(str(segmentation.folder(second, round_=1).path
                                                / "last.ckpt"))  # fmt: skip
    refine = build(second.config.refine, "refine")
    for item in second.catalogue.train.items[:4]:
        pixels = read_image(item.image)
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = [network(image)[0], network(image.flip(-1))[0].flip(-1)]
        planes = sum(one.softmax(0) for one in logits) / 2
        values = np.array([0, *(k + 1 for k in item.labels)], np.uint8)
        chosen = planes[values.tolist()]
        chosen = (chosen / chosen.sum(0)).numpy()
        refined = refine(pixels, [chosen])[0]

        seeds, smooth, masks = label_images(second, item)

        assert (seeds == values[chosen.argmax(0)]).mean() > 0.999  # ties by rounding
        assert (smooth == values[refined.argmax(0)]).mean() > 0.999
        own = np.take_along_axis(chosen, refined.argmax(0)[None], 0)[0]  # what the network thinks
        assert ((masks == 255) == (own < 0.6)).mean() > 0.999
        assert (masks[masks != 255] == smooth[masks != 255]).all()


def test_without_refinement_the_network_alone_decides(damaged):
    run = with_settings(damaged, relabel={"refine": False})

    stage = relabel.run(run)

    assert stage.path != relabel.folder(damaged).path
    for item in run.catalogue.train.items:
        seeds, smooth, masks = label_images(run, item)
        assert (seeds == smooth).all()
        assert (masks[masks != 255] == seeds[masks != 255]).all()


def test_every_training_image_has_label_images_with_the_classes_of_its_label(second):
    for item in second.catalogue.train.items:
        allowed = {0, *(k + 1 for k in item.labels)}
        for labels, extra in zip(label_images(second, item), (set(), set(), {255}), strict=True):
            assert labels.shape == (64, 64)
            assert set(np.unique(labels)) <= allowed | extra


def test_the_scores_have_the_form_of_those_of_pseudo_masks(second):
    summary = relabel.folder(second).summary

    first = pseudo_labels.folder(second).summary
    assert summary["round"] == 2
    assert summary["truth"] == first["truth"]
    assert summary["scores"].keys() == first["scores"].keys() - {"oracle"}
    for kind in KINDS:
        assert summary["scores"][kind].keys() == first["scores"][kind].keys()
    assert summary["scores"]["masks"]["void"] == "excluded"


def test_the_second_network_learned_from_the_new_masks_by_the_same_recipe(second):
    first, last = (segmentation.folder(second, round_=number).parts for number in (1, 2))
    recipe, other = (parts["settings"]["segmenter"] for parts in (first, last))

    assert {key for key in recipe if recipe[key] != other[key]} == {"rounds"}
    assert relabel.folder(second).path.name in last["from"]
    assert segmentation.folder(second, round_=1).path.name in relabel.folder(second).parts["from"]
    masks = segmentation._mask_paths(second, rounds.settings(second), second.catalogue.train)
    assert {path.parent for path in masks.values()} == {relabel.folder(second).path / "masks"}


def test_the_twin_has_one_round_whatever_the_network_has(second, before):
    assert (
        segmentation.folder(second, "ground_truth").path
        == segmentation.folder(before, "ground_truth").path
    )


def test_ground_truth_has_no_say_in_the_new_masks(damaged, tmp_path, shapes_root):
    other = tmp_path / "shapes"
    shutil.copytree(shapes_root, other)
    for path in (other / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turned.save(path)
    run = Run(replace(damaged.config, data={**damaged.config.data, "root": str(other)}),
              damaged.folder)  # fmt: skip
    stage, items = relabel.folder(damaged), run.catalogue.train.items
    old = {item.id: label_images(damaged, item) for item in items}
    scores = stage.summary["scores"]
    shutil.rmtree(stage.path)

    relabel.run(run)

    assert relabel.folder(run).path == stage.path
    assert relabel.folder(run).summary["scores"] != scores
    for item in items:
        assert all(map(np.array_equal, label_images(run, item), old[item.id]))


def test_what_a_killed_run_left_is_kept_and_the_rest_is_made(damaged):
    stage, items = relabel.folder(damaged), damaged.catalogue.train.items
    kept, gone = (stage.path / "masks" / f"{item.id}.png" for item in items[:2])
    expected, when = gone.read_bytes(), kept.stat().st_mtime_ns
    gone.unlink()
    stage.begin()  # and the run is killed here

    relabel.run(damaged)

    assert gone.read_bytes() == expected
    assert kept.stat().st_mtime_ns == when
    assert stage.manifest["resumed"] is True
    assert "truth" in stage.summary


@pytest.mark.parametrize("on_gpu", [False, True])
def test_images_that_fail_are_named_and_the_others_are_done(damaged, monkeypatch, on_gpu):
    stage, items = relabel.folder(damaged), damaged.catalogue.train.items
    shutil.rmtree(stage.path)
    unreadable, unrefinable = items[2], items[5]
    real, made = relabel._Maker.make, []

    def failing(maker, item, probabilities):
        if item.id == unrefinable.id:
            raise ValueError("cannot be refined")
        made.append(item.id)
        real(maker, item, probabilities)

    monkeypatch.setattr(relabel._Maker, "make", failing)
    monkeypatch.setattr(relabel, "on_gpu", lambda _: on_gpu)
    monkeypatch.setattr("pipeline.data.datasets.read_image", _unreadable(unreadable, read_image))
    with pytest.raises(StageIncompleteError, match="2 of 10 images failed") as caught:
        relabel.run(damaged)

    assert unreadable.id in str(caught.value)
    assert f"{unrefinable.id}: cannot be refined" in str(caught.value)
    assert len(made) == 8
    assert not stage.is_done


def _unreadable(victim, real):
    from pipeline.errors import DataError

    def read(path):
        if path == victim.image:
            raise DataError(f"{path}: cannot be read")
        return real(path)

    return read


def test_the_stage_before_is_asked_for_by_its_command(make_run):
    run = make_run("segmenter.rounds=2")

    with pytest.raises(MissingArtifactError, match=r"stage=segmentation segmenter\.rounds=1`"):
        relabel.run(run)
    with pytest.raises(MissingArtifactError, match=r"stage=relabel segmenter\.rounds=2`"):
        segmentation.run(run)
    with pytest.raises(MissingArtifactError, match=r"stage=pseudo_labels`"):
        segmentation.run(make_run("segmenter.rounds=1"))


def test_without_a_second_round_nobody_would_learn_from_new_masks(make_run):
    with pytest.raises(ConfigError, match=r"segmenter\.rounds=1.*Set segmenter\.rounds=2"):
        relabel.run(make_run())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relabel": {"certain": 1.0}}, r"relabel\.certain: 1\.0"),
        ({"relabel": {"scales": []}}, r"relabel\.scales: \[\]"),
        ({"relabel": {"scales": [1.0, 0.0]}}, r"relabel\.scales: \[1\.0, 0\.0\]"),
        ({"segmenter": {"rounds": 0}}, r"segmenter\.rounds: 0"),
        ({"segmenter": {"loss": {"_target_": "torch.nn.BCELoss"}}}, "BCELoss cannot judge"),
        ({"segmenter": {"loss": {"_target_": "torch.nn.Los"}}}, "segmenter.loss: torch.nn.Los"),
        ({"segmenter": {"loss": {"_target_": "torch.nn.NLLLoss"}}}, "ignore_index=255"),
        ({"segmenter": {"void": "foreground"}}, r"segmenter\.void: 'foreground'"),
        ({"segmenter": {"ema": 1.0}}, r"segmenter\.ema: 1\.0"),
        ({"segmenter": {"freeze_until": "layer9"}}, r"segmenter\.freeze_until: 'layer9'"),
        ({"segmenter": {"freeze_until": "model.layer2", "weights": "none"}}, "weights=none"),
    ],
)
def test_settings_that_cannot_work_fail_before_the_first_stage(make_run, settings, message):
    run = with_settings(make_run(), **settings)

    with pytest.raises(ConfigError, match=message):
        chain.run(run)

    assert not (run.folder / "classifier").exists()


def test_without_ground_truth_it_says_so():
    assert relabel.describe({"round": 3, "scores": None}) == [
        ("masks of round 3", "not scored: there is no ground truth")
    ]
