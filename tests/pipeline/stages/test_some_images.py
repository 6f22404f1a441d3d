"""Masks of some images, to compare ways to make masks for less."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.data.catalogue import Split, spaced
from pipeline.data.palette import read_label_image
from pipeline.errors import ConfigError, DataError
from pipeline.scoring import ConfusionMatrix
from pipeline.stages import (
    classifier,
    compare,
    evaluate,
    pseudo_labels,
    report,
    saliency,
    segmentation,
)
from tests.pipeline.stages.runs import with_settings


def test_only_the_asked_number_of_scored_images_get_masks_and_are_scored(copied):
    run = with_settings(copied, saliency={"images": 3})

    stage = pseudo_labels.run(run)

    made = {path.stem for path in (stage.path / "masks").iterdir()}
    scored = run.catalogue.scored.ids
    assert made < set(scored)
    assert len(made) == stage.summary["images"] == stage.summary["scores"]["images"] == 3
    assert saliency.folder(run).path != saliency.folder(copied).path


def test_an_image_has_the_same_masks_alone_or_among_all(copied):
    some = pseudo_labels.run(with_settings(copied, saliency={"images": 2}))
    everything = pseudo_labels.folder(copied)

    for path in (some.path / "refined").iterdir():
        assert path.read_bytes() == (everything.path / "refined" / path.name).read_bytes()


def test_more_than_there_are_means_all_that_are_scored(copied):
    stage = pseudo_labels.run(with_settings(copied, saliency={"images": 10_000}))

    assert stage.summary["images"] == len(copied.catalogue.scored.items)


@pytest.mark.parametrize("count", [0, -1])
def test_no_image_at_all_is_refused(copied, count):
    with pytest.raises(ConfigError, match=r"saliency\.images"):
        pseudo_labels.check_settings(with_settings(copied, saliency={"images": count}))


@pytest.mark.parametrize(
    ("stage", "settings", "named"),
    [
        (pseudo_labels, {"saliency": {"split": "val"}}, "saliency.split=val"),
        (evaluate, {"evaluate": {"names_given": True}}, "evaluate.names_given=true"),
    ],
)
def test_held_out_images_without_names_are_not_taken_for_background(copied, stage, settings, named):
    run = with_settings(copied, **settings)
    nameless = tuple(replace(item, labels=()) for item in run.catalogue.val.items)
    run.catalogue = replace(run.catalogue, val=Split("val", nameless))

    with pytest.raises(DataError, match=f"{named}: none of the {len(nameless)} images of 'val'"):
        stage.check_settings(run)


def test_held_out_images_can_have_masks_too_which_are_scored_there(copied):
    run = with_settings(copied, saliency={"split": "val"})
    held_out = run.catalogue.val

    stage = pseudo_labels.run(run)
    report.run(run)

    made = {path.stem for path in (stage.path / "masks").iterdir()}
    scores = stage.summary["scores"]
    assert made == set(held_out.ids)
    assert (scores["split"], scores["images"]) == (held_out.name, len(held_out.items))
    matrix = ConfusionMatrix(len(run.catalogue.classes) + 1)
    for item in held_out.items:
        mask = read_label_image(pseudo_labels.mask_path(stage, "refined", item))
        matrix.update(mask, read_label_image(item.mask))
    assert scores["refined"]["mIoU"] == matrix.as_dict(run.catalogue.classes)["mIoU"]
    assert f"From saliency to masks on {held_out.name}" in Path(
        dict(run.lines)["report"]
    ).read_text("utf-8")
    assert classifier.folder(run).path == classifier.folder(copied).path


def test_a_comparison_keeps_held_out_images_apart_and_shows_them(copied):
    pseudo_labels.run(with_settings(copied, saliency={"split": "val"}))
    run = with_settings(copied, compare={"pictures": 2})

    compare.run(run)

    page = Path(dict(run.lines)["page"]).read_text("utf-8")
    assert page.count("scored on ") >= 2
    assert "No pictures" not in page
    assert all(f">{item.id}" in page for item in spaced(run.catalogue.val.items, 2))


def test_an_unknown_split_is_refused_before_any_work(copied):
    with pytest.raises(ConfigError, match=r"saliency\.split: 'vall'"):
        pseudo_labels.check_settings(with_settings(copied, saliency={"split": "vall"}))


@pytest.mark.parametrize("some", [{"images": 2}, {"split": "val"}])
def test_no_network_learns_from_these(copied, some):
    run = with_settings(copied, saliency=some)
    pseudo_labels.run(run)

    for attempt in (segmentation.check_settings, segmentation.run):
        with pytest.raises(ConfigError, match="stage=masks"):
            attempt(run)
