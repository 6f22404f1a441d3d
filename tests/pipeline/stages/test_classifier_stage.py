"""What stage `classifier` reports: average precision on held-out images, of classes that occur."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.data.catalogue import Catalogue, Item, Split
from pipeline.stages import classifier


@pytest.fixture
def data(tmp_path):
    """Held-out images show ``cat`` twice and ``cow`` once, never ``dog``."""
    items = [
        Item(f"v{k}", tmp_path / f"v{k}.jpg", labels) for k, labels in enumerate([(0,), (0, 1)])
    ]
    train = [Item("t0", tmp_path / "t0.jpg", (2,))]
    splits = {"train": Split("train", tuple(train)), "scored": Split("train", ())}
    return Catalogue("toy", ("cat", "cow", "dog"), **splits, val=Split("held", tuple(items)))


@pytest.fixture
def validated(data, make_run, monkeypatch):
    """The summary for a network with an average precision of .5, .25 and 0."""
    seen = []

    class Trainer:
        def validate(self, _task, loader, verbose):
            seen.append([item.id for item in loader.dataset.items])
            return [{"AP/cat": 0.5, "AP/cow": 0.25, "AP/dog": 0.0}]

    monkeypatch.setattr(classifier, "make_trainer", lambda _job: Trainer())

    def summary(catalogue=data):
        job = SimpleNamespace(settings=make_run().settings, data=catalogue)
        return classifier._validate(job, None), seen[-1]

    return summary


def test_a_class_that_no_held_out_image_shows_has_no_average_precision(validated):
    summary, images = validated()

    assert summary == {
        "mAP": 0.375, "AP": {"cat": 0.5, "cow": 0.25, "dog": None},
        "images": {"cat": 2, "cow": 1, "dog": 0}, "split": "held", "held_out": 2,
    }  # fmt: skip
    assert images == ["v0", "v1"]


def test_without_labels_there_is_no_mean(validated, data):
    unlabelled = tuple(replace(item, labels=()) for item in data.val.items)

    summary, _ = validated(replace(data, val=Split("held", unlabelled)))

    assert summary["mAP"] is None
