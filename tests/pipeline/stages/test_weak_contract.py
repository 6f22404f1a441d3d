"""Ground truth changes numbers, and nothing that is made."""

from PIL import Image

from pipeline.stages import chain, classifier, pseudo_labels, segmentation
from pipeline.stages.context import Run
from tests.pipeline.stages.runs import stages_of, when_made, with_settings


def turn_masks(root):
    """Turn every ground-truth mask round."""
    for path in (root / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turned.save(path)


def test_ground_truth_changes_numbers_and_nothing_that_is_made(finished, tmp_path, other_data):
    turn_masks(other_data)
    config = with_settings(finished, data={"root": str(other_data)}).config
    run = Run(config, tmp_path / "run")

    classifier.run(run)
    pseudo_labels.run(run)
    segmentation.run(run)

    first, second = (pseudo_labels.folder(r) for r in (finished, run))
    assert first.summary["scores"]["seeds"] != second.summary["scores"]["seeds"]
    for item in run.catalogue.train.items:
        for kind in pseudo_labels.KINDS:
            paths = [pseudo_labels.mask_path(stage, kind, item) for stage in (first, second)]
            assert paths[0].read_bytes() == paths[1].read_bytes()
    losses = [segmentation.folder(r).summary["last_loss"] for r in (finished, run)]
    assert losses[0] == losses[1]


def test_corrected_ground_truth_is_scored_anew_without_making_anything_anew(copied, other_data):
    turn_masks(other_data)
    before, scores = when_made(copied), pseudo_labels.folder(copied).summary["scores"]
    run = with_settings(copied, data={"root": str(other_data)})

    chain.run(run)

    after = when_made(run)
    assert pseudo_labels.folder(run).summary["scores"] != scores
    changed = {name for name in before if before[name] != after[name]}
    assert stages_of(changed) == {"pseudo_labels/CRFRefinement"}  # its scores alone
    assert stages_of(after.keys() - before.keys()) == {
        "segmentation/ground_truth", "evaluate/pseudo_val", "evaluate/ground_truth_val",
    }  # fmt: skip
