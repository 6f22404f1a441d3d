"""Masks of some images, to compare ways to make masks for less."""

import pytest

from pipeline.errors import ConfigError
from pipeline.stages import pseudo_labels, saliency, segmentation
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


def test_no_network_learns_from_so_few(copied):
    run = with_settings(copied, saliency={"images": 2})
    pseudo_labels.run(run)

    for attempt in (segmentation.check_settings, segmentation.run):
        with pytest.raises(ConfigError, match="stage=masks"):
            attempt(run)
