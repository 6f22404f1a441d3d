from pathlib import Path

import numpy as np

from pipeline.data.catalogue import Item
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.stages.agreement import agreement
from tests.pipeline.runs import do, with_settings


def test_classes_are_counted_by_image():
    labels = {"a": (0,), "b": (0, 1), "c": (), "d": (1,)}
    predicted = {"a": [0, 1, 255], "b": [0, 0, 0], "c": [2, 2, 0], "d": [2, 1, 0]}
    items = [Item(id_, Path(id_), shown) for id_, shown in labels.items()]

    found = agreement(items, ["cat", "dog"], lambda item: np.array([predicted[item.id]], np.uint8))

    assert found == {
        "cat": {"named": 2, "predicted": 2, "both": 1},
        "dog": {"named": 2, "predicted": 2, "both": 1},
    }


def given(run, folder, value):
    """The run, with label images of one value as its predictions."""
    folder.mkdir()
    for item in run.data.val.items:
        labels = np.full((64, 64), 0, np.uint8)
        labels[:9] = value
        (folder / f"{item.id}.png").write_bytes(encode_label_image(labels))
    return with_settings(run, evaluate={"masks": str(folder)})


def test_a_run_says_which_classes_are_predicted_nowhere(copied, tmp_path):
    run = given(copied, tmp_path / "nothing", 0)

    do(run, "evaluate")

    said = dict(run.terminal.lines)
    named = {name for item in run.data.val.items for name in item.labels}
    total = sum(len(item.labels) for item in run.data.val.items)
    nowhere = said["given network: predicted in no image"]
    assert said["given network: named classes that it predicts"] == f"0 of {total}"
    assert said["given network: predicted classes that are named"] == "0 of 0"
    assert {k for k, name in enumerate(run.data.classes) if name in nowhere} == named


def test_agreement_needs_no_ground_truth(copied):
    stage = do(with_settings(copied, evaluate={"flip": True}), "evaluate")

    by_hand = {
        name: {
            "named": sum(k in item.labels for item in copied.data.val.items),
            "predicted": sum((predicted(stage, i) == k + 1).any() for i in copied.data.val.items),
            "both": sum(
                bool(k in item.labels and (predicted(stage, item) == k + 1).any())
                for item in copied.data.val.items
            ),
        }
        for k, name in enumerate(copied.data.classes)
    }
    assert stage.summary["agreement"] == by_hand


def predicted(stage, item):
    return read_label_image(stage.path / "predictions" / f"{item.id}.png")


def test_predictions_that_know_the_names_are_not_compared_with_them(copied):
    stage = do(with_settings(copied, evaluate={"label_oracle": True}), "evaluate")

    assert "agreement" not in stage.summary


def test_a_training_of_few_steps_says_how_many_there_were(copied):
    for name in ("classifier", "segmentation"):
        do(copied, name)

    said = dict(copied.terminal.lines)
    # ten images are two whole batches of four
    assert said["classifier: too short a training"].startswith("2 steps; with fewer than 100")
    assert "segmenter.min_steps=100 or more" in said["segmenter: too short a training"]


def test_few_images_are_seen_as_often_as_it_takes(copied):
    stage = do(with_settings(copied, classifier={"min_steps": 5}), "classifier")

    assert (stage.summary["epochs"], stage.summary["steps"]) == (3, 6)
