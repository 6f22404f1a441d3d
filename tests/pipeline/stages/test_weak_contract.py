"""Ground truth changes numbers, and nothing that is made."""

from PIL import Image

from pipeline.run.run import Run
from pipeline.stages.label_images import KINDS, mask_path
from tests.pipeline.runs import do, stages_of, when_made, with_settings


def turn_masks(root):
    """Turn every ground-truth mask round."""
    for path in (root / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turned.save(path)


def test_ground_truth_changes_numbers_and_nothing_that_is_made(finished, tmp_path, other_data):
    turn_masks(other_data)
    config = with_settings(finished, data={"root": str(other_data)}).settings
    run = Run(config, tmp_path / "run")

    do(run, "classifier")
    do(run, "pseudo_labels")
    do(run, "segmentation")

    first, second = (r.stage("pseudo_labels") for r in (finished, run))
    assert first.summary["scores"]["seeds"] != second.summary["scores"]["seeds"]
    for item in run.data.train.items:
        for kind in KINDS:
            paths = [mask_path(stage.path, kind, item) for stage in (first, second)]
            assert paths[0].read_bytes() == paths[1].read_bytes()
    losses = [r.stage("segmentation").summary["last_loss"] for r in (finished, run)]
    assert losses[0] == losses[1]


def test_corrected_ground_truth_is_scored_anew_without_making_anything_anew(copied, other_data):
    turn_masks(other_data)
    before, scores = when_made(copied), copied.stage("pseudo_labels").summary["scores"]
    run = with_settings(copied, data={"root": str(other_data)})

    do(run, "all")

    after = when_made(run)
    assert run.stage("pseudo_labels").summary["scores"] != scores
    changed = {name for name in before if before[name] != after[name]}
    assert stages_of(changed) == {"pseudo_labels/CRFRefinement", "evaluate/pseudo_val"}  # scores
    assert stages_of(after.keys() - before.keys()) == {
        "segmentation/ground_truth", "evaluate/ground_truth_val",
    }  # fmt: skip
