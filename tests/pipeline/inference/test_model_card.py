"""The model card says what the manifests say."""

import re

from pipeline.inference.exporting import find_source
from pipeline.inference.model_card import model_card
from tests.pipeline.runs import do, with_settings


def card_of(place):
    source = find_source(place, classifier=False)
    return source, model_card(source.about, source.record)


def test_the_card_is_filled_in_from_the_manifests(copied):
    source, card = card_of(copied.folder)

    scores = copied.stage("evaluate").summary["scores"]
    assert f"mIoU {scores['mIoU']:.3f} on 4 images" in card
    for name, value in scores["IoU"].items():
        assert f"| {name} | {value:.3f} |" in card
    assert "Rule: val, scale 1, no flip, not refined." in card
    assert "Data set `shapes`" in card
    assert re.search(r"\| train \| 10 \| star \d+, ", card)
    assert "Weak labels: the only supervision" in card
    assert copied.stage("saliency").path.name in card
    assert f"Weights {source.about['weights']}; made by revision" in card
    assert "license: unknown  # TO BE FILLED IN" in card
    assert str(copied.folder) not in card


def test_labels_are_called_what_they_were(copied, tmp_path):
    _, twin = card_of(copied.twin.stage("segmentation").path)
    assert "Masks drawn by people, for 10 images." in twin
    assert "Weak labels" not in twin

    masks = copied.stage("pseudo_labels").path / "masks"
    run = with_settings(copied, segmenter={"labels": str(masks), "twin": False})
    do(run, "segmentation")
    _, card = card_of(run.stage("segmentation").path)
    assert "Label images from a folder, for 10 images." in card
    assert str(masks) not in card


def test_a_network_without_scores_says_so(copied):
    for stage in (copied.stage("evaluate"), copied.twin.stage("evaluate")):
        (stage.path / "manifest.json").unlink()

    _, card = card_of(copied.folder)

    assert "Not scored" in card


def test_names_are_no_markup(copied):
    source, _ = card_of(copied.folder)
    about = {**source.about, "labels": ["background", "a|b <c>", *source.about["labels"][2:]]}

    assert r"| 1 | a\|b &lt;c> |" in model_card(about, source.record)
