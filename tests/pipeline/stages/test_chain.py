"""The whole way on tiny data: what a person sees, what is skipped, what is made beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.base.files import read_json
from pipeline.data.palette import read_label_image
from pipeline.run.fingerprint import code_version
from pipeline.run.run import Run
from pipeline.stages.label_images import mask_path
from tests.pipeline.runs import MADE, again, do, stages_of, when_made, with_settings


def test_the_chain_ends_with_numbers_pictures_and_a_page(finished):
    lines = dict(finished.terminal.lines)

    assert (finished.folder / "report" / "index.html").stat().st_size > 10_000
    made = when_made(finished)
    assert len(made) == MADE
    for name in made:
        assert read_json(finished.folder / name / "manifest.json")["state"] == "done"
    for wanted in ("seed mIoU (train, honest)", "seed mIoU (train, oracle)", "look at"):
        assert wanted in lines
    assert {"segmenter mIoU", "twin mIoU"} <= set(lines)


def test_every_training_image_has_three_label_images_of_its_size(finished):
    stage = finished.stage("pseudo_labels")
    for item in finished.data.train.items:
        allowed = {0, *(label + 1 for label in item.labels)}
        for kind, extra in (("seeds", set()), ("refined", set()), ("masks", {255})):
            path = mask_path(stage.path, kind, item)
            with Image.open(path) as image:
                assert image.mode == "P"
                assert image.size == (64, 64)
            assert set(np.unique(read_label_image(path))) <= allowed | extra


def test_a_second_run_skips_everything_and_says_so(finished, capsys):
    before = when_made(finished)

    do(again(finished), "all")

    assert when_made(finished) == before
    assert capsys.readouterr().err.count("skipped") == MADE


def test_a_changed_threshold_redoes_what_depends_on_it_and_nothing_else(copied):
    before = when_made(copied)

    do(with_settings(copied, seed={"threshold": 0.45}), "all")

    after = when_made(copied)
    assert before.items() <= after.items()  # nothing that was made is replaced
    assert stages_of(after.keys() - before.keys()) == {
        "pseudo_labels/CRFRefinement", "segmentation/pseudo", "evaluate/pseudo_val",
    }  # fmt: skip


def test_the_same_seed_gives_the_same_result_whatever_the_number_of_workers(finished, make_run):
    run = make_run("trainer.workers=2")

    do(run, "all")

    for stage in when_made(finished):
        paths = (folder / stage / "manifest.json" for folder in (finished.folder, run.folder))
        first, second = (read_json(path)["summary"] for path in paths)
        assert first == second


def test_another_seed_gives_another_result(finished, make_run):
    run = make_run("random_seed=7")

    do(run, "classifier")

    assert run.stage("classifier").summary["AP"] != finished.stage("classifier").summary["AP"]


@pytest.mark.parametrize("method", ["grad_cam", "cam"])
def test_other_saliency_methods_need_only_their_yaml(copied, make_run, method):
    run = make_run(f"saliency={method}", folder=copied.folder)

    stage = do(run, "pseudo_labels")

    assert stage.summary["images"] == 10


def test_other_weights_under_the_same_name_are_other_weights(make_run, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"w": torch.zeros(1)}, path)
    run = make_run(f"classifier.weights={path}")
    before = run.stage("classifier").fingerprint

    torch.save({"w": torch.ones(1)}, path)

    assert again(run).stage("classifier").fingerprint != before


def test_the_code_of_the_chosen_method_counts(finished):
    code = finished.stage("saliency").parts["code"]

    assert code_version("tsgb.methods.tsgb") in code
    assert code_version("tsgb.methods.cam") not in code


def test_without_refinement_the_refined_mask_is_the_seed(copied):
    config = replace(copied.settings, refine={"_target_": "pipeline.masks.refine.NoRefinement"})
    run = Run(config, copied.folder)

    stage = do(run, "pseudo_labels")

    scores = stage.summary["scores"]
    assert scores["seeds"] == scores["refined"]
