"""A release: its archives, and what `pip install` gives a machine: command, settings, extras."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY
from tsgb import __version__

PACKAGES = Path(pytest.__file__).parents[1]  # site-packages of the environment that runs the tests


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The folder of the source archive, and of the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def installed(archives, tmp_path_factory):
    """Makes an environment with the wheel and, of other packages, those a test asks for."""
    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = archives.glob("*.whl")

    def environment(name, others):
        place = folder / name
        venv.create(place, with_pip=False)
        (own,) = place.glob("lib/python*/site-packages")
        run(sys.executable, "-m", "pip", "--python", place, "install", "--no-deps", wheel)
        (own / "others.pth").write_text(f"{others}\n")  # without the editable install in there
        return place / "bin"

    return environment


@pytest.fixture(scope="module")
def whole(installed):
    return installed("whole", PACKAGES)


@pytest.fixture(scope="module")
def library_only(installed, tmp_path_factory):
    """An environment without what only the pipeline needs."""
    folder = tmp_path_factory.mktemp("packages")
    left_out = ("hydra", "pytorch_lightning", "lightning", "segmentation_models", "albumentations",
                "timm", "torchmetrics", "tsgb")  # fmt: skip
    for path in PACKAGES.iterdir():
        if not path.name.startswith(left_out):
            (folder / path.name).symlink_to(path)
    return installed("library", folder)


def run(*words, cwd=None):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_the_archives_pass_the_checks_of_a_registry(archives):
    checked = run(sys.executable, "-m", "twine", "check", "--strict", *archives.iterdir())

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("PASSED") == 2


def test_the_wheel_holds_both_packages_and_nothing_else(archives):
    (wheel,) = archives.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.partition("/")[0] for name in names} == {
        "tsgb", "pipeline", f"tsgb-{__version__}.dist-info"
    }  # fmt: skip
    assert {"tsgb/py.typed", "pipeline/py.typed", "pipeline/configs/run.yaml"} <= set(names)


def test_the_source_archive_holds_tests_and_documentation_but_no_results(archives):
    (source,) = archives.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]

    assert {"README.md", "docs/index.md", "tests/test_wheel.py", "Makefile"} <= set(names)
    assert not [name for name in names if name.startswith(("runs/", "data/", "build/", ".venv"))]


def test_every_place_names_the_same_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    latest = re.findall(r"^## \[(\d.*?)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)[0]
    cited = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)

    assert (latest, cited) == (__version__, [__version__])


def test_the_wheel_runs_a_chain_from_any_folder(whole, tmp_path, shapes_root):
    tiny = [word for word in TINY if word != "refine.iterations=2"]
    words = (*tiny, f"data.root={shapes_root}", "stage=masks", "refine=none")

    done = run(whole / "tsgb", "run", *words, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/shapes/pseudo_labels/*/masks/*.png"))
    assert "not a git checkout" in (tmp_path / "runs/shapes/provenance.json").read_text()


@pytest.mark.parametrize(("words", "remedy"), [
    (["predict", "runs/x", "."], "Name the folder of a run"),
    (["export", "runs/x"], "Name the folder of a run"),
    (["score", "masks", "truth"], "Give the folder of the label images"),
], ids=lambda value: value[0] if isinstance(value, list) else "")  # fmt: skip
def test_a_mistake_outside_of_a_checkout_is_one_message(whole, tmp_path, words, remedy):
    out = ["--out", "out"] if words[0] == "predict" else []

    refused = run(whole / "tsgb", *words, *out, cwd=tmp_path)

    assert refused.returncode == 1
    assert remedy in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["masks export", "predict", "review"])
def test_help_is_there_without_the_libraries_of_a_network(library_only, tmp_path, name):
    told = run(library_only / "tsgb", *name.split(), "--help", cwd=tmp_path)

    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"usage: tsgb {name} ")


def test_the_command_without_the_packages_of_the_pipeline_names_the_extra(library_only, tmp_path):
    methods = run(library_only / "tsgb", "methods", cwd=tmp_path)
    refused = run(library_only / "tsgb", "run", "stage=masks", cwd=tmp_path)

    assert methods.returncode == 0, methods.stderr
    assert "grad_cam" in methods.stdout
    assert refused.returncode == 1
    assert "pip install 'tsgb[pipeline]'" in refused.stderr
    assert "hydra-core" in refused.stderr


def test_the_dense_crf_needs_no_more_than_numpy_and_numba(library_only, tmp_path):
    script = (
        "import numpy as np, sys\n"
        "from pipeline.masks.dense_crf import Bilateral, DenseCRF, Gaussian\n"
        "crf = DenseCRF([Gaussian(3, 1), Bilateral(3, 3, 1)], iterations=1, engine='numba')\n"
        "print(crf(np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4), np.float32)).shape)\n"
        "heavy = {'torch', 'cv2', 'PIL', 'rich', 'pytorch_lightning', 'hydra'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )

    done = run(library_only / "python", "-c", script, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(2, 4, 4)"


def test_help_of_the_command_lists_what_it_does():
    done = run(sys.executable, "-m", "pipeline.command", "--help", cwd=ROOT)

    assert all(f"\n    {name} " in done.stdout for name in ("run", "score", "explain", "methods"))
