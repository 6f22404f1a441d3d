"""Runs side by side: real ones on tiny data, and manifests written by hand."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from hydra.errors import ConfigCompositionException

from pipeline.base.errors import ConfigError, MissingArtifactError
from pipeline.commands import compare
from pipeline.run.building import build_data
from pipeline.run.manifest import MANIFEST
from pipeline.run.run import Run
from pipeline.run.settings import plain
from tests.conftest import TINY, composed
from tests.pipeline.run.manifests import MASKS, make, make_masks, make_score, make_segmenter
from tests.pipeline.runs import do, with_settings

SWEEP = [(m, r, s) for m in ("tsgb", "cam") for r in ("none", "crf") for s in (0, 1)]

ITERATIONS = "refine.iterations=2"


@pytest.fixture(scope="module")
def swept(tmp_path_factory, shapes_root, finished):
    """Two methods, with and without CRF, two random seeds; a segmenter and its twin for one."""
    folder = tmp_path_factory.mktemp("swept") / "run"
    shutil.copytree(finished.folder, folder)  # TSGB and CRF, random seed 0, to the end

    def run_of(*words):
        tiny = [word for word in TINY if word != ITERATIONS]
        tiny += [] if "refine=none" in words else [ITERATIONS]  # which `none` has not
        values = (*tiny, f"data.root={shapes_root}", *words)
        return Run(plain(composed(*values)), folder)

    for method, refine, random_seed in SWEEP:
        run = run_of(f"saliency={method}", f"refine={refine}", f"random_seed={random_seed}")
        do(run, "classifier")
        do(run, "pseudo_labels")
    run = run_of("stage=compare")
    compare.run(run)
    return run


def table(folder, name="table.csv"):
    with (folder / "compare" / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def compared(folder, make_run, *words):
    """A comparison of hand-written manifests in ``folder``, which no data are needed for."""
    run = make_run("compare.pictures=0", *words, folder=folder)
    compare.run(run)
    return run


def scored(seed, oracle=0.9, refined=None):
    """A summary of masks with these scores."""
    scores = json.loads(json.dumps(MASKS))
    scores["scores"]["seeds"]["mIoU"] = seed
    scores["scores"]["refined"]["mIoU"] = seed if refined is None else refined
    scores["scores"]["oracle"]["mIoU"] = oracle
    return scores


def test_masks_of_other_images_have_a_table_of_their_own_without_ground_truth_too(
    tmp_path, make_run
):
    blind = {**MASKS, "scores": None}
    make_masks(tmp_path, summary=blind)
    make_masks(tmp_path, summary=blind, split="val")

    compared(tmp_path, make_run)

    assert [row["rank"] for row in table(tmp_path)] == ["1", "1"]  # the first of its table
    assert (tmp_path / "compare" / "table.md").read_text("utf-8").count("no ground truth") == 2


def test_a_sweep_becomes_a_line_for_each_choice_with_mean_and_spread(swept):
    rows = table(swept.folder)

    assert {(row["saliency"], row["refine"]) for row in rows} == {
        (m, r) for m in ("tsgb", "cam") for r in ("none", "crf")
    }
    assert {row["random seeds"] for row in rows} == {"0 1"}
    for row in rows:
        assert (row["refined/runs"], row["refined/images"]) == ("2", "10")
        assert float(row["seconds/total"]) > 0
    assert not {"saliency.method.layer", "refine.iterations", "random_seed"} & rows[0].keys()


def test_the_numbers_are_those_of_the_stages(swept):
    runs = table(swept.folder, "runs.csv")

    assert len(runs) == len(SWEEP)
    for row in runs:
        with (Path(row["folder"]) / MANIFEST).open() as stream:
            manifest = json.load(stream)
        assert manifest["parts"]["random_seed"] == int(row["random_seed"])
        scores = manifest["summary"]["scores"]
        assert float(row["seed"]) == scores["seeds"]["mIoU"]
        assert float(row["refined"]) == scores["refined"]["mIoU"]
        assert float(row["oracle"]) == scores["oracle"]["mIoU"]
    by_row = {}
    for row in runs:
        by_row.setdefault(row["row"], []).append(float(row["refined"]))
    for row in table(swept.folder):
        low, high = sorted(by_row[row["row"]])
        assert float(row["refined"]) == pytest.approx((low + high) / 2)
        assert float(row["refined/deviation"]) == pytest.approx((high - low) / 2**0.5)


def test_the_best_refined_masks_come_first_since_only_one_choice_has_a_segmenter(swept):
    rows = table(swept.folder)
    values = [float(row["refined"]) for row in rows]

    assert values == sorted(values, reverse=True)
    segmenter = next(name for name in rows[0] if re.fullmatch(r"segmenter\|val.*", name))
    assert [bool(row[segmenter]) for row in rows].count(True) == 1
    (row,) = (row for row in rows if row[segmenter])
    assert (row["saliency"], row["refine"], row[f"{segmenter}/runs"]) == ("tsgb", "crf", "1")
    assert float(row[segmenter.replace("segmenter", "fraction")]) == pytest.approx(
        float(row[segmenter]) / float(row[segmenter.replace("segmenter", "twin")])
    )


def shown_in(html):
    """What the gallery of a page knows."""
    return json.loads(html.partition('id="images">')[2].partition("</script>")[0])


def test_no_page_or_file_names_a_class_of_python(swept):
    for name in ("index.html", "table.md", "table.csv", "classes.csv"):
        text = (swept.folder / "compare" / name).read_text()
        text = re.sub(r"pseudo_labels/\w+", "", text)  # names of folders
        assert not re.search("TSGB|CRFRefinement|NoRefinement", text), name


def test_the_page_loads_nothing_from_elsewhere_and_counts_images_and_seeds(swept):
    html = (swept.folder / "compare" / "index.html").read_text()

    addresses = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", html)
    assert all(address.startswith("#") for address in addresses)
    assert "1 of 2 random seeds" in html  # of the segmenter
    assert "not refined; 4 images" in html
    assert "threshold fixed beforehand; 10 images" in html


def test_the_page_names_the_commands_that_go_on_with_the_best_network(swept, tmp_path, make_run):
    html = (swept.folder / "compare" / "index.html").read_text()
    (network,) = swept.folder.glob("segmentation/pseudo-*")
    assert f"tsgb predict {network} photos/ --out predictions/" in html
    assert f"tsgb review {network}" in html

    make_masks(tmp_path)  # and no network
    compared(tmp_path, make_run)
    assert "What next" not in (tmp_path / "compare" / "index.html").read_text()


def test_every_image_is_shown_under_each_run(swept):
    folder = swept.folder / "compare"
    page = shown_in((folder / "index.html").read_text())
    images = {image["id"]: image for image in page["images"]}
    runs = {f"saliency={m}, refine={r}" for m in ("tsgb", "cam") for r in ("none", "crf")}

    assert set(images) == {*swept.data.train.ids, *swept.data.val.ids}
    for name in swept.data.train.ids:
        layers = images[name]["layers"]
        assert set(layers) == {
            "photo", "ground truth", *(f"refined mask: {run}" for run in runs),
            *(f"training mask: {run}" for run in runs),
        }  # fmt: skip
        assert list(layers)[1].startswith("refined mask: ")
        assert all((folder / unquote(address)).is_file() for address in layers.values())
    held_out = images[swept.data.val.ids[0]]  # which one run has predicted
    assert list(held_out["layers"]) == [
        "photo", "prediction: saliency=tsgb, refine=crf", "ground truth",
    ]  # fmt: skip
    assert held_out["numbers"]["difference in mIoU"] is None


def test_images_are_sorted_by_how_far_the_runs_are_apart(swept):
    page = shown_in((swept.folder / "compare" / "index.html").read_text())

    assert (page["order"], page["falling"]) == ("difference in mIoU", True)
    for image in page["images"]:
        scores = [v for name, v in image["numbers"].items() if name.startswith("mIoU: ")]
        if len(scores) == 4:
            apart = image["numbers"]["difference in mIoU"]
            assert apart == pytest.approx(max(scores) - min(scores))
    assert any(image["numbers"]["difference"] for image in page["images"])


def test_without_ground_truth_images_are_sorted_by_disagreement(swept, tmp_path, monkeypatch):
    def blind(settings):
        return build_data(settings).without_truth()

    monkeypatch.setattr("pipeline.commands.compared.build_data", blind)
    run = Run(replace(swept.settings, compare=replace(
        swept.settings.compare, runs=[str(swept.folder)]
    )), tmp_path)  # fmt: skip
    compare.run(run)

    page = shown_in((tmp_path / "compare" / "index.html").read_text())
    assert page["order"] == "difference"
    assert all("ground truth" not in image["layers"] for image in page["images"])
    assert all("difference in mIoU" not in image["numbers"] for image in page["images"])


def test_a_picture_is_not_that_of_another_run_when_the_order_changes(swept, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(swept.folder, other)
    run = Run(replace(swept.settings, compare=replace(swept.settings.compare, by="seconds")), other)

    def pictures():
        page = shown_in((other / "compare" / "index.html").read_text())
        return {
            (image["id"], caption): (other / "compare" / unquote(address)).read_bytes()
            for image in page["images"]
            for caption, address in image["layers"].items()
        }

    before = pictures()
    compare.run(run)

    assert pictures() == before


def test_the_terminal_and_the_log_have_the_table_and_where_the_files_are(swept, capsys, caplog):
    again = Run(swept.settings, swept.folder)
    again.terminal.console.width = 80
    caplog.set_level("INFO", "pipeline")

    compare.run(again)

    shown = capsys.readouterr().err
    assert "best refined mIoU first" in shown
    assert len(re.findall(r"saliency=\w+, refine=\w+ \| \d \|", caplog.text)) == 4
    assert re.search(r"choice\s+rank\s+AP\s+seed\s+oracle\s+refined\s+masks\s+segmenter", shown)
    for row in table(swept.folder):
        assert f"{100 * float(row['refined']):.1f}" in shown
    assert "…" not in shown
    lines = dict(again.terminal.lines)
    assert lines["look at"].endswith("compare/index.html")
    assert (lines["tables; runs.csv has every single run"] / "runs.csv").is_file()


def test_markdown_has_the_same_lines(swept):
    text = (swept.folder / "compare" / "table.md").read_text()

    lines = [
        line
        for line in text.splitlines()
        if re.match(r"\| (\d+ \| )?(saliency=)?(tsgb|cam)\b", line)
    ]
    assert len(lines) >= 2 + 4 + 4  # by refinement, scores, times and classes
    assert all("±" in line for line in lines[:6])
    assert "| run | background, % | star, % | ring, % |" in text
    assert "oracle, %: threshold chosen with ground truth; 10 images" in text
    assert "a stage that several share counted once" in text


def test_a_comparison_changes_nothing_and_follows_the_copied_folder(swept, tmp_path):
    other = tmp_path / "copy"
    shutil.copytree(swept.folder, other)
    before = {path: path.stat().st_mtime_ns for path in other.rglob(MANIFEST)}
    both = replace(swept.settings.compare, runs=[str(swept.folder), str(other)])
    run = Run(replace(swept.settings, compare=both), tmp_path / "empty")

    compare.run(run)

    assert {path: path.stat().st_mtime_ns for path in other.rglob(MANIFEST)} == before
    assert [row["random seeds"] for row in table(run.folder)] == ["0 1"] * 4  # not 0 0 1 1


def test_the_order_is_never_that_of_the_oracle(tmp_path, make_run):
    make_masks(tmp_path, method="a.Good", summary=scored(0.6, oracle=0.61))
    make_masks(tmp_path, method="a.Lucky", summary=scored(0.5, oracle=0.99))

    compared(tmp_path, make_run)

    assert [row["saliency"] for row in table(tmp_path)] == ["Good", "Lucky"]
    html = (tmp_path / "compare" / "index.html").read_text()
    assert not re.search(r'class="[^"]*best oracle"', html)
    with pytest.raises(ConfigCompositionException, match=r"compare\.by=oracle"):
        compared(tmp_path, make_run, "compare.by=oracle")


@pytest.mark.parametrize(
    ("by", "first"), [("seed", "Sharp"), ("refined", "Smooth"), ("seconds", "Sharp")]
)
def test_another_order(tmp_path, make_run, by, first):
    slow = make_masks(tmp_path, method="a.Smooth", summary=scored(0.4, refined=0.8))[2]
    make_masks(tmp_path, method="a.Sharp", summary=scored(0.5, refined=0.7))
    replace(slow.manifest, seconds=99.0).write(slow.path)

    compared(tmp_path, make_run, f"compare.by={by}")

    assert table(tmp_path)[0]["saliency"] == first


def test_a_segmenter_decides_when_all_have_one_on_the_same_protocol(tmp_path, make_run):
    for method, seed, miou in (("a.First", 0.4, 0.7), ("a.Second", 0.5, 0.6)):
        trained, _, masks = make_masks(tmp_path, method=method, summary=scored(seed))
        segmenter = make_segmenter(tmp_path, [masks, trained])
        make_score(tmp_path, segmenter, miou)
        if method == "a.First":
            make_score(tmp_path, segmenter, 0.1, scales="1 2")

    compared(tmp_path, make_run)

    rows = table(tmp_path)
    assert [row["saliency"] for row in rows] == ["First", "Second"]
    assert rows[0]["segmenter|val, scale 1"] == "0.7"
    assert rows[0]["segmenter|val, scale 1 2"] == "0.1"
    assert rows[1]["segmenter|val, scale 1 2"] == ""


def test_a_segmenter_is_compared_with_its_twin_as_it_was_refined_itself(tmp_path, make_run):
    twins = {"a.CRF": 0.8, "a.Walk": 0.9}
    for refine in twins:
        trained, _, masks = make_masks(tmp_path, refine=refine, summary=scored(0.5))
        segmenter = make_segmenter(tmp_path, [masks, trained])
        make_score(tmp_path, segmenter, 0.6, refine={"_target_": refine})
        twin = make_segmenter(tmp_path, [trained], "ground_truth")  # one for both
        make_score(tmp_path, twin, twins[refine], refine={"_target_": refine})

    compared(tmp_path, make_run)

    found = {row["refine"]: float(row["twin|val, scale 1"]) for row in table(tmp_path)}
    assert found == {"CRF": 0.8, "Walk": 0.9}


def test_masks_keep_their_refinement_where_relabelling_has_none(tmp_path, make_run):
    trained, _, masks = make_masks(tmp_path, summary=scored(0.5))
    first = make_segmenter(tmp_path, [masks, trained])
    again = make(
        tmp_path, "relabel", [first], {"scored_by": {}}, relabel={"refine": False}, refine=None
    )
    for segmenter, miou in (
        (first, 0.5),
        (make_segmenter(tmp_path, [trained], "given", learned_from=again), 0.6),
    ):
        make_score(tmp_path, segmenter, miou)

    compared(tmp_path, make_run)

    rows = table(tmp_path)
    assert [row["segmenter.labels"] for row in rows] == ["given", "pseudo"]
    assert "refine" not in rows[0]


def test_what_has_no_such_score_is_sorted_by_what_it_has(tmp_path, make_run):
    trained, _, masks = make_masks(tmp_path, summary=scored(0.5))
    make_score(tmp_path, make_segmenter(tmp_path, [masks, trained]), 0.6)
    for method, refined in (("a.Worse", 0.3), ("a.Better", 0.4)):
        make_masks(tmp_path, method=method, summary=scored(0.2, refined=refined), split="val")

    compared(tmp_path, make_run, "compare.by=segmenter")

    assert [row["saliency"] for row in table(tmp_path)] == ["Better", "Worse", "tsgb"]


def test_runs_on_other_data_or_other_truth_have_tables_of_their_own(tmp_path, make_run):
    make_masks(tmp_path, summary=scored(0.5))
    make_masks(tmp_path, summary=scored(0.6), method="a.Other")
    make_masks(tmp_path, summary=scored(0.9), data="e")
    make_masks(tmp_path, summary={**scored(0.1), "scored_by": {"truth": "t2"}}, method="a.Third")
    few = scored(0.8)
    few["scores"]["images"] = 2  # of four
    make_masks(tmp_path, summary=few, method="a.Few")

    compared(tmp_path, make_run)

    rows = table(tmp_path)
    assert [row["rank"] for row in rows] == ["1", "2", "1", "1", "1"]
    html = (tmp_path / "compare" / "index.html").read_text()
    assert "4 different sets of data or ground truth" in html
    assert html.count(": masks of 4 images") == 4


def test_equal_settings_made_by_other_code_are_no_repetition(tmp_path, make_run):
    for name, code in (("a", "old"), ("b", "new")):
        make_masks(tmp_path / name, summary=scored(0.5), code=code)

    folders = f"compare.runs=[{tmp_path / 'a'},{tmp_path / 'b'}]"
    run = compared(tmp_path / "out", make_run, folders)

    rows = table(run.folder)
    assert len(rows) == 2
    assert rows[0]["code of the masks"] != rows[1]["code of the masks"]


def test_without_ground_truth_runs_are_listed_without_numbers(tmp_path, make_run):
    make_masks(tmp_path, summary={"images": 4, "scored_by": {"truth": ""}, "scores": None})

    compared(tmp_path, make_run)

    (row,) = table(tmp_path)
    assert row["classifier"] == "0.9"
    assert "refined" not in row
    html = (tmp_path / "compare" / "index.html").read_text()
    assert "no ground truth" in html
    assert "Without ground truth no mask is scored" in html


def test_what_is_not_finished_is_named_on_the_page_and_in_the_terminal(tmp_path, make_run):
    _, maps, _ = make_masks(tmp_path)
    killed = make(tmp_path, "pseudo_labels", [maps], done=False, refine={"_target_": "a.Other"})

    run = compared(tmp_path, make_run)

    name = f"pseudo_labels/{killed.path.name}"
    assert dict(run.terminal.lines)[f"not in the table: {name}"].startswith("not finished")
    for file in ("index.html", "table.md"):
        assert name in (tmp_path / "compare" / file).read_text()


def test_chosen_classes_make_every_mean(tmp_path, make_run):
    iou = {"background": 0.9, "cat": 0.1, "dog": 0.5}
    found = scored(0.7)
    found["scores"] |= {kind: {"mIoU": 0.5, "IoU": iou} for kind in ("seeds", "refined", "masks")}
    curves = {"background": [0.8, 0.9, 0.7], "cat": [0.3, 0.1, 0.5], "dog": [0.9, 0.0, 0.0]}
    found["scores"]["oracle"] |= {"thresholds": [0.2, 0.4, 0.6], "IoU": curves}
    make_masks(tmp_path, summary=found)

    compared(tmp_path, make_run, "compare.classes=[cat]")

    (row,) = table(tmp_path)
    assert float(row["refined"]) == pytest.approx((0.9 + 0.1) / 2)
    assert float(row["oracle"]) == pytest.approx((0.7 + 0.5) / 2)  # not at dog's best threshold
    assert row["threshold"] == "0.6"
    assert {line["class"] for line in table(tmp_path, "classes.csv")} == {"background", "cat"}
    with pytest.raises(ConfigError, match=r"compare\.classes: unicorn .*\(cat, dog\)"):
        compared(tmp_path, make_run, "compare.classes=[unicorn]")


def test_the_page_says_which_classes_a_mean_is_over(tmp_path, make_run):
    iou = {"background": 0.9, "cat": 0.1, "cow": None, "dog": 0.0}
    found = scored(0.7)
    found["scores"] |= {kind: {"mIoU": 0.3, "IoU": iou} for kind in ("seeds", "refined", "masks")}
    curves = {"background": [0.8, 0.9], "cat": [0.3, 0.1], "cow": [None, None], "dog": [0.0, None]}
    found["scores"]["oracle"] |= {"thresholds": [0.2, 0.4], "IoU": curves}
    make_masks(tmp_path, summary=found)

    compared(tmp_path, make_run)
    said = (tmp_path / "compare" / "table.md").read_text()
    assert (
        "Every mIoU is the mean over 4 classes, without those that are neither in the ground truth "
        "nor predicted, which for some masks are: cow." in said
    )

    compared(tmp_path, make_run, "compare.classes=[cat,dog]")
    (row,) = table(tmp_path)
    assert float(row["refined"]) == pytest.approx((0.9 + 0.1 + 0) / 3)
    assert float(row["oracle"]) == pytest.approx((0.9 + 0.1) / 2)  # at 0.4 no dog is predicted
    assert row["threshold"] == "0.4"
    said = (tmp_path / "compare" / "table.md").read_text()
    assert "Every mIoU is the mean over background, cat, dog; average precision" in said


def test_nothing_finished_is_an_error_that_says_what_there_is(tmp_path, make_run):
    with pytest.raises(MissingArtifactError, match=r"no finished pseudo-masks[\s\S]*stage=all"):
        compared(tmp_path, make_run)
    make(tmp_path, "classifier", (), {"mAP": 0.5}, done=False, classifier={"epochs": 1})
    with pytest.raises(MissingArtifactError, match=r"classifier/x-.*not finished"):
        compared(tmp_path, make_run)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compare.by=fraction", "no run has a number for 'fraction'"),
        ("compare.runs=[nowhere]", "compare.runs: no folder nowhere"),
        ("compare.pictures=-1", "compare.pictures=-1: out of range"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, make_run, words, message):
    make_masks(tmp_path)

    with pytest.raises(ConfigError, match=re.escape(message)):
        compare.run(make_run(words, folder=tmp_path))
    assert not (tmp_path / "compare").exists()


def test_pictures_need_the_data_of_the_runs(tmp_path, make_run):
    make_masks(tmp_path)

    compare.run(make_run(folder=tmp_path))

    html = (tmp_path / "compare" / "index.html").read_text()
    assert "the data settings of this command describe other data" in html
    assert 'id="images"' not in html


def test_masks_of_some_images_have_a_table_of_their_own_and_share_the_gallery(copied):
    run = with_settings(copied, saliency={"images": 3})
    stage = do(run, "pseudo_labels")

    compare.run(run)

    html = (run.folder / "compare" / "index.html").read_text()
    assert "masks of 10 images" in html
    assert "masks of 3 images, scored on 3 of train" in html
    images = shown_in(html)["images"]
    some = {image["id"] for image in images if any(
        caption.startswith("refined mask") and "3 images" in caption for caption in image["layers"]
    )}  # fmt: skip
    assert some == {path.stem for path in (stage.path / "masks").iterdir()}


def test_equal_numbers_share_a_rank(tmp_path, make_run):
    for method, refined in (("a.A", 0.70001), ("a.B", 0.7), ("a.C", 0.6), ("a.D", 0.8)):
        make_masks(tmp_path, method=method, summary=scored(0.5, refined=refined))

    run = compared(tmp_path, make_run)

    assert [(row["saliency"], row["rank"]) for row in table(tmp_path)] == [
        ("D", "1"), ("A", "2"), ("B", "2"), ("C", "4"),
    ]  # fmt: skip
    assert run.folder == tmp_path


def test_an_image_that_is_gone_costs_the_pictures_and_no_number(swept, tmp_path, shapes_root):
    shutil.copytree(shapes_root, tmp_path / "data")
    config = replace(swept.settings, data={**swept.settings.data, "root": str(tmp_path / "data")})
    config = replace(config, compare=replace(config.compare, runs=[str(swept.folder)]))
    image = sorted((tmp_path / "data").glob("VOCdevkit/VOC2012/JPEGImages/train*"))[0]
    image.write_bytes(image.read_bytes()[:100].ljust(image.stat().st_size))
    run = Run(config, tmp_path / "out")

    compare.run(run)

    images = shown_in((run.folder / "compare" / "index.html").read_text())["images"]
    assert [i["id"] for i in images if i["note"] == "The image cannot be read."] == [image.stem]
    assert len(table(run.folder)) == 4


def test_a_damaged_label_image_costs_one_layer_of_one_image(copied):
    (refined,) = copied.folder.glob("pseudo_labels/*/refined")
    damaged = sorted(refined.iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:40].ljust(damaged.stat().st_size))  # as large

    compare.run(copied)

    images = shown_in((copied.folder / "compare" / "index.html").read_text())["images"]
    (image,) = (image for image in images if image["note"])
    assert image["id"] == damaged.stem
    assert re.match(
        rf"Not shown, since it is damaged: refined mask: .*{damaged.name}", image["note"]
    )
    assert not any(caption.startswith("refined mask") for caption in image["layers"])
    assert any(caption.startswith("training mask") for caption in image["layers"])
    assert len(images) == len(copied.data.train.ids) + len(copied.data.val.ids)
