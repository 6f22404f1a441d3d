"""Masks of some images, to compare ways to make masks for less."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.base.config import MaskedSplit, SaliencyConfig
from pipeline.base.errors import ConfigError, DataError
from pipeline.commands import compare, report
from pipeline.data.catalogue import Catalogue, Item, Split, spaced
from pipeline.data.palette import read_label_image
from pipeline.scoring import ConfusionMatrix
from pipeline.stages.label_images import mask_path
from pipeline.stages.maps import masked_split, scored_split
from tests.pipeline.runs import check, do, with_settings


def test_only_the_asked_number_of_scored_images_get_masks_and_are_scored(copied):
    run = with_settings(copied, saliency={"images": 3})

    stage = do(run, "pseudo_labels")

    made = {path.stem for path in (stage.path / "masks").iterdir()}
    scored = run.data.scored.ids
    assert made < set(scored)
    assert len(made) == stage.summary["images"] == stage.summary["scores"]["images"] == 3
    assert run.stage("saliency").path != copied.stage("saliency").path


def test_some_images_are_evenly_spaced_over_those_that_are_scored():
    items = tuple(Item(name, Path(name), ()) for name in "abcdefghij")
    data = Catalogue(
        "toy", (), Split("train", items), Split("scored", items[:6]), Split("val", items[7:])
    )
    some, held_out = SaliencyConfig(images=3), SaliencyConfig(split=MaskedSplit.val, images=2)

    assert masked_split(some, data).ids == scored_split(some, data).ids == ("a", "c", "e")
    assert masked_split(SaliencyConfig(images=4), data.without_truth()).ids == tuple("acfh")
    assert masked_split(held_out, data).ids == scored_split(held_out, data).ids == ("h", "i")
    assert masked_split(SaliencyConfig(), data) == data.train
    assert scored_split(SaliencyConfig(), data) == data.scored


def test_an_image_has_the_same_masks_alone_or_among_all(copied):
    some = do(with_settings(copied, saliency={"images": 2}), "pseudo_labels")
    everything = copied.stage("pseudo_labels")

    for path in (some.path / "refined").iterdir():
        assert path.read_bytes() == (everything.path / "refined" / path.name).read_bytes()


def test_more_than_there_are_means_all_that_are_scored(copied):
    stage = do(with_settings(copied, saliency={"images": 10_000}), "pseudo_labels")

    assert stage.summary["images"] == len(copied.data.scored.items)


@pytest.mark.parametrize("count", [0, -1])
def test_no_image_at_all_is_refused(copied, count):
    with pytest.raises(ConfigError, match=r"saliency\.images"):
        check(with_settings(copied, saliency={"images": count}), "saliency")


@pytest.mark.parametrize(
    ("stage", "settings", "named"),
    [
        ("saliency", {"saliency": {"split": "val"}}, "saliency.split=val"),
        ("evaluate", {"evaluate": {"label_oracle": True}}, "evaluate.label_oracle=true"),
    ],
)
def test_held_out_images_without_names_are_not_taken_for_background(copied, stage, settings, named):
    run = with_settings(copied, **settings)
    nameless = tuple(replace(item, labels=()) for item in run.data.val.items)
    run.data = replace(run.data, val=Split("val", nameless))

    with pytest.raises(DataError, match=f"{named}: none of the {len(nameless)} images of 'val'"):
        check(run, stage)


def test_held_out_images_can_have_masks_too_which_are_scored_there(copied):
    run = with_settings(copied, saliency={"split": "val"})
    held_out = run.data.val

    stage = do(run, "pseudo_labels")
    report.run(run)

    made = {path.stem for path in (stage.path / "masks").iterdir()}
    scores = stage.summary["scores"]
    assert made == set(held_out.ids)
    assert (scores["split"], scores["images"]) == (held_out.name, len(held_out.items))
    matrix = ConfusionMatrix(len(run.data.classes) + 1)
    for item in held_out.items:
        mask = read_label_image(mask_path(stage.path, "refined", item))
        matrix.update(mask, read_label_image(item.mask))
    assert scores["refined"]["mIoU"] == matrix.as_dict(run.data.classes)["mIoU"]
    page = Path(dict(run.terminal.lines)["look at"])
    assert f"refined mask on {held_out.name}" in page.read_text("utf-8")
    for name in held_out.ids:
        layers = {path.stem for path in (page.parent / "pictures" / "val" / name).iterdir()}
        assert {"photo", "supervised twin", "refined mask", "seed", "ground truth"} <= layers
    assert run.stage("classifier").path == copied.stage("classifier").path


def test_a_comparison_keeps_held_out_images_apart_and_shows_them(copied):
    do(with_settings(copied, saliency={"split": "val"}), "pseudo_labels")
    run = with_settings(copied, compare={"pictures": 2})

    compare.run(run)

    page = Path(dict(run.terminal.lines)["look at"]).read_text("utf-8")
    assert page.count("scored on ") >= 2
    assert "No pictures" not in page
    assert all(f'"id": "{item.id}"' in page for item in spaced(run.data.val.items, 2))
