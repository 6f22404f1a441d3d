"""`saliency.keep=false`: maps are gone once they have served, and nothing else is different."""

import shutil

from pipeline.run.run import Run
from pipeline.stages.label_images import KINDS, mask_path
from tests.pipeline.runs import again, do, when_made, with_settings


def without_maps(run):
    return with_settings(run, saliency={"keep": False})


def masks_of(run):
    folder = run.stage("pseudo_labels").path
    paths = [mask_path(folder, kind, item) for kind in KINDS for item in run.data.train.items]
    return [path.read_bytes() for path in paths]


def test_masks_and_scores_are_the_same_and_maps_are_gone(finished, copied):
    expected = copied.stage("pseudo_labels").summary["scores"]
    run = without_maps(copied)
    for name in ("saliency", "pseudo_labels"):  # as if both had been lost
        shutil.rmtree(run.stage(name).path)

    do(run, "pseudo_labels")

    assert not (run.stage("saliency").path / "maps").exists()
    assert masks_of(run) == masks_of(finished)
    assert run.stage("pseudo_labels").summary["scores"] == expected


def test_the_same_command_makes_nothing_anew(copied):
    run = without_maps(copied)
    do(run, "all")
    before = when_made(run)

    do(again(run), "all")

    assert when_made(run) == before


def test_other_masks_of_the_same_maps_make_them_again(finished, copied):
    do(without_maps(copied), "pseudo_labels")
    other = with_settings(copied, seed={"threshold": 0.45})  # and the maps stay this time

    do(other, "pseudo_labels")

    maps = {path.name: path.read_bytes() for path in other.stage("saliency").path.rglob("*.npz")}
    kept = finished.stage("saliency").path.rglob("*.npz")
    assert maps == {path.name: path.read_bytes() for path in kept}


def test_corrected_ground_truth_is_scored_with_the_maps_made_again(copied, other_data):
    do(without_maps(copied), "pseudo_labels")
    before = copied.stage("pseudo_labels").summary["scores"]
    mask = next((other_data / "VOCdevkit/VOC2012/SegmentationClass").glob("train*.png"))
    mask.write_bytes(sorted(mask.parent.glob("train*.png"))[-1].read_bytes())
    settings = with_settings(copied, data={"root": str(other_data)}, saliency={"keep": False})
    run = Run(settings.settings, copied.folder)

    do(run, "pseudo_labels")

    assert run.stage("pseudo_labels").summary["scores"] != before
    assert not (run.stage("saliency").path / "maps").exists()
