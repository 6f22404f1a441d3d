"""`tsgb export` as a person uses it."""

import errno
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pipeline import load
from pipeline.base import files
from pipeline.command import main
from pipeline.data.palette import PALETTE, read_label_image
from tests.conftest import ROOT


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["README.md", "model.onnx"]),
        (["--format", "safetensors"], ["README.md", "config.json", "model.safetensors"]),
        (["--format", "torchscript"], ["README.md", "model.pt"]),
        (["--classifier"], ["classifier.onnx"]),
    ],
    ids=str,
)
def test_files_are_in_the_run_and_named_at_the_end(copied, capsys, words, names):
    assert main(["export", str(copied.folder), *words]) == 0

    assert sorted(path.name for path in (copied.folder / "export").iterdir()) == names
    assert names[-1] in said(capsys)


def test_a_place_of_ones_own(copied, tmp_path):
    assert main(["export", str(copied.folder), "--out", str(tmp_path / "deep" / "folder")]) == 0
    assert main(["export", str(copied.folder), "--out", str(tmp_path / "other" / "own.onnx")]) == 0

    assert (tmp_path / "deep" / "folder" / "model.onnx").is_file()
    assert (tmp_path / "other" / "own.onnx").is_file()


def test_another_file_is_not_replaced(copied, tmp_path, capsys):
    (tmp_path / "model.onnx").write_text("thesis")

    assert main(["export", str(copied.folder), "--out", str(tmp_path)]) == 1

    assert "is no export of this network" in said(capsys)
    assert (tmp_path / "model.onnx").read_text() == "thesis"
    assert not (tmp_path / "README.md").exists()


def test_runs_that_cannot_be_exported_are_named(copied, tmp_path, capsys):
    assert main(["export", str(tmp_path / "typo")]) == 1
    assert "no such file or folder" in said(capsys)
    copied.stage("segmentation").begin()
    assert main(["export", str(copied.folder)]) == 1
    assert "its network is not finished" in said(capsys)


def test_a_full_disk_is_explained(copied, tmp_path, capsys, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_flush", full)

    assert main(["export", str(copied.folder), "--out", str(tmp_path / "out")]) == 1

    assert "the disk is full" in said(capsys)
    assert not list((tmp_path / "out").iterdir())


def test_the_script_of_the_page_needs_no_torch_and_labels_like_the_run(copied, tmp_path):
    """The script runs in a process of its own, in which torch cannot be imported."""
    page = (ROOT / "docs" / "predict.md").read_text().partition("## Take the network away")[2]
    code = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    main(["export", str(copied.folder), "--out", str(tmp_path)])
    with Image.open(copied.data.val.items[0].image) as image:
        image.resize((75, 50)).save(tmp_path / "photo.png")
    code = code.replace("photo.jpg", "photo.png")
    alone = (
        "import sys\nfor name in ('torch', 'pipeline', 'tsgb', 'cv2'): sys.modules[name] = None\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", alone + code], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    result = load(copied.folder).predict(tmp_path / "photo.png")
    labels = read_label_image(tmp_path / "labels.png")
    ordered = np.sort(result.probabilities, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-5  # elsewhere two labels are equally probable
    assert labels.shape == (50, 75)
    assert np.array_equal(labels[clear], result.labels[clear])
    assert clear.mean() > 0.9
    with Image.open(tmp_path / "labels.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[: 3 * 6] == PALETTE[:6].ravel().tolist()
    assert copied.data.classes[0] in done.stdout


def test_the_other_code_of_the_page_runs(copied, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "predict.md").read_text().partition("## Take the network away")[2]
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[1:]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "shapes").symlink_to(copied.folder)
    (tmp_path / "photo.jpg").write_bytes(copied.data.val.items[0].image.read_bytes())
    main(["export", str(copied.folder), "--format", "safetensors"])
    monkeypatch.chdir(tmp_path)
    names = {}

    for code in blocks:
        exec(code, names)

    assert names["logits"].shape == (1, 6, 64, 64)
    assert names["maps"].shape[:2] == (1, 2)
