"""What is scored, in which way, and what the evaluation server gets."""

import pytest
from PIL import Image

from pipeline.errors import DataError
from pipeline.stages import evaluate
from tests.pipeline.stages.runs import with_settings


def test_a_folder_of_masks_can_be_scored_and_the_truth_scores_one(finished, tmp_path, shapes_root):
    truth = shapes_root / "VOCdevkit" / "VOC2012" / "SegmentationClass"
    run = with_settings(finished, evaluate={"masks": str(truth)})
    run.folder = tmp_path / "run"

    stage = evaluate.run(run)

    assert stage.summary["scores"]["mIoU"] == 1.0
    assert stage.summary["scores"]["protocol"] == "val, given masks"


def test_a_missing_prediction_is_an_error_not_a_better_score(finished, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    run = with_settings(finished, evaluate={"masks": str(masks)})
    run.folder = tmp_path / "run"

    with pytest.raises(DataError, match="4 of 4 images of 'val' have no prediction"):
        evaluate.run(run)


def test_scales_flip_crf_and_export_for_the_server(copied):
    run = with_settings(
        copied, evaluate={"scales": [1.0, 1.5], "flip": True, "crf": True, "export": True}
    )

    stage = evaluate.run(run)

    assert stage.summary["scores"]["protocol"] == "val, scales 1 1.5, flip, refined"
    exported = stage.path / "results/VOC2012/Segmentation/comp6_test_cls"
    files = {path.stem for path in exported.glob("*.png")}
    assert files == set(run.catalogue.val.ids)
    with Image.open(next(exported.glob("*.png"))) as image:
        assert image.mode == "P"
        assert image.size == (64, 64)


def test_other_scales_are_scored_beside_the_first_ones(copied):
    first = evaluate.folder(copied)
    other = with_settings(copied, evaluate={"scales": [0.5]})

    second = evaluate.run(other)

    assert first.is_done
    assert first.path != second.path
    assert second.summary["scores"]["protocol"] == "val, scale 0.5, no flip, no CRF"
