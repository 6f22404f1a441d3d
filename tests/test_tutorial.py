"""The commands of the tutorial, run as they stand, on built-in pictures."""

import io
import re
import shlex
import shutil
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from pipeline.command import main
from pipeline.data.palette import encode_label_image, read_label_image
from tests.conftest import ROOT
from tests.pipeline.test_experiments import NOTHING_LEARNED, SMALL

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]


@pytest.fixture
def photos(make_run, tmp_path, monkeypatch):
    """A person's folder: photos, their names in a file, and a new photo."""
    data = make_run().data
    (tmp_path / "photos").mkdir()
    lines = []
    for item in (*data.train.items, *data.val.items):
        shutil.copy(item.image, tmp_path / "photos")
        lines.append(",".join([item.image.name, *(data.classes[k] for k in item.labels)]))
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "new_photos").mkdir()
    shutil.copy(data.val.items[0].image, tmp_path / "new_photos" / "new.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw_two_masks(folder):
    """What a person does in the tool: two masks of the archive are drawn anew."""
    (path,) = (folder / "to_correct").glob("*.zip")
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    masks = [name for name in sorted(files) if name.startswith("SegmentationClass/")]
    for name in masks[:2]:
        labels = np.asarray(Image.open(io.BytesIO(files[name]))).copy()
        drawn = np.zeros_like(labels)
        drawn[10:40, 10:40] = labels.max() or 1
        files[name] = encode_label_image(drawn)
    with zipfile.ZipFile(folder / "corrected.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def newest_network(folder):
    networks = (folder / "runs" / "mine" / "segmentation").glob("*/manifest.json")
    return max(networks, key=lambda path: path.stat().st_mtime_ns).parent.name


def test_once_round(photos, monkeypatch, capsys):
    tiny = [*SMALL, *NOTHING_LEARNED, "segmenter.min_steps=0", "classifier.min_steps=0"]
    for number, words in enumerate(COMMANDS):
        if "data.corrected=corrected.zip" in words:
            draw_two_masks(photos)
        known = newest_network(photos) if number > 0 else ""
        words = [word.replace("pseudo-1a2b3c", known) for word in words]
        words += tiny if number == 0 else []
        monkeypatch.setattr(sys, "argv", ["tsgb", *words])

        assert main(words) == 0, capsys.readouterr().err

    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    found = {}
    exec(code.replace("pseudo-1a2b3c", newest_network(photos)), found)
    assert np.array_equal(
        found["result"].labels, read_label_image(photos / "predictions" / "labels" / "new.png")
    )
    assert found["network"].corrected_masks == 2
    assert list((photos / "runs" / "mine" / "export").glob("*.onnx"))
