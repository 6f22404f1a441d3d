"""One class, object or not: every stage, with images that do not show it."""

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.commands.launch import plain
from pipeline.data.palette import read_label_image
from pipeline.run.run import Run
from pipeline.stages.label_images import mask_path
from tests.conftest import TINY, composed
from tests.pipeline.runs import do

SIDE = 64


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Twelve photos of noise, every other one with a bright disc; its masks are 0 and 255."""
    folder = tmp_path_factory.mktemp("parts")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    lines = ["image_name,defect"]
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for k in range(12):
        disc = (rows - rng.integers(16, 48)) ** 2 + (columns - rng.integers(16, 48)) ** 2 < 150
        disc &= k % 2 == 0
        noise = rng.integers(0, 90, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(np.where(disc[..., None], noise + 150, noise)).save(
            folder / "images" / f"part{k}.png"
        )
        Image.fromarray(np.where(disc, 255, 0).astype(np.uint8)).save(
            folder / "masks" / f"part{k}.PNG"
        )
        lines.append(f"part{k}.png,{'no' if k % 2 else 'yes'}")
    (folder / "labels.csv").write_text("\n".join(lines))
    (folder / "val.txt").write_text("part2\npart3\npart5\npart8\n")
    return folder


def run_on(parts, folder, *words):
    settings = (word for word in TINY if not word.startswith("data."))
    return Run(
        plain(
            composed(
                *settings, "data=folder", f"data.images={parts}/images",
                f"data.val={parts}/val.txt", f"data.labels={parts}/labels.csv",
                f"data.masks={parts}/masks", *words,
            )
        ),
        folder,
    )  # fmt: skip


def test_every_stage_runs_with_one_class_and_negatives(parts, tmp_path, capsys):
    run = run_on(parts, tmp_path / "run", "data.object_value=255")

    do(run, "all")

    summary = run.stage("classifier").summary
    assert summary["AP"].keys() == {"defect"}
    assert 0 <= summary["AP"]["defect"] <= 1
    scores = run.stage("evaluate").summary["scores"]
    assert scores["images"] == 4
    for item in run.data.train.items:
        values = set(np.unique(read_label_image(mask_path(
            run.stage("pseudo_labels").path, "masks", item))))  # fmt: skip
        assert values <= ({0, 1, 255} if item.labels else {0})
    assert (tmp_path / "run" / "report" / "index.html").is_file()
    said = capsys.readouterr().err
    assert "defect" in said
    assert "experiment=photos" in said  # the built-in recipe is a toy


def test_an_object_of_255_is_refused_before_any_work(parts, tmp_path):
    run = run_on(parts, tmp_path / "run")

    with pytest.raises(DataError, match=r"set data\.object_value=255"):
        do(run, "all")
    assert not list((tmp_path / "run").rglob("manifest.json"))


def test_the_twin_learns_the_object_and_not_void(parts, tmp_path):
    run = run_on(parts, tmp_path / "run", "data.object_value=255")

    truth = [item for item in run.twin.data.train.items if item.labels]

    assert run.has_twin
    assert all(item.object_value == 255 for item in truth)
    assert read_json(tmp_path / "run" / "data.json")["notes"] == []
