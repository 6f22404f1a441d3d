"""Every experiment file runs, as it stands, on tiny data."""

import csv
from pathlib import Path

import pytest
import torch
import torchvision
from hydra.utils import get_method

from pipeline.stages import chain, compare, report
from pipeline.stages.context import Run
from pipeline.stages.launch import plain
from tests.conftest import TINY, composed
from tests.pipeline.stages.runs import command
from tests.pipeline.test_configs import CHANGED, EXPERIMENTS, GROUPS, LEFT_OUT

SMALL = [word for word in TINY if not word.startswith(("data.", "refine."))]

NOTHING_LEARNED = ("classifier.weights=none", "classifier.freeze_until=")


@pytest.fixture
def drawn(make_run):
    """The folder of the tiny built-in data, drawn."""
    run = make_run()
    assert run.catalogue
    return run.config.data["root"]


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

    get_method(run.config.stage["_target_"])(run)
    report.run(run)
    compare.run(run)

    assert (run.folder / "report" / "index.html").is_file()
    (row,) = read_table(run.folder / "compare")
    assert float(row["refined"]) > 0


def read_table(folder):
    with (folder / "table.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_ablation_is_one_command_and_one_table(drawn, tmp_path):
    folder = tmp_path / "run"
    words = on_drawn(drawn, "experiment=saliency_ablation", f"run_dir={folder}")
    fewer = {
        "saliency": "cam,gradual_extrapolation,gradual_extrapolation/tsgb",
        "refine": "none,crf",
        "random_seed": "0",
    }

    limits = [f"hydra.sweeper.params.{key}='{values}'" for key, values in fewer.items()]
    swept = command("-m", *words, *limits)
    compared = command(*words, "stage=compare")

    assert swept.returncode == 0, swept.stderr
    assert compared.returncode == 0, compared.stderr
    rows = read_table(folder / "compare")
    assert {row["saliency.method"] for row in rows} == {
        "CAM", "GradualExtrapolation(GradCAM)", "GradualExtrapolation(TSGB)",
    }  # fmt: skip
    assert len(rows) == 6
    assert not (folder / "segmentation").exists()
    made = {stage: len(list((folder / stage).iterdir())) for stage in ("classifier", "saliency")}
    assert made == {"classifier": 1, "saliency": 3}
    assert len(list((folder / "pseudo_labels").iterdir())) == 6
    assert "mean over background, star, ring" in (folder / "compare" / "table.md").read_text()


def test_each_part_is_left_out_of_the_chain_in_one_command(drawn, tmp_path):
    folder = tmp_path / "run"
    words = on_drawn(drawn, "experiment=chain_ablation", "saliency.images=2", f"run_dir={folder}")

    swept = command("-m", *words, "hydra.sweeper.params.random_seed=0")
    compared = command(*words, "stage=compare")

    assert swept.returncode == 0, swept.stderr
    assert compared.returncode == 0, compared.stderr
    rows, maps = read_table(folder / "compare"), list((folder / "saliency").iterdir())
    assert len(rows) == len(LEFT_OUT)
    assert len(maps) == 5  # TSGB, CAM, their product, one scale, no mirror
    assert {row["refine"] for row in rows} == {
        "Chain(FeatureWalk, CRFRefinement)", "CRFRefinement", "FeatureWalk",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("group", "stage", "fewer", "told"),
    [
        (
            "classifier", "classifier", ["saliency.images=2"],
            ["output_stride=16", "consistency=1.0", "freeze_batchnorm=false"],
        ),
        (
            "segmenter", "segmentation", [],
            ["loss=balanced", "freeze_batchnorm=true", "decoder_atrous_rates=[3, 6, 9]"],
        ),
        (
            "recipe", "pseudo_labels", ["saliency.images=2"],
            ["kappa=0.0", "saturation=plain", "layer=backbone.10", "threshold=0.4", "plane=power"],
        ),
    ],
)  # fmt: skip
def test_one_thing_changed_at_a_time_is_one_table(group, stage, fewer, told, drawn, tmp_path):
    names = ["full", *(name for name in CHANGED if name.partition("/")[0] in GROUPS[group])]
    own = {"classifier/larger_crops": "size", "classifier/twice_as_long": "epochs"}
    weights = tmp_path / "weights.pth"  # or no layer may be frozen
    torch.save(torchvision.models.mobilenet_v2().state_dict(), weights)
    for name in names:
        words = on_drawn(drawn, f"experiment={group}_ablation", f"ablation={name}", *fewer)
        fixed = f"classifier.{own.get(name)}="  # by the words that make it tiny
        kept = [w for w in words if not w.startswith(fixed) and w not in NOTHING_LEARNED]
        kept.append(f"classifier.weights={weights}")
        run = Run(plain(composed(*kept)), tmp_path / "run")
        get_method(run.config.stage["_target_"])(run)
    compare.run(run)

    rows = read_table(run.folder / "compare")
    assert len(rows) == len(names)
    assert sum(row["difference"] == "" for row in rows) == 1  # the reference
    relabelled = [row["segmenter.rounds"] for row in rows if row.get("relabelled")]
    assert relabelled == (["2"] if group == "segmenter" else [])
    assert len(list((run.folder / stage).iterdir())) == len(names)
    text = (run.folder / "compare" / "table.md").read_text()
    assert all(f"| {words} |" in text for words in ("reference", *told))


def test_every_refinement_of_one_seed_is_a_line_of_one_table(drawn, tmp_path):
    names = ["full", "without_walk", *(name for name in CHANGED if name.startswith("refine"))]
    for name in names:
        words = on_drawn(drawn, "experiment=refine_ablation", f"ablation={name}")
        run = Run(plain(composed(*words, "saliency.images=2")), tmp_path / "run")
        get_method(run.config.stage["_target_"])(run)
    compare.run(run)

    rows = read_table(run.folder / "compare")
    assert len(rows) == len(names)
    assert len({row["seed"] for row in rows}) == 1
    assert len(list((run.folder / "saliency").iterdir())) == 1
    assert (
        "| Chain(FeatureWalk, CRFRefinement) |" in (run.folder / "compare" / "table.md").read_text()
    )


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

    chain.run(run)

    assert not list((run.folder / "segmentation").glob("ground_truth*"))
    assert dict(run.lines)["pseudo-masks"]
    assert "not scored" in str(run.lines)
