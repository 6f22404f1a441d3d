"""Every experiment file runs, as it stands, on tiny data."""

import csv
from pathlib import Path

import pytest

from pipeline.commands import compare, report
from pipeline.commands.launch import carry_out
from pipeline.run.run import Run
from pipeline.run.settings import plain
from tests.conftest import TINY, composed
from tests.pipeline.runs import do
from tests.pipeline.test_configs import EXPERIMENTS

SMALL = [word for word in TINY if not word.startswith(("data.", "refine."))]

NOTHING_LEARNED = (
    "classifier.weights=none", "classifier.freeze_until=", "classifier.min_steps=0",
    "segmenter.min_steps=0",
)  # fmt: skip


@pytest.fixture
def drawn(make_run):
    """The folder of the tiny built-in data, drawn."""
    run = make_run()
    assert run.data
    return run.settings.data["root"]


def on_drawn(drawn, *words):
    """The words of a command that put the tiny data, and nothing learned, into an experiment."""
    return [
        *SMALL, f"data.root={drawn}", "data.train=train", f"data.classes={drawn}/classes.txt",
        f"data.labels={drawn}/image_labels.csv", "data.train_masks=SegmentationClass",
        *NOTHING_LEARNED, "segmenter.weights=none", "evaluate.classes=[star,ring]", *words,
    ]  # fmt: skip


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_on_tiny_data(experiment, drawn, tmp_path):
    words = on_drawn(drawn, f"experiment={experiment}")
    run = Run(plain(composed(*words)), tmp_path / "run")

    carry_out(run)
    report.run(run)
    compare.run(run)

    assert (run.folder / "report" / "index.html").is_file()
    (row,) = read_table(run.folder / "compare")
    assert float(row["refined"]) > 0


@pytest.mark.parametrize(
    "classifier", ["efficientnet_lite", "timm classifier.backbone=mobilenetv2_050"]
)
def test_networks_of_timm_run_on_tiny_data(classifier, drawn, tmp_path):
    words = on_drawn(drawn, "experiment=voc_animals", "segmenter=deeplabv3plus_timm")
    run = Run(plain(composed(*words, *f"classifier={classifier}".split())), tmp_path / "run")

    do(run, "all")

    encoder, backbone = run.settings.segmenter.encoder, run.settings.classifier.backbone
    assert encoder == f"tu-{backbone}"
    assert run.settings.saliency.method["layer"] == "backbone.blocks.4"


def read_table(folder):
    with (folder / "table.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_your_own_folder_of_images_needs_only_a_csv(drawn, tmp_path):
    images = Path(drawn) / "VOCdevkit" / "VOC2012" / "JPEGImages"
    with (Path(drawn) / "image_labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    lines = [
        ",".join([row["id"], *(name for name, value in row.items() if value == "1")])
        for row in rows
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    words = ["experiment=photos", "data=folder", f"data.images={images}", *NOTHING_LEARNED]
    labels = f"data.labels={tmp_path / 'labels.csv'}"
    run = Run(plain(composed(*SMALL, *words, labels)), tmp_path / "run")

    do(run, "all")

    assert not list((run.folder / "segmentation").glob("ground_truth*"))
    assert dict(run.terminal.lines)["pseudo-masks"]
    assert "not scored" in str(run.terminal.lines)
