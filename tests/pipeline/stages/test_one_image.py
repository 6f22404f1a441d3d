"""One image's failure is one image's: it is named at the end, and the rest is done."""

import shutil

import numpy as np
import pytest
import torch

from pipeline.base.errors import StageIncompleteError, failure_of_image
from pipeline.run.table import STAGES
from pipeline.stages.failures import in_parallel
from pipeline.stages.label_images import mask_path
from pipeline.stages.maps import map_path
from pipeline.stages.predictions import prediction_path
from pipeline.tasks.predictor import LabelledPredictor, Predictor
from pipeline.tasks.saliency_predictor import SaliencyPredictor
from tests.pipeline.runs import do, job

FAILURES = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ValueError("an image of a strange shape"),
]


def failing_once(monkeypatch, predictor, error):
    """The third image that the predictor is given fails, also when it is tried again."""
    whole, seen = predictor.predict_image, []

    def predict_image(self, image, targets):
        if not seen or seen[-1] is not image:  # which is tried again where a GPU has no memory
            seen.append(image)
        if len(seen) == 3:
            raise error
        return whole(self, image, targets)

    monkeypatch.setattr(predictor, "predict_image", predict_image)


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_an_image_without_maps_is_named_and_the_others_have_theirs(copied, monkeypatch, error):
    shutil.rmtree(copied.folder / "saliency")
    failing_once(monkeypatch, SaliencyPredictor, error)
    items = copied.data.train.items

    with pytest.raises(StageIncompleteError) as raised:
        do(copied, "saliency")

    text = str(raised.value)
    assert f"1 of {len(items)} images failed; the other {len(items) - 1} are done" in text
    assert f"{items[2].id}: " in text
    folder = copied.stage("saliency").path
    assert [map_path(folder, item).exists() for item in items].count(False) == 1
    monkeypatch.undo()
    do(copied, "saliency")
    assert copied.stage("saliency").is_done


@pytest.mark.parametrize(
    ("stage", "predictor", "path"),
    [
        ("evaluate", Predictor, lambda run, i: prediction_path(run.settings.evaluate, *i)),
        ("relabel", LabelledPredictor, lambda _, i: mask_path(i[0], "masks", i[1])),
    ],
)
def test_the_segmenter_too_fails_for_one_image_alone(copied, monkeypatch, stage, predictor, path):
    if (folder := copied.stage(stage).path).exists():
        shutil.rmtree(folder)
    failing_once(monkeypatch, predictor, MemoryError())

    with pytest.raises(StageIncompleteError, match="not enough memory for this image"):
        do(copied, stage)

    items = copied.data.val.items if stage == "evaluate" else copied.data.train.items
    assert [path(copied, (folder, item)).exists() for item in items].count(False) == 1


def test_a_mistake_in_the_program_ends_a_stage_at_once(copied, monkeypatch):
    shutil.rmtree(copied.folder / "saliency")
    failing_once(monkeypatch, SaliencyPredictor, RuntimeError("shapes do not match"))

    with pytest.raises(RuntimeError, match="shapes do not match"):
        do(copied, "saliency")


@pytest.mark.parametrize("damage", ["half", "empty", "other shape", "no array"])
def test_damaged_maps_are_one_images_and_are_made_anew(copied, damage):
    item = copied.data.train.items[1]
    maps = map_path(copied.stage("saliency").path, item)
    whole = maps.read_bytes()
    if damage == "other shape":
        np.savez(maps, maps=np.zeros((1, 2), np.float16))
    elif damage == "no array":
        np.savez(maps, other=np.zeros(3))
    else:
        maps.write_bytes(whole[: len(whole) // 2] if damage == "half" else b"")
    shutil.rmtree(copied.folder / "pseudo_labels")
    copied.stage("pseudo_labels").begin()

    with pytest.raises(StageIncompleteError, match="makes it anew") as raised:  # while at work
        STAGES["pseudo_labels"].work(job(copied, "pseudo_labels"))

    assert f"{item.id}: {maps}: damaged" in str(raised.value)
    assert maps.with_name(f"{maps.name}.damaged").exists()
    do(copied, "pseudo_labels")
    assert maps.read_bytes() == whole


def test_memory_of_one_input_is_no_reason_to_stop():
    def work(number):
        if number == 1:
            raise MemoryError
        return number

    results = dict(in_parallel(work, range(4), workers=2))

    assert [results[k] for k in (0, 2, 3)] == [0, 2, 3]
    assert "not enough memory" in str(results[1])


def test_what_concerns_every_image_is_not_one_images():
    assert failure_of_image(RuntimeError("device-side assert triggered")) is None
    assert failure_of_image(KeyError("a mistake")) is None
