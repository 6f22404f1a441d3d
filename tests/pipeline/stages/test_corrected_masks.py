"""Corrected masks in a run: what is made anew, what is learned, and what every number says."""

import json
import shutil

import numpy as np
import pytest
import torch

import pipeline
from pipeline.base.errors import ConfigError, DataError
from pipeline.command import main
from pipeline.commands.results import result_of
from pipeline.commands.run_results import RunResults
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.data.truth import ground_truth
from pipeline.inference.exporting import find_source
from pipeline.inference.model_card import model_card
from pipeline.run.lineage import lineages, stages_in
from tests.pipeline.runs import again, check, do, when_made, with_settings

N = 3


@pytest.fixture
def corrected(copied, tmp_path):
    """The true masks of some training images, as if people had corrected them."""
    folder = tmp_path / "corrected"
    folder.mkdir()
    for item in copied.data.train.items[:N]:
        (folder / f"{item.id}.png").write_bytes(encode_label_image(ground_truth(item)))
    return folder


def given(run, folder, **groups):
    return with_settings(run, data={"corrected": str(folder)}, **groups)


def state(stage):
    return torch.load(stage.path / "last.ckpt", weights_only=True)["state_dict"]


def test_a_finished_run_goes_on_from_its_masks_and_names_every_number(copied, corrected, capsys):
    before = when_made(copied)
    run = given(copied, corrected)

    do(run, "all")

    now = when_made(copied)
    new = {name.rpartition("-")[0] for name in now.keys() - before.keys()}
    assert new == {"segmentation/pseudo_corrected", "evaluate/pseudo_corrected_val"}
    assert all(now[name] == when for name, when in before.items())  # the twin and the old network
    said = dict(run.terminal.lines)
    assert said["segmenter +3 masks mIoU"].endswith("; val, scale 1, no flip, not refined")
    assert f"segmentation/{run.stage('segmentation').path.name}" in said["predict"]
    assert run.stage("evaluate").summary["scores"]["corrected_masks"] == N
    assert run.stage("segmentation").summary["corrected_masks"] == N
    page = (run.folder / "report" / "index.html").read_text()
    assert "segmenter +3 masks" in page
    assert list(RunResults(run).segmenters) == ["segmenter +3 masks", "supervised twin"]

    stage = run.stage("segmentation").path
    assert pipeline.load(stage, device="cpu").corrected_masks == N
    assert pipeline.load(stage / "last.ckpt", device="cpu").corrected_masks == N
    assert pipeline.load(copied.stage("segmentation").path, device="cpu").corrected_masks == 0
    source = find_source(stage, classifier=False)
    assert source.about["corrected_masks"] == N
    card = model_card(source.about, source.record)
    assert "Weak labels +3 masks" in card
    assert "mIoU +3 masks 0." in card
    assert "no mask drawn by a person" not in card
    results = [result_of(way, None) for way in lineages(stages_in(run.folder))]
    plus = {result.segmenter.settings["corrected masks"].value for result in results}
    assert plus == {"+0", "+3"}
    assert all("fraction|val, scale 1, no flip, not refined" in r.merged("values") for r in results)

    do(again(run), "all")
    assert when_made(copied) == now


def test_the_network_learns_the_real_masks_of_these_images_and_the_others_pseudo_masks(
    copied, corrected, tmp_path
):
    mixed = tmp_path / "mixed"
    shutil.copytree(copied.stage("pseudo_labels").path / "masks", mixed)
    shutil.copytree(corrected, mixed, dirs_exist_ok=True)

    learned = state(do(given(copied, corrected), "segmentation"))

    by_hand = state(do(with_settings(copied, segmenter={"labels": str(mixed)}), "segmentation"))
    assert all(torch.equal(learned[key], by_hand[key]) for key in learned)


def test_images_with_corrected_masks_are_seen_as_often_as_asked(copied, corrected):
    run = given(copied, corrected, segmenter={"corrected_repeats": 3})

    steps = do(run, "segmentation").summary["steps"]

    assert steps == (10 + 2 * N) // 4  # an epoch of batches of 4
    assert run.stage("segmentation").path != given(copied, corrected).stage("segmentation").path
    alone = with_settings(copied, segmenter={"corrected_repeats": 3})
    assert alone.stage("segmentation").path == copied.stage("segmentation").path


def test_scores_leave_out_images_whose_masks_were_learned_and_say_so(copied, corrected):
    run = given(copied, corrected, evaluate={"split": "train"})

    do(run, "segmentation")
    scores = do(run, "evaluate").summary["scores"]

    assert scores["images"] == 10 - N
    assert scores["protocol"].startswith("train without 3 image(s) of learned masks, scale 1")
    relabelled = do(run, "relabel").summary["scores"]
    assert relabelled["images"] == 10 - N
    assert relabelled["split"] == "train without 3 image(s) of learned masks"


def test_a_segmenter_that_learns_relabelled_masks_inherits_the_number(copied, corrected):
    run = given(copied, corrected)
    do(run, "segmentation")
    masks = do(run, "relabel").path / "masks"

    second = with_settings(copied, segmenter={"labels": str(masks)}, evaluate={"split": "train"})
    do(second, "segmentation")

    assert second.stage("segmentation").summary["corrected_masks"] == N
    assert do(second, "evaluate").summary["scores"]["images"] == 10 - N


def test_masks_that_came_back_unchanged_do_not_count(copied, corrected, tmp_path):
    out = tmp_path / "out"
    words = ["masks", "export", str(copied.folder), "--format", "coco", "--out", str(out)]
    assert main(words) == 0
    with pytest.raises(DataError, match="all 10 masks are those that the network would learn"):
        do(given(copied, out), "segmentation")
    png = tmp_path / "png"
    words = ["masks", "import", str(out), "--run", str(copied.folder), "--out", str(png)]
    assert main(words) == 0
    shutil.copytree(corrected, png, dirs_exist_ok=True)

    stage = do(given(copied, png), "segmentation")

    assert stage.summary["corrected_masks"] == N
    assert len(list((stage.path / "corrected").rglob("*.png"))) == N


def test_void_of_a_corrected_mask_stays_void_where_that_of_pseudo_masks_is_background(
    copied, corrected
):
    losses = {}
    for value in (0, 255):
        for path in corrected.glob("*.png"):
            labels = read_label_image(path)
            labels[:, :40] = value
            path.write_bytes(encode_label_image(labels))
        run = given(copied, corrected, segmenter={"void": "background"})
        losses[value] = do(run, "segmentation").summary["last_loss"]

    assert np.isfinite(list(losses.values())).all()
    assert losses[0] != losses[255]


def test_other_corrected_masks_make_another_network_and_another_format_does_not(
    copied, corrected, tmp_path
):
    first = given(copied, corrected).stage("segmentation").path
    shutil.copytree(corrected, tmp_path / "moved")
    assert given(copied, tmp_path / "moved").stage("segmentation").path == first

    path = next(corrected.glob("*.png"))
    labels = read_label_image(path)
    labels[0, 0] = 1 - min(labels[0, 0], 1)
    path.write_bytes(encode_label_image(labels))

    other = given(copied, corrected)
    assert other.stage("segmentation").path != first
    for name in ("classifier", "saliency", "pseudo_labels"):
        assert other.stage(name).fingerprint == copied.stage(name).fingerprint


def test_what_cannot_be_is_refused_before_any_work(copied, corrected, tmp_path):
    with pytest.raises(ConfigError, match=r"Add data\.corrected=null"):
        check(given(copied, corrected, segmenter={"labels": "ground_truth"}), "segmentation")
    with pytest.raises(DataError, match="no such file or folder"):
        check(given(copied, tmp_path / "gone"), "segmentation")
    for item in copied.data.train.items:
        (corrected / f"{item.id}.png").write_bytes(encode_label_image(ground_truth(item)))
    with pytest.raises(ConfigError, match="corrected masks of all 10 images of 'train'"):
        check(given(copied, corrected, evaluate={"split": "train"}), "evaluate")


def test_a_note_about_masks_against_labels_is_said_before_the_training(copied, corrected, capsys):
    item = copied.data.train.items[0]
    other = next(k for k in range(5) if k not in item.labels)
    labels = np.where(ground_truth(item) > 0, np.uint8(other + 1), np.uint8(0))
    (corrected / f"{item.id}.png").write_bytes(encode_label_image(labels))

    check(given(copied, corrected), "segmentation")

    assert "the masks of 1 of 3 images show other classes" in capsys.readouterr().err


def test_the_list_of_learned_images_is_in_the_checkpoint(copied, corrected):
    stage = do(given(copied, corrected), "segmentation")

    content = torch.load(stage.path / "last.ckpt", weights_only=True)["hyper_parameters"]
    assert content["corrected"] == [item.id for item in copied.data.train.items[:N]]
    assert json.dumps(content["corrected"])
