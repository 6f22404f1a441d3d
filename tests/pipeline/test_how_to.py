"""The how-to pages: their code is saved and their commands are run as they stand, on tiny data."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.command import main
from pipeline.data.palette import read_label_image
from pipeline.inference.loading import load
from pipeline.run.settings import plain
from scripts.study import commands, read_study
from tests.conftest import ROOT, TINY, composed


def blocks(page, language):
    text = (ROOT / "docs" / "howto" / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "module", "product"),
    [
        ("own_saliency_method", "my_method", "saliency/PositiveCAM-*/maps/*.npz"),
        ("own_refinement", "my_refinement", "pseudo_labels/MedianFilter-*/masks/*.png"),
    ],
)
def test_code_of_ones_own_makes_masks(page, module, product, tmp_path, monkeypatch, shapes_root):
    (tmp_path / f"{module}.py").write_text(blocks(page, "python")[0])
    path, tsgb, *words = shlex.split(blocks(page, "sh")[0])
    assert (path, tsgb) == ("PYTHONPATH=.", "tsgb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    tiny = [word for word in TINY if not word.startswith("refine.")]

    assert main([*words, *tiny, f"data.root={shapes_root}"]) == 0

    assert list((tmp_path / "runs" / "shapes").glob(product))


def test_the_voc_server_gets_a_label_image_of_every_test_photo(finished, tmp_path, monkeypatch):
    items = finished.data.val.items
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    (voc / "JPEGImages").mkdir()
    (voc / "ImageSets" / "Segmentation" / "test.txt").write_text(
        "".join(f"{item.id}\n" for item in items)
    )
    for item in items:
        shutil.copy(item.image, voc / "JPEGImages" / f"{item.id}.jpg")
    shutil.copytree(finished.folder, tmp_path / "runs" / "voc")
    monkeypatch.chdir(tmp_path)

    for line in blocks("voc_server", "sh")[0].splitlines():
        if line.startswith("tsgb "):
            assert main(shlex.split(line)[1:]) == 0
        else:
            subprocess.run(["bash", "-c", line], check=True)

    sent = tmp_path / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls"
    assert {path.stem for path in sent.iterdir()} == {item.id for item in items}
    network = load(finished.folder)
    for item in items:
        expected = network.predict(Path(item.image)).labels
        np.testing.assert_array_equal(read_label_image(sent / f"{item.id}.png"), expected)
    assert (tmp_path / "results.tgz").is_file()


def test_every_job_of_the_ablation_study_composes(tmp_path):
    (tmp_path / "my_study.yaml").write_text(blocks("ablation_study", "yaml")[0])
    study = read_study(tmp_path / "my_study.yaml")

    *jobs, last = commands(study, "runs/my_study_study", ["random_seed=0"])

    settings = [plain(composed(*words[1:])) for words in jobs]
    assert [one.saliency.method["_target_"] for one in settings[::2]] == [
        "tsgb.TSGB",
        "tsgb.GradCAM",
    ]
    assert settings[3].seed.threshold != settings[0].seed.threshold
    assert last[-1] == "stage=compare"
