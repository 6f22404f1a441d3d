"""Methods side by side: what is scored, what is kept, what is refused."""

import csv
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.base.config import ClassifierConfig
from pipeline.base.errors import ConfigError, MissingArtifactError, StageIncompleteError
from pipeline.base.files import read_json
from pipeline.commands import saliency_benchmark
from pipeline.data.palette import read_label_image
from pipeline.tasks.classifier import ClassifierTask
from tests.conftest import ROOT, composed
from tests.pipeline.data.test_truth import annotation

QUICK = ("benchmark.steps=2", "benchmark.memory=false")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A classifier of the tiny data that has learned nothing."""
    from pipeline.data.scenes import CLASSES

    torch.manual_seed(0)
    config = ClassifierConfig(
        library="timm", backbone="test_resnet", size=64,
        middle_layer="backbone.layer3", last_layer="backbone.layer4",
    )  # fmt: skip
    task = ClassifierTask.from_config(config, tuple(CLASSES))
    path = tmp_path_factory.mktemp("classifier") / "last.ckpt"
    torch.save({"hyper_parameters": dict(task.hparams), "state_dict": task.state_dict()}, path)
    return path


@pytest.fixture
def make(make_run, checkpoint):
    """A run of the benchmark with that classifier."""

    def make(*words, methods="cam", **options):
        own = () if any("benchmark.model=" in word for word in words) else (checkpoint,)
        given = [f"benchmark.checkpoint={path}" for path in own]
        return make_run(*QUICK, *given, f"benchmark.methods=[{methods}]", *words, **options)

    return make


def results(run, name="classifier_val"):
    folder = run.folder / "saliency_benchmark" / name
    with (folder / "table.csv").open(newline="") as stream:
        return {row["method"]: row for row in csv.DictReader(stream)}


def folder_of(run, method):
    (folder,) = (run.folder / "saliency_benchmark").glob(f"{method}_*-*")
    return folder


def copied_data(run, tmp_path, shapes_root):
    """The same data in a folder that a test may damage, as an override."""
    shutil.copytree(shapes_root, tmp_path / "data")
    return f"data.root={tmp_path / 'data'}"


def write_method(path, text):
    path.write_text(f"# A method of one's own.\nmethod:\n{text}")
    return path


def test_a_table_and_a_page(make):
    run = make("benchmark.memory=true", methods="tsgb,grad_cam,cam")

    saliency_benchmark.run(run)

    rows = results(run)
    assert rows.keys() == {"tsgb", "grad_cam", "cam", "centre"}
    pairs = sum(len(item.labels) for item in run.data.val.items)
    for row in rows.values():
        assert row["images"] == "4"
        assert int(row["pairs"]) == pairs
        for metric in ("pointing_game", "energy_pointing_game", "iou", "insertion", "deletion"):
            assert 0 <= float(row[metric]) <= 1
        assert float(row["max_sensitivity"]) >= 0
        assert float(row["complexity_rise"]) >= -1
        assert float(row["seconds"]) > 0
        assert float(row["iou_oracle"]) >= float(row["iou"]) - 1e-6  # 0.2 is among its choices
    assert float(rows["centre"]["max_sensitivity"]) == 0
    assert float(rows["centre"]["complexity_rise"]) == 0
    assert {name for name, row in rows.items() if row["mean_rank"]} == {"tsgb", "grad_cam", "cam"}
    assert int(rows["cam"]["bytes"]) > int(rows["centre"]["bytes"]) > 0
    folder = run.folder / "saliency_benchmark" / "classifier_val"
    html = (folder / "index.html").read_text()
    images = json.loads(html.partition('id="images">')[2].partition("</script>")[0])["images"]
    assert len(images) == pairs
    methods = [f"saliency: {name}" for name in ("tsgb", "grad_cam", "cam", "centre")]
    for image in images:
        assert list(image["layers"]) == ["photo", *methods, "ground truth"]
        assert all((folder / unquote(path)).is_file() for path in image["layers"].values())
    assert "TSGB(kappa=0.5, layer=backbone.layer3)" in html
    assert "| cam (CAM" in (folder / "table.md").read_text()
    said = dict(run.terminal.lines)
    assert "pointing game" in said["tsgb"]
    assert said["table.csv, table.md"] == folder


def test_methods_that_are_equal_on_this_network_score_the_same(make):
    run = make(methods="grad_cam,cam")

    saliency_benchmark.run(run)

    rows = results(run)
    for metric in ("pointing_game", "energy_pointing_game", "iou", "insertion"):
        assert float(rows["cam"][metric]) == pytest.approx(
            float(rows["grad_cam"][metric]), abs=1e-4
        )


def test_another_method_reuses_the_others_in_any_order(make, capsys):
    saliency_benchmark.run(make(methods="cam,gradient"))
    capsys.readouterr()

    run = make(methods="grad_cam,gradient,cam")
    saliency_benchmark.run(run)

    said = capsys.readouterr().err
    assert said.count("skipped") == 3  # two methods and the centre
    assert len(re.findall(r"grad_cam\S+: starting", said)) == 1
    assert results(run).keys() == {"cam", "gradient", "grad_cam", "centre"}


def test_a_killed_run_scores_only_what_is_missing(make):
    run = make()
    saliency_benchmark.run(run)
    folder = folder_of(run, "cam")
    gone, *kept = sorted((folder / "scores").iterdir())
    when = [path.stat().st_mtime_ns for path in kept]
    gone.unlink()

    saliency_benchmark.run(make())

    assert gone.is_file()
    assert [path.stat().st_mtime_ns for path in kept] == when
    assert read_json(folder / "manifest.json")["resumed"] is True


def test_a_method_that_refuses_the_network_is_a_line_in_the_table(make, tmp_path):
    own = write_method(tmp_path / "own.yaml", "  _target_: tsgb.GradCAM\n  layer: nowhere\n")
    run = make(methods=f"{own},cam")

    saliency_benchmark.run(run)

    rows = results(run)
    assert "refused" in rows["own"]["note"]
    assert "'nowhere'" in rows["own"]["note"]
    assert rows["own"]["iou"] == ""
    assert rows["cam"]["note"] == ""
    assert "refused" in (run.folder / "saliency_benchmark/classifier_val/index.html").read_text()


def test_a_method_of_ones_own_reads_the_layers_of_the_classifier(make, tmp_path):
    text = "  _target_: tsgb.SmoothGrad\n  samples: 2\n  base: {_target_: tsgb.GradCAM, " \
           "_partial_: true, layer: '${classifier.last_layer}'}\n"  # fmt: skip
    own = write_method(tmp_path / "own.yaml", text)
    run = make(methods=str(own))

    saliency_benchmark.run(run)

    assert results(run)["own"]["options"] == (
        "SmoothGrad(samples=2, base=GradCAM(layer=backbone.layer4))"
    )


def test_an_image_that_vanishes_is_named_at_the_end_and_all_others_are_scored(
    make, tmp_path, shapes_root
):
    data = copied_data(make, tmp_path, shapes_root)
    run = make(data, methods="cam,gradient")
    assert run.data_version  # the data are read and checked; now one goes
    victim = run.data.val.items[2]
    content = victim.image.read_bytes()
    victim.image.unlink()

    with pytest.raises(StageIncompleteError) as caught:
        saliency_benchmark.run(run)

    text = str(caught.value)
    assert "benchmark of cam: 1 of 4 images failed" in text
    assert "benchmark of gradient: 1 of 4 images failed" in text
    assert victim.id in text
    assert len(list((folder_of(run, "gradient") / "scores").iterdir())) == 3
    assert "not finished" in results(run)["cam"]["note"]

    victim.image.write_bytes(content)
    saliency_benchmark.run(make(data, methods="cam,gradient"))
    assert results(run)["cam"]["images"] == "4"


def test_ground_truth_changes_scores_and_no_map(make, tmp_path, shapes_root):
    data = copied_data(make, tmp_path, shapes_root)
    first, second = make(), make(data, folder=tmp_path / "other")
    for path in (tmp_path / "data/VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turned.save(path)

    for run in (first, second):
        saliency_benchmark.run(run)

    honest, turned = (results(run)["cam"] for run in (first, second))
    assert honest["iou"] != turned["iou"]
    assert honest["insertion"] == turned["insertion"]
    for path in (folder_of(first, "cam") / "maps").iterdir():
        with np.load(path) as one, np.load(folder_of(second, "cam") / "maps" / path.name) as two:
            assert (one["maps"] == two["maps"]).all()


def test_without_ground_truth_faithfulness_and_cost_are_left(make):
    run = make("benchmark.truth=none")

    saliency_benchmark.run(run)

    row = results(run)["cam"]
    assert "pointing_game" not in row
    assert 0 < float(row["insertion"]) < 1
    text = (run.folder / "saliency_benchmark/classifier_val/table.md").read_text()
    assert "none: localisation was not scored" in text


def test_boxes_of_voc_take_the_place_of_masks(make, tmp_path):
    run = make("benchmark.truth=boxes", f"benchmark.annotations={tmp_path}")
    classes = run.data.classes
    first, second, *_ = run.data.val.items
    for item, box in ((first, (1, 1, 64, 64)), (second, (1, 1, 32, 64))):
        annotation(tmp_path / f"{item.id}.xml", (classes[item.labels[0]], 0, box))

    saliency_benchmark.run(run)

    scores = folder_of(run, "centre") / "scores"
    whole, half = (read_json(scores / f"{i.id}.json")["pairs"] for i in (first, second))
    assert [pair["class"] for pair in whole] == [classes[first.labels[0]]]
    assert whole[0]["energy_pointing_game"] == 1.0  # the box is the whole image
    assert half[0]["energy_pointing_game"] == pytest.approx(0.5, abs=1e-3)
    assert results(run)["cam"]["images"] == "2"


def test_images_and_costly_metrics_can_be_limited(make):
    run = make("benchmark.images=2", "benchmark.faithfulness_images=1", "benchmark.pictures=0")

    saliency_benchmark.run(run)

    row = results(run)["cam"]
    ids = run.data.val.ids
    scored = {path.stem for path in (folder_of(run, "cam") / "scores").iterdir()}
    assert scored == {ids[0], ids[2]}  # evenly spaced
    assert int(row["insertion/pairs"]) == len(run.data.val.items[0].labels)
    html = (run.folder / "saliency_benchmark/classifier_val/index.html").read_text()
    assert 'id="images"' not in html


def test_a_library_network_is_asked_for_its_best_class_of_each_class(make):
    run = make(
        "benchmark.model=timm/test_resnet", "benchmark.model_weights=none",
        "benchmark.class_map={star:[7,10-30],ring:[31-60]}", "benchmark.size=64",
        methods="tsgb,grad_cam",
    )  # fmt: skip

    saliency_benchmark.run(run)

    rows = results(run, "test_resnet_val")
    assert float(rows["tsgb"]["seconds"]) > 0
    scores = [read_json(path) for path in (folder_of(run, "grad_cam") / "scores").iterdir()]
    pairs = [pair for record in scores for pair in record["pairs"]]
    assert {pair["class"] for pair in pairs} == {"star", "ring"}
    for pair in pairs:
        allowed = {7, *range(10, 31)} if pair["class"] == "star" else set(range(31, 61))
        assert pair["target"] in allowed
    text = (run.folder / "saliency_benchmark/test_resnet_val/table.md").read_text()
    assert "the network has no such class" in text


def test_one_classifier_and_one_library_network_share_a_run(make):
    saliency_benchmark.run(make())
    run = make(
        "benchmark.model=timm/test_resnet", "benchmark.model_weights=none",
        "benchmark.class_map={star:[7]}", "benchmark.size=64",
    )  # fmt: skip

    saliency_benchmark.run(run)

    assert results(run, "classifier_val").keys() == results(run, "test_resnet_val").keys()


def test_the_classes_of_voc_in_imagenet():
    from torchvision.models import MobileNet_V2_Weights

    from pipeline.data.voc import VOC_CLASSES
    from pipeline.run.settings import plain

    words = ("stage=saliency_benchmark", "benchmark=imagenet_voc")
    config = plain(composed(*words)).benchmark
    names = MobileNet_V2_Weights.DEFAULT.meta["categories"]
    found = {
        label: [names[k] for k in saliency_benchmark._indices(label, ranges, 1000)]
        for label, ranges in config.class_map.items()
    }

    assert set(VOC_CLASSES) - set(found) == {"person"}
    everything = [name for group in found.values() for name in group]
    assert len(everything) == len(set(everything))
    assert (found["dog"][0], found["dog"][-1], len(found["dog"])) == (
        "Chihuahua", "Mexican hairless", 118,
    )  # fmt: skip
    assert found["cat"] == ["tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"]
    assert (found["bird"][0], found["bird"][-1], len(found["bird"])) == ("cock", "albatross", 59)
    comments = (ROOT / "configs/benchmark/imagenet_voc.yaml").read_text()
    for label in ("aeroplane", "horse", "sheep", "tvmonitor", "sofa", "diningtable", "motorbike"):
        (line,) = re.findall(rf"  {label}: .*# (.*)", comments)
        assert line == ", ".join(found[label])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["benchmark.methods=[grad_kam]"], r"'grad_kam' is neither.*Did you mean grad_cam"),
        (["benchmark.methods=[]"], r"benchmark\.methods: empty"),
        (["benchmark.truth=boxes"], r"no image of val can be scored"),
        (["benchmark.checkpoint=nowhere.ckpt"], r"benchmark\.checkpoint: no file"),
        (["benchmark.model=resnet50"], r"benchmark\.model: 'resnet50' does not name a network"),
        (
            ["benchmark.model=timm/test_resnet", "benchmark.model_weights=none"],
            r"benchmark\.class_map: names no class of shapes",
        ),
        (
            ["benchmark.model=timm/test_resnet", "benchmark.model_weights=none",
             "benchmark.class_map={star:[999-1000]}"],
            r"class_map\.star: .*within the 1000 classes",
        ),
        (
            ["benchmark.model=timm/test_resnet", "benchmark.model_weights=none",
             "benchmark.class_map={star:[dog]}"],
            r"class_map\.star: .*cannot be read",
        ),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_fail_before_any_work(make, words, message):
    run = make(*words)

    with pytest.raises(ConfigError, match=message):
        saliency_benchmark.run(run)

    assert not (run.folder / "saliency_benchmark").exists()


def test_a_yaml_without_a_method_is_named(make, tmp_path):
    (tmp_path / "own.yaml").write_text("size: 3\n")

    with pytest.raises(ConfigError, match=r"own\.yaml cannot be used"):
        saliency_benchmark.run(make(methods=str(tmp_path / "own.yaml")))


def test_a_classifier_of_other_classes_is_refused(make, tmp_path):
    task = ClassifierTask.from_config(
        ClassifierConfig(library="timm", backbone="test_resnet"), ("star", "cat")
    )
    path = tmp_path / "last.ckpt"
    torch.save({"hyper_parameters": dict(task.hparams), "state_dict": task.state_dict()}, path)

    with pytest.raises(ConfigError, match=r"the classifier does not know ring"):
        saliency_benchmark.run(make(f"benchmark.checkpoint={path}"))


def test_without_a_checkpoint_the_classifier_of_the_run_is_needed(make_run):
    with pytest.raises(MissingArtifactError, match="tsgb run stage=classifier"):
        saliency_benchmark.run(make_run())


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "configs/saliency").glob("*.yaml")))
def test_every_method_of_the_configuration_can_be_named(make, name):
    methods = saliency_benchmark.check_settings(make(methods=name))

    assert methods[name]["_target_"].startswith("tsgb.")
    assert "${" not in str(methods[name])


def test_masks_hold_the_classes_of_the_tiny_data(shapes_root):
    """What the tests above rely on: every label has pixels, so that every pair is scored."""
    masks = Path(shapes_root) / "VOCdevkit/VOC2012/SegmentationClass"
    assert all(read_label_image(path).max() > 0 for path in masks.glob("*.png"))
