"""The page, and the stage that fills it from a run's folder."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import replace
from html import unescape
from urllib.parse import unquote

import numpy as np
import pytest

from pipeline.base.config import Plane, RunConfig
from pipeline.base.files import write_bytes
from pipeline.commands import report as report_stage
from pipeline.data.catalogue import Split
from pipeline.data.palette import encode_label_image, read_label_image
from pipeline.report import page as report
from pipeline.report import score_tables as scores
from pipeline.report.charts import loss_chart
from pipeline.report.gallery import Gallery, Shown
from pipeline.report.tables import Cell, Column, Table
from pipeline.run.run import Run
from pipeline.scoring import ConfusionMatrix
from pipeline.stages.label_images import KINDS, mask_path
from pipeline.stages.maps import map_path
from tests.pipeline.runs import again

SCORES = {
    "mIoU": 0.6,
    "IoU": {"background": 0.9, "cat": 0.3, "dog": None},
    "coverage": 0.8,
    "void": "excluded",
}


def outside_addresses(html):
    found = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", html)
    return [address for address in found if not address.startswith(("data:", "#"))]


def test_an_empty_page_says_what_is_missing():
    table = Table("", [Column("to do", "text")], [[Cell("stage=classifier", tone="code")]])
    sections = [report.Section("Stages", [table]), report.Section("Training", [])]

    html = report.render(report.Page("shapes", "runs/x", "today", sections))

    assert "<code>stage=classifier</code>" in html
    assert "Training" not in html  # as there is nothing in it


def test_text_is_escaped():
    evil = "<script>alert(1)</script>"
    image = Shown(evil, evil, [evil], {evil: "data:,"}, {evil: 0.5}, evil, evil)
    blocks = [
        report.Numbers([report.Headline(evil, evil, evil)]),
        Table(evil, [Column(evil, "text", evil)], [[Cell(evil, evil, [evil], evil)]], hint=evil),
        *(report.Text(evil, tone) for tone in ("plain", "hint", "remark")),
        report.Facts({evil: evil}), report.Commands({evil: evil}), report.Code(evil),
        report.Matrix([evil], [[0.5]]), report.Histogram(evil, [1]),
        report.Charts([loss_chart(evil, [(0, 1.0), (1, 0.5)])]),
        report.Fold(evil, [report.Text(evil)]),
        report.Pictures(Gallery([image], evil, evil), [report.Swatch(evil, None)]),
    ]  # fmt: skip
    page = report.Page(evil, evil, evil, [report.Section(evil, blocks, evil)])

    html = report.render(page)

    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html


def test_iou_table_names_both_means():
    table = scores.iou_table({"seed": SCORES}, ["cat", "dog"], ["cat"])

    assert [column.title for column in table.columns] == ["class", "seed"]
    assert table.rows == [["background", 0.9], ["cat", 0.3], ["dog", None]]
    assert table.totals[0] == ["mean over the classes that occur", 0.6]
    assert table.total_cells[1][1].text == "2"  # classes that occur
    assert table.totals[2] == ["mean over background + cat", pytest.approx(0.6)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            SCORES,
            "predicted void excluded: 80.0 % of pixels scored; "
            "mean over 2 of 3 classes; neither in the ground truth nor predicted: dog",
        ),
        (
            {"void": "background", "IoU": {"background": 0.5}},
            "predicted void counts as background; mean over 1 class",
        ),
    ],
)
def test_counted_in_words(found, expected):
    assert scores.counted_in_words(found) == expected


def test_a_confusion_matrix_has_shares_of_each_true_label():
    counts = np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])

    _, matrix, table = scores.confusion(counts, ["cat", "dog", "cow"])

    assert matrix.names == ["background", "cat"]  # the others occur nowhere
    assert matrix.shares == [[0.75, 0.25], [0.25, 0.75]]
    assert table.rows == [
        ["background", pytest.approx(6 / 9), pytest.approx(6 / 7), 0.75],
        ["cat", 0.5, 0.6, 0.75],
    ]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.run.context.code_version", lambda module: module)
    config = RunConfig()
    config.data = {
        "_target_": "pipeline.data.shapes.load_shapes",
        "root": str(tmp_path / "shapes"), "train": 16, "val": 4, "size": 64,
    }  # fmt: skip
    config.saliency.method = {"_target_": "tsgb.TSGB", "kappa": 0.5}
    config.refine = {"_target_": "pipeline.masks.refine.NoRefinement"}
    config.trainer.progress = False
    return Run(config, tmp_path / "run")


def page_of(run):
    fresh = again(run)  # as the next command would see it
    fresh.data = run.data
    report_stage.run(fresh)
    return (run.folder / "report" / "index.html").read_text(encoding="utf-8")


def leave_classifier(run):
    stage = run.stage("classifier")
    stage.begin()
    (stage.path / "logs").mkdir()
    (stage.path / "logs" / "metrics.csv").write_text("epoch,loss,step\n0,0.7,0\n0,,\n1,0.5,10\n")
    classes = run.data.classes
    average = {**dict.fromkeys(classes, 0.5), classes[0]: float("nan")}
    counts = dict.fromkeys(classes, 2)
    summary = {"mAP": 0.731, "AP": average, "images": counts, "steps": 11}
    stage.finish({**summary, "held_out": len(run.data.val.items)})


def leave_masks(run, empty=()):
    """Finish the masks of a run: the ground truth, and nothing for the images named."""
    maps, made, classes = run.stage("saliency"), run.stage("pseudo_labels"), run.data.classes
    maps.begin()
    made.begin()
    matrix = ConfusionMatrix(len(classes) + 1, void="excluded")
    for item in run.data.train.items:
        map_path(maps.path, item).parent.mkdir(exist_ok=True)
        np.savez(map_path(maps.path, item), maps=np.ones((len(item.labels), 16, 16), "f2"))
        truth = read_label_image(item.mask)
        for kind in KINDS:
            mask = np.zeros_like(truth) if item.id in empty and kind == "refined" else truth
            write_bytes(mask_path(made.path, kind, item), encode_label_image(mask))
        matrix.update(truth, truth)
    maps.finish({})
    scores = dict.fromkeys(KINDS, matrix.as_dict(classes))
    oracle = {"threshold": 0.26, "mIoU": 0.777}
    made.finish({"scores": {**scores, "oracle": oracle, "split": "train", "images": 16}})


def leave_relabelled(run):
    stage, matrix = run.stage("relabel"), ConfusionMatrix(len(run.data.classes) + 1)
    stage.begin()
    for item in run.data.train.items:
        truth = read_label_image(item.mask)
        path = mask_path(stage.path, "masks", item)
        write_bytes(path, encode_label_image(truth))
        matrix.update(truth, truth)
    scores = dict.fromkeys(KINDS, matrix.as_dict(run.data.classes))
    stage.finish({"scores": {**scores, "split": "train", "images": 16}})


def leave_segmenter(run, miou, **iou):
    segmenter, scored = run.stage("segmentation"), run.stage("evaluate")
    segmenter.begin()
    segmenter.finish({"steps": 500})
    scored.begin()
    classes = run.data.classes
    matrix = ConfusionMatrix(len(classes) + 1)
    for item in run.data.val.items:
        truth = read_label_image(item.mask)
        matrix.update(truth, truth)
        write_bytes(scored.path / "predictions" / f"{item.id}.png", encode_label_image(truth))
    scores = {**matrix.as_dict(classes), "mIoU": miou, "protocol": "val, scale 1, not refined"}
    scores["IoU"] |= iou
    scored.finish({"scores": scores})


def test_the_page_of_a_run_that_was_killed_at_once(run):
    run.stage("classifier").begin()

    html = page_of(run)

    assert html.count(">missing<") == 6
    assert html.count(">not finished<") == 1
    assert "stage=segmentation segmenter.labels=ground_truth" in html


def test_the_page_of_a_whole_run(run):
    leave_classifier(run)
    leave_masks(run)
    leave_segmenter(run, 0.612)
    leave_segmenter(run.twin, 0.765)

    html = page_of(run)

    assert outside_addresses(html) == []
    assert f"{len(run.data.val.items)} images of val, mean average precision" in html
    for text in ("61.2 %", "76.5 %", "80.0 %", "73.1 %", "of full supervision", "77.7",
                 "oracle: threshold chosen with the masks"):  # fmt: skip
        assert text in html
    assert html.count(">done<") == 7
    train, val = images_of(html, "train"), images_of(html, "val")
    assert [image["id"] for image in train] == list(run.data.train.ids)
    networks = ["segmenter", "supervised twin", "ground truth", "errors (segmenter)"]
    assert list(val[0]["layers"]) == ["photo", *networks]
    maps = [f"map: {name}" for name in train[0]["classes"]]
    masks = ["training mask", "refined mask", "seed", "ground truth", "errors (refined mask)"]
    assert list(train[0]["layers"]) == ["photo", *masks, *maps]
    assert all(image["numbers"]["mIoU"] == 1 and image["kind"] == "good" for image in train + val)
    assert len(html) < 2**20


def images_of(html, split):
    """What the page says of the images of a split."""
    data = html.partition('id="images">')[2].partition("</script>")[0]
    return [image for image in json.loads(data)["images"] if image["split"] == split]


def test_pictures_lie_beside_the_page_and_follow_their_sources(run):
    leave_masks(run)
    folder, item = run.folder / "report", run.data.train.items[0]
    path = mask_path(run.stage("pseudo_labels").path, "refined", item)
    layers = images_of(page_of(run), "train")[0]["layers"]
    files = {caption: folder / unquote(address) for caption, address in layers.items()}
    before = {caption: path.stat().st_mtime_ns for caption, path in files.items()}
    (folder / "pictures" / "gone.png").write_bytes(b"")

    os.utime(path, ns=(time.time_ns() + 10**9,) * 2)
    page_of(run)

    after = {caption: path.stat().st_mtime_ns for caption, path in files.items()}
    assert [caption for caption in files if before[caption] != after[caption]] == [
        "refined mask", "errors (refined mask)"
    ]  # fmt: skip
    assert not (folder / "pictures" / "gone.png").exists()


def test_a_photo_that_cannot_be_read_any_more_is_shown_as_such(run):
    leave_masks(run)
    photo = run.data.train.items[0].image
    photo.write_bytes(bytes(photo.stat().st_size))  # as a failing disk leaves it

    damaged, whole, *_ = images_of(page_of(run), "train")

    assert damaged["note"] == "The image cannot be read."
    assert "refined mask" in damaged["layers"]
    assert whole["note"] == ""


def test_names_of_classes_are_no_paths(run):
    names = tuple(f"../../../{name}" for name in run.data.classes)
    run.data = replace(run.data, classes=names)
    leave_masks(run)

    layers = images_of(page_of(run), "train")[0]["layers"]

    assert any("../" in caption for caption in layers)
    assert not any(".." in unquote(address) for address in layers.values())


def test_images_can_be_sorted_by_what_went_wrong(run):
    leave_masks(run, empty=run.data.train.ids[:1])

    image, *others = images_of(page_of(run), "train")

    assert (image["kind"], image["numbers"]["covered by objects"]) == ("missed", 0)
    assert image["numbers"]["mIoU"] < 0.5 < image["numbers"]["disagreement"]
    assert {other["kind"] for other in others} == {"good"}


def test_what_is_known_without_ground_truth(run):
    leave_classifier(run)
    leave_segmenter(run, 0.612)
    first, second, *others = run.data.classes
    counts = {first: {"named": 3, "predicted": 4, "both": 2}}
    counts |= {second: {"named": 1, "predicted": 0, "both": 0}}
    counts |= {name: {"named": 0, "predicted": 0, "both": 0} for name in others}
    run.stage("evaluate").amend(agreement=counts)

    html = page_of(run)

    known = html[html.index("Known without ground truth") :]
    assert "classifier: too short a training</dt><dd>11 steps" in known
    assert "segmenter: too short" not in known
    assert "segmenter: named classes that it predicts</dt><dd>2 of 4" in known
    assert "segmenter: predicted classes that are named</dt><dd>2 of 4" in known
    assert f"<dd>{second}, although labels name them" in known
    assert f"tsgb review {run.folder}" in html


def test_headlines_are_means_over_the_chosen_classes(run):
    first = run.data.classes[0]
    run.settings.evaluate.classes = [first]
    leave_masks(run)
    leave_segmenter(run, 0.612, background=0.8, **{first: 0.7})
    leave_segmenter(run.twin, 0.765, background=1.0, **{first: 0.9})

    html = page_of(run)
    headlines = html[: html.index("<table")]

    for text in ("75.0 %", "95.0 %", "78.9 %", "(61.2 % over ", "; mean over 2 classes", "100.0 %"):
        assert text in headlines
    assert headlines.count("background + 1 chosen classes") == 3  # networks and masks
    assert f"mean over background + {first}" in html


def test_all_that_shaped_a_seed_stands_beside_its_threshold(run):
    leave_masks(run)
    maps = "of the maximum of maps to the power 0.5"
    html = unescape(page_of(run))
    assert f"train, constant background at 0.5 {maps}, fixed beforehand" in html

    run = again(run)
    run.settings.seed = replace(run.settings.seed, plane=Plane.power)
    leave_masks(run)

    html = unescape(page_of(run))
    plane = "background (1 - strongest map)^alpha, tied"
    assert f"train, {plane} at 0.5 {maps}, fixed beforehand" in html
    assert f"train, {plane} at 0.26 {maps}" in html  # the oracle
    assert f"{plane}: object from 0.5, background below 0.4 {maps}" in html
    assert f"{plane} at 0.5, for training masks at 0.5 and 0.4 {maps}" in html  # also unscored


def test_relabelled_masks_have_their_lines_and_pictures(run):
    leave_masks(run)
    leave_segmenter(run, 0.612)
    leave_relabelled(run)
    html = page_of(run)

    names = (
        "seed", "training mask", "seed, relabelled", "refined mask, relabelled",
        "training mask, relabelled", "segmenter",
    )  # fmt: skip
    places = [html.index(f'data-value="{name}">') for name in names]
    assert places == sorted(places)
    assert "training mask, relabelled" in images_of(html, "train")[0]["layers"]


def test_the_page_without_any_ground_truth(run):
    full = run.data
    blind = replace(
        full, train=without_masks(full.train), scored=Split("none", ()), val=without_masks(full.val)
    )
    leave_classifier(run)
    leave_masks(run, empty=run.data.train.ids[3:4])
    run.data = blind
    run.stage("pseudo_labels").amend(scores=None)

    html = page_of(run)

    assert "No ground truth" in html
    images = images_of(html, "train")
    assert len(images) == len(run.data.train.items)
    assert all("training mask" in i["layers"] and "ground truth" not in i["layers"] for i in images)
    assert all("mIoU" not in i["numbers"] for i in images)
    assert [images[0]["id"], images[0]["kind"]] == [full.train.ids[3], "empty"]  # first to look at
    assert {i["kind"] for i in images[1:]} == {"as named"}
    assert "mIoU: over" not in html
    assert "1 - mean IoU of seed and refined mask." in html
    assert "Error, by the image label alone" in html
    assert "segmentation_twin" not in html


def without_masks(split):
    return Split(split.name, tuple(replace(item, mask=None) for item in split.items))


def test_a_stage_made_with_other_settings_is_not_shown(run):
    leave_classifier(run)
    run.settings.classifier.epochs += 1

    html = page_of(run)

    assert html.count(">missing<") == 7
    assert "73.1 %" not in html


def test_resumed_and_killed_stages_are_named_as_such(run):
    stage = run.stage("classifier")
    stage.begin()
    assert "not finished" in page_of(run)

    stage.begin()
    stage.finish({"mAP": 0.5, "AP": {}, "steps": 500})
    assert "in several sessions" in page_of(run)
