"""`tsgb score` as a person uses it: two folders of label images."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.classification import MulticlassJaccardIndex

from pipeline.command import main
from pipeline.commands.score import matched
from pipeline.data.palette import encode_label_image


def write(folder, images, suffix=".png"):
    for name, labels in images.items():
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_label_image(np.array(labels, np.uint8)))
    return str(folder)


@pytest.fixture
def folders(tmp_path):
    """Class 3 is predicted at one pixel and true at none; class 2 is in neither."""
    predictions = write(tmp_path / "pred", {"a": [[0, 1, 3]], "sub/b": [[1, 255, 0]]})
    truth = write(tmp_path / "true", {"a": [[0, 1, 1]], "sub/b": [[1, 0, 255]]})
    return predictions, truth


def scores_of(capsys, *words):
    assert main(["score", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_by_hand_with_the_rule_of_the_devkit(folders, capsys):
    scores = scores_of(capsys, *folders, "--classes", "cat,cow,dog")

    assert scores["IoU"] == {"background": 1.0, "cat": pytest.approx(2 / 3), "cow": None, "dog": 0}
    assert scores["mIoU"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert (scores["classes"], scores["left_out"]) == (3, ["cow"])
    assert scores["pixel_accuracy"] == pytest.approx(4 / 5)
    assert (scores["images"], scores["pixels"]) == (2, 5)
    assert "absent from the ground truth counts as 0" in scores["rule"]


def test_without_names_values_are_names(folders, capsys):
    scores = scores_of(capsys, *folders)

    assert scores["IoU"] == {"background": 1.0, "1": pytest.approx(2 / 3), "2": None, "3": 0}
    assert (scores["classes"], scores["left_out"]) == (3, ["2"])


def test_equals_torchmetrics_on_random_masks(tmp_path, capsys):
    generator = np.random.default_rng(0)
    metric = MulticlassJaccardIndex(12, average="none", ignore_index=255)
    predictions, truth = {}, {}
    for name in "abcdefgh":
        shape = generator.integers(5, 20, 2)
        predictions[name] = generator.choice([0, 1, 2, 5, 8, 11], shape)
        truth[name] = generator.choice([0, 1, 2, 3, 8, 255], shape)
        metric.update(torch.tensor(predictions[name]), torch.tensor(truth[name]))
    names = ",".join(f"class{value}" for value in range(1, 12))

    scores = scores_of(
        capsys, write(tmp_path / "pred", predictions), write(tmp_path / "true", truth),
        "--classes", names,
    )  # fmt: skip

    expected = metric.compute().numpy()
    known = [label for label, value in enumerate(scores["IoU"].values()) if value is not None]
    assert known == [0, 1, 2, 3, 5, 8, 11]
    np.testing.assert_allclose(np.array(list(scores["IoU"].values()), float)[known],
                               expected[known], rtol=1e-6)  # fmt: skip
    assert scores["mIoU"] == pytest.approx(expected[known].mean())


def test_prints_a_table_for_people(folders, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("cat\n[/x] cow\nd\x1bog\n")

    assert main(["score", *folders, "--names", str(names)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "IoU, %",
        "background      100.00",
        "cat              66.67",
        "[/x] cow             -",
        "d\\x1bog           0.00",
    ]
    assert "mIoU             55.56" in lines
    assert "mIoU over 3 of 4 classes; neither in the ground truth nor predicted: [/x] cow." in lines
    assert "2 images, 5 pixels; 20.00 % predicted void." in lines


def test_files_in_only_one_folder_are_named(folders, tmp_path, capsys):
    write(tmp_path / "pred", {"extra": [[0]]})
    write(tmp_path / "true", {"lost": [[0]]})

    assert main(["score", *folders]) == 1

    done = capsys.readouterr()
    said = done.err.replace("\n", "")
    assert not done.out
    assert "2 of 4 images lack" in said
    assert f"extra: not in {folders[1]}" in said
    assert f"lost: not in {folders[0]}" in said
    assert "--ids" in said


def test_a_list_chooses_images(folders, tmp_path, capsys):
    write(tmp_path / "true", {"lost": [[0]]})
    ids = tmp_path / "val.txt"
    ids.write_text("a\nsub/b.png\n")

    assert scores_of(capsys, *folders, "--ids", str(ids))["images"] == 2
    ids.write_text("a\nlost\n")
    assert main(["score", *folders, "--ids", str(ids)]) == 1
    assert f"lost: not in {folders[0]}" in capsys.readouterr().err.replace("\n", "")


def test_every_image_is_tried_before_the_bad_ones_are_named(folders, tmp_path, capsys):
    write(tmp_path / "pred", {"a": [[0, 1]], "sub/b": [[9, 0, 0]]})
    write(tmp_path / "pred", {"c": [[0]]})
    write(tmp_path / "true", {"c": [[0]]})
    Image.new("RGB", (1, 1)).save(tmp_path / "true" / "c.png")

    assert main(["score", *folders, "--classes", "cat,dog,cow"]) == 1

    done = capsys.readouterr()
    said = " ".join(done.err.split())
    assert not done.out
    assert "3 of 3 images cannot be scored" in said
    assert "- a: ConfusionMatrix.update: prediction is (1, 2) but ground_truth is (1, 3)" in said
    assert "- c: read_label_image" in said
    assert "- sub/b: scoring: prediction has the value(s) 9" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda root: (root / "true").rename(root / "t"), "no such folder", id="gone"),
        pytest.param(lambda root: (root / "pred/a.png").rename(root / "pred/a.jpg"),
                     "a: not in", id="jpeg"),
        pytest.param(lambda root: write(root / "pred", {"a": [[0]]}, ".bmp"),
                     "a.bmp and a.png are label images of one id, 'a'", id="twice"),
        pytest.param(lambda root: [path.unlink() for path in root.glob("true/**/*.png")],
                     "no label image", id="empty"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_scored(folders, tmp_path, change, message, capsys):
    change(tmp_path)

    assert main(["score", *folders]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_void_and_background_alone_score_background(tmp_path, capsys):
    images = {"a": [[0, 255]]}

    scores = scores_of(capsys, write(tmp_path / "p", images), write(tmp_path / "t", images))

    assert (scores["IoU"], scores["mIoU"], scores["classes"]) == ({"background": 1.0}, 1.0, 1)


def test_other_suffixes_and_upper_case_match(tmp_path):
    predictions = write(tmp_path / "p", {"a": [[0]]}, ".PNG")
    truth = write(tmp_path / "t", {"a": [[0]]}, ".bmp")
    (tmp_path / "p" / "notes.txt").write_text("no image")
    (tmp_path / "p" / "._a.png").write_text("left by another system")

    assert list(matched(tmp_path / "p", tmp_path / "t")) == ["a"], (predictions, truth)


def test_torch_is_not_imported(folders):
    script = (
        "import sys; from pipeline.command import main; "
        f"code = main(['score', *{folders!r}]); sys.exit(code or 'torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
