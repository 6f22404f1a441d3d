"""What is predicted and scored, in which way, and what the evaluation server gets."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.base.config import EvaluateConfig, ScoredSplit
from pipeline.base.errors import DataError, MissingArtifactError
from pipeline.data.catalogue import Catalogue, Split
from pipeline.data.images import read_image
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.networks.pixels import resize
from pipeline.run.building import build
from pipeline.run.run import Run
from pipeline.stages.predictions import evaluated_split
from pipeline.stages.trained import load_classifier
from pipeline.tasks.segmenter import SegmenterTask
from tests.pipeline.runs import do, with_settings

WALK = {
    "_target_": "pipeline.masks.walk.FeatureWalk", "layers": ["backbone.layer2"],
    "size": 64, "scale": 1.0, "nodes": 8,
}  # fmt: skip


def tensor_of(item):
    return torch.from_numpy(read_image(item.image)).permute(2, 0, 1)[None]


@torch.no_grad()
def planes_by_hand(network, item, scales, *, flip):
    """The mean of the probabilities over scales and mirrors, at the size of the image."""
    image = tensor_of(item).float()
    height, width = image.shape[-2:]
    found = []
    for scale in scales:
        view = resize(image, (round(height * scale), round(width * scale)))
        logits = [network(view)] + ([network(view.flip(-1)).flip(-1)] if flip else [])
        found += [resize(one, (height, width)).softmax(1)[0] for one in logits]
    return sum(found) / len(found)


def predicted(stage, item):
    return read_label_image(stage.path / "predictions" / f"{item.id}.png")


@pytest.mark.parametrize("refine", [False, True], ids=["plain", "refined"])
@pytest.mark.parametrize(
    ("scales", "flip"), [([1.0], False), ([1.0], True), ([1.0, 0.5, 1.5], False)]
)
def test_predictions_are_the_mean_of_probabilities_then_refined(copied, scales, flip, refine):
    ways = {"scales": scales, "flip": flip, "refine": refine}
    run = with_settings(copied, evaluate=ways)

    stage = do(run, "evaluate")

    network = SegmenterTask.from_checkpoint(run.stage("segmentation").path / "last.ckpt")
    refinement = build(run.settings.refine, "refine")
    agree = []
    for item in run.data.val.items:
        planes = planes_by_hand(network, item, scales, flip=flip).numpy()
        if refine:
            planes = refinement(read_image(item.image), [planes])[0]
        agree.append((predicted(stage, item) == planes.argmax(0)).mean())
    assert min(agree) > 0.999  # ties by rounding


def test_each_way_of_predicting_changes_the_predictions_of_these_networks(copied):
    """Or the test above could not tell them apart."""
    ways = [{}, {"flip": True}, {"scales": [1.0, 0.5, 1.5]}, {"refine": True}]
    stages = [do(with_settings(copied, evaluate=way), "evaluate") for way in ways]

    made = [
        b"".join(predicted(stage, item).tobytes() for item in copied.data.val.items)
        for stage in stages
    ]
    assert len(set(made)) == len(ways)
    assert len({stage.path for stage in stages}) == len(ways)  # beside each other


def test_the_protocol_says_how_it_was_scored(copied):
    ways = {"scales": [1.0, 1.5], "flip": True, "refine": True, "export": True}
    run = with_settings(copied, evaluate=ways)

    stage = do(run, "evaluate")

    assert stage.summary["scores"]["protocol"] == "val, scales 1 1.5, flip, refined"
    exported = stage.path / "results/VOC2012/Segmentation/comp6_test_cls"
    assert {path.stem for path in exported.glob("*.png")} == set(run.data.val.ids)
    with Image.open(next(exported.glob("*.png"))) as image:
        assert image.mode == "P"
        assert image.size == (64, 64)


def test_void_is_background_for_the_evaluation_server(copied, tmp_path):
    run = with_settings(copied, evaluate={"masks": str(tmp_path / "given"), "export": True})
    (tmp_path / "given").mkdir()
    for k, item in enumerate(run.data.val.items):
        labels = np.zeros((64, 64), np.uint8)
        labels[:9], labels[20:] = 255 if k else 0, item.labels[0] + 1
        (tmp_path / "given" / f"{item.id}.png").write_bytes(encode_label_image(labels))

    stage = do(run, "evaluate")

    exported = stage.path / "results/VOC2012/Segmentation/comp6_test_cls"
    for item in run.data.val.items:
        labels = read_label_image(exported / f"{item.id}.png")
        assert np.unique(labels).tolist() == [0, item.labels[0] + 1]
    said = dict(run.terminal.lines)
    assert said["void written as background"] == "in 3 images, for the VOC server"


def test_given_masks_in_another_order_are_refused_before_they_are_scored(copied, tmp_path):
    run = with_settings(copied, evaluate={"masks": str(tmp_path), "split": "train"})
    for item in run.data.train.items:
        labels = np.zeros((64, 64), np.uint8)
        for k, label in enumerate(item.labels):
            labels[k] = (label + 1) % 5 + 1
        (tmp_path / f"{item.id}.png").write_bytes(encode_label_image(labels))

    with pytest.raises(DataError, match=r"evaluate\.masks: the masks contradict the image labels"):
        do(run, "evaluate")


def test_the_classifier_prior_multiplies_by_its_odds_and_is_named(copied):
    run = with_settings(copied, evaluate={"classifier_prior": True})

    stage = do(run, "evaluate")

    plain = copied.stage("evaluate").summary["scores"]["protocol"]
    assert stage.summary["scores"]["protocol"] == f"{plain}, classifier prior"
    network = SegmenterTask.from_checkpoint(run.stage("segmentation").path / "last.ckpt")
    classifier = load_classifier(run.stage("classifier").path)
    for item in run.data.val.items:
        planes = planes_by_hand(network, item, [1.0], flip=False)
        with torch.no_grad():
            shares = classifier(resize(tensor_of(item).float(), (64, 64)))[0].sigmoid()
        planes[1:] *= (shares / (1 - shares)).clamp(max=1)[:, None, None]
        assert (predicted(stage, item) == planes.argmax(0).numpy()).mean() > 0.999


@pytest.mark.parametrize("refine", [False, True])
def test_the_label_oracle_leaves_only_the_classes_of_the_label(copied, refine):
    run = with_settings(copied, evaluate={"label_oracle": True, "refine": refine})

    stage = do(run, "evaluate")

    assert stage.summary["scores"]["protocol"].endswith(", label oracle")
    network = SegmenterTask.from_checkpoint(run.stage("segmentation").path / "last.ckpt")
    refinement = build(run.settings.refine, "refine")
    for item in run.data.val.items:
        shown = np.array([0, *(label + 1 for label in item.labels)])
        planes = planes_by_hand(network, item, [1.0], flip=False)[shown]
        planes = (planes / planes.sum(0)).numpy()
        if refine:
            planes = refinement(read_image(item.image), [planes])[0]
        assert (predicted(stage, item) == shown[planes.argmax(0)]).mean() > 0.999


def test_the_twin_is_scored_by_the_same_protocol(copied):
    run = with_settings(copied, evaluate={"classifier_prior": True})

    do(run, "all")

    protocols = {r.stage("evaluate").summary["scores"]["protocol"] for r in (run, run.twin)}
    assert len(protocols) == 1


def test_a_refinement_that_looks_with_the_classifier_does_so_for_predictions_too(copied):
    truth = {"labels": "ground_truth"}  # whose segmenter does not depend on the refinement
    crf = with_settings(copied, evaluate={"refine": True}, segmenter=truth)
    run = Run(replace(crf.settings, refine=WALK), crf.folder)

    stage = do(run, "evaluate")

    name = run.stage("classifier").path.name
    assert name in stage.parts["from"]
    assert name not in crf.stage("evaluate").parts["from"]
    assert stage.summary["scores"]["mIoU"] is not None


def test_the_prior_of_a_classifier_that_is_gone_is_asked_for(copied):
    checkpoint = copied.stage("segmentation").path / "last.ckpt"
    settings = {"classifier_prior": True, "checkpoint": str(checkpoint)}
    run = with_settings(copied, evaluate=settings)
    (run.stage("classifier").path / "manifest.json").unlink()

    with pytest.raises(MissingArtifactError, match="stage=classifier`"):
        do(run, "evaluate")


def test_a_folder_of_masks_can_be_scored_and_the_truth_scores_one(copied, shapes_root):
    truth = shapes_root / "VOCdevkit" / "VOC2012" / "SegmentationClass"
    run = with_settings(copied, evaluate={"masks": str(truth)})

    stage = do(run, "evaluate")

    assert stage.summary["scores"]["mIoU"] == 1.0
    assert stage.summary["scores"]["protocol"] == "val, given masks"


def test_another_network_can_be_scored(copied):
    own = copied.twin.stage("segmentation").path / "last.ckpt"
    run = with_settings(copied, evaluate={"checkpoint": str(own)})

    stage = do(run, "evaluate")

    twin = copied.twin.stage("evaluate").summary["scores"]
    assert stage.summary["scores"] == twin
    assert stage.path != copied.twin.stage("evaluate").path


def test_a_missing_prediction_is_an_error_not_a_better_score(copied, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    run = with_settings(copied, evaluate={"masks": str(masks)})

    with pytest.raises(DataError, match="4 of 4 images of 'val' have no label image"):
        do(run, "evaluate")


def test_training_images_can_be_scored_and_corrected_truth_scores_them_anew(copied, other_data):
    run = with_settings(copied, evaluate={"split": "train"}, data={"root": str(other_data)})
    before = do(run, "evaluate").summary["scores"]
    item = run.data.train.items[0]
    with Image.open(item.mask) as image:
        turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned.save(item.mask)

    after = do(with_settings(run), "evaluate").summary["scores"]

    assert before["images"] == len(run.data.train.items)
    assert before["mIoU"] != after["mIoU"]


@pytest.mark.parametrize("name", ["train", "scored", "val"])
def test_the_split_that_is_named_is_evaluated(name):
    splits = {role: Split(role, ()) for role in ("train", "scored", "val")}

    split = evaluated_split(EvaluateConfig(split=ScoredSplit(name)), Catalogue("x", (), **splits))

    assert split.name == name


def test_threads_beside_a_gpu_refine_the_same_predictions(copied, tmp_path, request):
    run = with_settings(copied, evaluate={"refine": True})
    stage = do(run, "evaluate")
    alone = {path.name: path.read_bytes() for path in (stage.path / "predictions").iterdir()}
    shutil.rmtree(stage.path)
    request.getfixturevalue("beside_a_gpu")

    do(run, "evaluate")

    beside = {path.name: path.read_bytes() for path in (stage.path / "predictions").iterdir()}
    assert beside == alone
