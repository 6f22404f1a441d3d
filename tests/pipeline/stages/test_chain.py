"""The whole way on tiny data: what a person sees, what is skipped, what survives a kill."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import read_json
from pipeline.data.palette import read_label_image
from pipeline.errors import (
    ConfigError,
    DataError,
    MissingArtifactError,
    StageIncompleteError,
    StorageError,
)
from pipeline.stages import chain, classifier, evaluate, pseudo_labels, saliency, segmentation
from tests.conftest import ROOT, TINY

STAGES = 7  # classifier, saliency, pseudo_labels, and a network and its twin with their scores


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shapes_root):
    """A finished run on tiny data, made once; tests that change it take a copy."""
    from pipeline.stages.context import Run
    from pipeline.stages.launch import plain
    from tests.conftest import composed

    folder = tmp_path_factory.mktemp("finished") / "run"
    run = Run(plain(composed(*TINY, f"data.root={shapes_root}")), folder)
    chain.run(run)
    return run


def turn_masks(root):
    """Turn every ground-truth mask round."""
    for path in (root / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turned.save(path)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run that a test may damage."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    return type(finished)(finished.config, folder)


def with_settings(run, **groups):
    """The same run with other settings: ``with_settings(run, seed={"threshold": 0.6})``."""
    config = run.config
    for group, values in groups.items():
        config = replace(config, **{group: replace(getattr(config, group), **values)})
    return type(run)(config, run.folder)


def when_made(run):
    manifests = run.folder.rglob("manifest.json")
    return {p.parent.relative_to(run.folder).as_posix(): p.stat().st_mtime_ns for p in manifests}


def stages_of(folders):
    """``{"saliency/TSGB-0a1b2c"}`` without the fingerprints: ``{"saliency/TSGB"}``."""
    return {folder.rpartition("-")[0] for folder in folders}


def test_the_chain_ends_with_numbers_pictures_and_a_page(finished):
    lines = dict(finished.lines)

    assert (finished.folder / "report" / "index.html").stat().st_size > 10_000
    made = when_made(finished)
    assert len(made) == STAGES
    for name in made:
        assert read_json(finished.folder / name / "manifest.json")["state"] == "done"
    for wanted in ("seed mIoU (train, honest)", "seed mIoU (train, oracle)", "report"):
        assert wanted in lines
    assert sum(name.startswith("mIoU, ") for name in lines) == 2  # the network and its twin


def test_every_training_image_has_three_label_images_of_its_size(finished):
    stage = pseudo_labels.folder(finished)
    for item in finished.catalogue.train.items:
        allowed = {0, *(label + 1 for label in item.labels)}
        for kind, extra in (("seeds", set()), ("refined", set()), ("masks", {255})):
            path = pseudo_labels.mask_path(stage, kind, item)
            with Image.open(path) as image:
                assert image.mode == "P"
                assert image.size == (64, 64)
            assert set(np.unique(read_label_image(path))) <= allowed | extra


def test_a_second_run_skips_everything_and_says_so(finished, capsys):
    before = when_made(finished)

    chain.run(type(finished)(finished.config, finished.folder))

    assert when_made(finished) == before
    assert capsys.readouterr().err.count("skipped") == STAGES


def test_a_changed_threshold_redoes_what_depends_on_it_and_nothing_else(copied):
    before = when_made(copied)

    chain.run(with_settings(copied, seed={"threshold": 0.45}))

    after = when_made(copied)
    assert before.items() <= after.items()  # nothing that was made is replaced
    assert stages_of(after.keys() - before.keys()) == {
        "pseudo_labels/CRFRefinement", "segmentation/pseudo", "evaluate/pseudo_val",
    }  # fmt: skip


def test_ground_truth_changes_numbers_and_nothing_that_is_made(finished, tmp_path, shapes_root):
    """The weak contract: masks that say something else leave every product as it was."""
    other = tmp_path / "shapes"
    shutil.copytree(shapes_root, other)
    turn_masks(other)
    config = replace(finished.config, data={**finished.config.data, "root": str(other)})
    run = type(finished)(config, tmp_path / "run")

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


def test_corrected_ground_truth_is_scored_anew_without_making_anything_anew(
    copied, tmp_path, shapes_root
):
    other = tmp_path / "shapes"
    shutil.copytree(shapes_root, other)
    turn_masks(other)
    before, scores = when_made(copied), pseudo_labels.folder(copied).summary["scores"]
    config = replace(copied.config, data={**copied.config.data, "root": str(other)})
    run = type(copied)(config, copied.folder)

    chain.run(run)

    after = when_made(run)
    assert pseudo_labels.folder(run).summary["scores"] != scores
    changed = {name for name in before if before[name] != after[name]}
    assert stages_of(changed) == {"pseudo_labels/CRFRefinement"}  # its scores alone
    assert stages_of(after.keys() - before.keys()) == {
        "segmentation/ground_truth", "evaluate/pseudo_val", "evaluate/ground_truth_val",
    }  # fmt: skip


def test_the_same_seed_gives_the_same_result_whatever_the_number_of_workers(finished, make_run):
    run = make_run("trainer.workers=2")

    chain.run(run)

    for stage in when_made(finished):
        paths = (folder / stage / "manifest.json" for folder in (finished.folder, run.folder))
        first, second = (read_json(path)["summary"] for path in paths)
        first.pop("predictions", None)
        second.pop("predictions", None)
        assert first == second


def test_another_seed_gives_another_result(finished, make_run, shapes_root):
    run = make_run("random_seed=7", "data.random_seed=0")

    classifier.run(run)

    assert classifier.folder(run).summary["AP"] != classifier.folder(finished).summary["AP"]


def test_masks_that_a_killed_run_left_are_kept_and_the_rest_is_made(copied):
    stage = pseudo_labels.folder(copied)
    items = copied.catalogue.train.items
    kept = pseudo_labels.mask_path(stage, "masks", items[0])
    gone = pseudo_labels.mask_path(stage, "masks", items[1])
    expected, when = gone.read_bytes(), kept.stat().st_mtime_ns
    gone.unlink()
    stage.begin()  # and the run is killed here

    pseudo_labels.run(copied)

    assert gone.read_bytes() == expected
    assert kept.stat().st_mtime_ns == when
    assert stage.manifest["resumed"] is True


def test_masks_are_made_while_maps_still_are(copied, monkeypatch):
    run = with_settings(copied, trainer={"workers": 0})  # one thread for masks; three may wait
    monkeypatch.setattr(pseudo_labels, "on_gpu", lambda _: True)  # where it pays
    for stage in ("saliency", "pseudo_labels"):
        shutil.rmtree(run.folder / stage)
    make, maps_at_the_time = pseudo_labels._Maker.make, []

    def watched(maker, item):
        make(maker, item)
        maps_at_the_time.append(len(list(maker.maps.path.glob("maps/*.npz"))))

    monkeypatch.setattr(pseudo_labels._Maker, "make", watched)

    stage = pseudo_labels.run(run)

    images = len(run.catalogue.train.items)
    assert maps_at_the_time[0] < images
    assert len(maps_at_the_time) == images
    assert len(list(stage.path.glob("masks/*.png"))) == images


@pytest.mark.parametrize("name", ["classifier", "segmentation"])
def test_training_that_was_killed_ends_where_it_would_have_ended(name, make_run):
    """Two epochs at once, or one, a kill and one more: the same weights."""
    import torch

    module = {"classifier": classifier, "segmentation": segmentation}[name]
    group = "classifier" if name == "classifier" else "segmenter"
    results = []
    for folder in ("whole", "killed"):
        run = make_run(f"{group}.epochs=2", "segmenter.labels=ground_truth")
        run.folder = run.folder / folder
        if name == "segmentation":
            classifier.run(run)
        if folder == "killed":
            _kill_after_one_epoch(run, module)
        stage = module.run(run)
        results.append(torch.load(stage.path / "last.ckpt", weights_only=True)["state_dict"])
    whole, resumed = results
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def _kill_after_one_epoch(run, module):
    from pytorch_lightning.callbacks import Callback

    from pipeline.stages import training

    class Kill(Callback):
        def on_train_epoch_start(self, trainer, _task):
            if trainer.current_epoch == 1:
                raise RuntimeError("killed")

    original = training.make_trainer

    def killing(run, folder, **options):
        options["callbacks"] = [*options.get("callbacks", []), Kill()]
        return original(run, folder, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "make_trainer", killing)
        with pytest.raises(RuntimeError, match="killed"):
            module.run(run)


def test_the_command_survives_a_real_kill(tmp_path, shapes_root):
    """SIGKILL in the middle of training; the same command ends the run."""
    words = [
        sys.executable, str(ROOT / "scripts" / "run.py"), *TINY, f"data.root={shapes_root}",
        f"run_dir={tmp_path / 'run'}", "classifier.epochs=12", "stage=classifier",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    made = tmp_path / "run" / "classifier"
    deadline = time.monotonic() + 120
    while not list(made.glob("*/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (checkpoint,) = made.glob("*/last.ckpt")

    again = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    assert again.returncode == 0, again.stderr
    assert "going on" in again.stderr
    manifest = read_json(checkpoint.parent / "manifest.json")
    assert manifest["state"] == "done"
    assert manifest["resumed"] is True


def test_a_stage_without_the_one_before_it_names_the_command(make_run):
    with pytest.raises(MissingArtifactError, match=r"run\.py stage=classifier"):
        pseudo_labels.run(make_run())
    with pytest.raises(MissingArtifactError, match=r"run\.py stage=pseudo_labels"):
        segmentation.run(make_run())
    with pytest.raises(MissingArtifactError, match=r"run\.py stage=segmentation"):
        evaluate.run(make_run())


def test_an_image_that_vanishes_is_named_and_the_others_are_done(copied, tmp_path, shapes_root):
    other = tmp_path / "shapes"
    shutil.copytree(shapes_root, other)
    config = replace(copied.config, data={**copied.config.data, "root": str(other)})
    run = type(copied)(config, copied.folder)
    assert run.data_version  # the data are read and checked; now one goes
    victim = run.catalogue.train.items[3]
    maps = saliency.folder(run).path / "maps"
    shutil.rmtree(run.folder / "saliency")
    content = victim.image.read_bytes()
    victim.image.unlink()
    with pytest.raises(StageIncompleteError, match=rf"1 of 10 images failed[\s\S]*{victim.id}"):
        saliency.run(run)
    assert len(list(maps.glob("*.npz"))) == 9

    victim.image.write_bytes(content)
    saliency.run(type(run)(config, run.folder))

    assert len(list(maps.glob("*.npz"))) == 10


def test_a_corrupt_image_or_a_wrong_mask_stops_the_run_before_any_work(
    make_run, tmp_path, shapes_root
):
    other = tmp_path / "bad"
    shutil.copytree(shapes_root, other)
    voc = other / "VOCdevkit" / "VOC2012"
    images = sorted((voc / "JPEGImages").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:500])
    masks = sorted((voc / "SegmentationClass").iterdir())
    labels = read_label_image(masks[1])
    labels[0, 0] = 77
    Image.fromarray(labels).save(masks[1])
    run = make_run(f"data.root={other}")

    with pytest.raises(DataError) as caught:
        chain.run(run)

    assert images[0].name in str(caught.value)
    assert re.search(rf"{masks[1].name}.*77", str(caught.value))
    assert not (run.folder / "classifier").exists()


def test_a_full_disk_stops_with_advice_and_the_same_command_goes_on(copied, monkeypatch):
    shutil.rmtree(pseudo_labels.folder(copied).path)
    real, calls = Path.replace, []

    def full_after_some(source, target):
        calls.append(target)
        if len(calls) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(source, target)

    monkeypatch.setattr(Path, "replace", full_after_some)
    with pytest.raises(StorageError, match="disk is full"):
        pseudo_labels.run(copied)
    monkeypatch.setattr(Path, "replace", real)
    leftovers = list((copied.folder / "pseudo_labels").rglob("*.tmp"))
    assert leftovers == []

    pseudo_labels.run(type(copied)(copied.config, copied.folder))

    assert pseudo_labels.folder(copied).is_done


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

    assert stage.summary["scores"]["protocol"] == "val, scales 1 1.5, flip, CRF"
    exported = stage.path / "results/VOC2012/Segmentation/comp6_test_cls"
    files = {path.stem for path in exported.glob("*.png")}
    assert files == set(run.catalogue.val.ids)
    with Image.open(next(exported.glob("*.png"))) as image:
        assert image.mode == "P"
        assert image.size == (64, 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": {"threshold": 0.9}}, "not in order"),
        ({"evaluate": {"split": "test"}}, "evaluate.split: 'test' is unknown"),
        ({"evaluate": {"classes": ["unicorn"]}}, "evaluate.classes: unicorn"),
        ({"evaluate": {"checkpoint": "nowhere.ckpt"}}, "evaluate.checkpoint: 'nowhere.ckpt'"),
        ({"classifier": {"backbone": "resnet81"}}, "cannot make 'resnet81'"),
        ({"classifier": {"weights": "nowhere.pth"}}, "no file 'nowhere.pth'"),
        ({"classifier": {"last_layer": "backbone.layer9"}}, "has no layer 'backbone.layer9'"),
        ({"classifier": {"optimizer": "lion"}}, "Choose sgd or adamw"),
        ({"segmenter": {"encoder": "resnet81"}}, "encoder='resnet81'"),
        ({"segmenter": {"encoder": "resnet18"}}, "segmenter.weights=classifier does not fit"),
        ({"segmenter": {"labels": "guess"}}, "segmenter.labels: 'guess'"),
        ({"segmenter": {"weights": "nowhere.pth"}}, "no file 'nowhere.pth'"),
        ({"saliency": {"method": {"_target_": "tsgb.TSGB", "kappa": -1}}}, "kappa is -1"),
        ({"saliency": {"method": {"_target_": "tsgb.TSGB", "kapa": 1}}}, "kapa"),
        ({"trainer": {"devices": 2}}, "trainer.devices=2"),
    ],
)
def test_settings_that_cannot_work_fail_before_the_first_stage(make_run, settings, message):
    run = with_settings(make_run(), **settings)

    with pytest.raises(ConfigError, match=re.escape(message)):
        chain.run(run)

    assert not (run.folder / "classifier").exists()


@pytest.mark.parametrize("method", ["grad_cam", "cam"])
def test_other_saliency_methods_need_only_their_yaml(copied, make_run, method):
    run = make_run(f"saliency={method}", folder=copied.folder)

    stage = pseudo_labels.run(run)

    assert stage.summary["images"] == 10


def test_other_weights_under_the_same_name_are_other_weights(make_run, tmp_path):
    import torch

    path = tmp_path / "weights.pth"
    torch.save({"w": torch.zeros(1)}, path)
    run = make_run(f"classifier.weights={path}")
    before = classifier.folder(run).fingerprint

    torch.save({"w": torch.ones(1)}, path)

    assert classifier.folder(run).fingerprint != before


def test_the_code_of_the_chosen_method_counts(finished):
    from pipeline.artifacts import code_version

    code = saliency.folder(finished).parts["code"]

    assert code_version("tsgb.methods.tsgb") in code
    assert code_version("tsgb.methods.cam") not in code


def test_without_refinement_the_refined_mask_is_the_seed(copied):
    config = replace(copied.config, refine={"_target_": "pipeline.masks.refine.NoRefinement"})
    run = type(copied)(config, copied.folder)

    stage = pseudo_labels.run(run)

    scores = stage.summary["scores"]
    assert scores["seeds"] == scores["refined"]


def test_a_deleted_file_is_made_again(copied):
    stage = pseudo_labels.folder(copied)
    gone = pseudo_labels.mask_path(stage, "masks", copied.catalogue.train.items[4])
    expected = gone.read_bytes()
    gone.unlink()

    pseudo_labels.run(copied)

    assert gone.read_bytes() == expected


def test_other_scales_are_scored_beside_the_first_ones(copied):
    first = evaluate.folder(copied)
    other = with_settings(copied, evaluate={"scales": [0.5]})

    second = evaluate.run(other)

    assert first.is_done
    assert first.path != second.path
    assert second.summary["scores"]["protocol"] == "val, scale 0.5, no flip, no CRF"
