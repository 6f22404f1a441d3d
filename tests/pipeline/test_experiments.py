"""Every experiment file runs, as it stands, on tiny data."""

import csv

import pytest

from pipeline.stages import chain
from pipeline.stages.context import Run
from pipeline.stages.launch import plain
from tests.conftest import TINY, composed
from tests.pipeline.test_configs import EXPERIMENTS

SMALL = [word for word in TINY if not word.startswith("data.")]


@pytest.fixture
def drawn(make_run):
    """The folder of the tiny built-in data, drawn."""
    run = make_run()
    assert run.catalogue
    return run.config.data["root"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_on_tiny_data(experiment, drawn, tmp_path):
    words = [
        f"experiment={experiment}", f"data.root={drawn}", "data.train=train",
        f"data.classes={drawn}/classes.txt", "data.train_masks=SegmentationClass",
        "classifier.weights=none", "segmenter.weights=none", "evaluate.classes=[star,ring]",
    ]  # fmt: skip
    run = Run(plain(composed(*SMALL, *words)), tmp_path / "run")

    chain.run(run)

    assert (run.folder / "report" / "index.html").is_file()


def test_your_own_folder_of_images_needs_only_a_csv(drawn, tmp_path):
    from pathlib import Path

    images = Path(drawn) / "VOCdevkit" / "VOC2012" / "JPEGImages"
    with (Path(drawn) / "image_labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    lines = [
        ",".join([row["id"], *(name for name, value in row.items() if value == "1")])
        for row in rows
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    words = ["data=folder", f"data.images={images}", f"data.labels={tmp_path / 'labels.csv'}"]
    run = Run(plain(composed(*SMALL, *words)), tmp_path / "run")

    chain.run(run)

    assert not list((run.folder / "segmentation").glob("ground_truth*"))
    assert dict(run.lines)["pseudo-masks"]
    assert "not scored" in str(run.lines)
