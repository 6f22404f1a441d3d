"""Commands answer before they load what takes seconds."""

import subprocess
import sys

import pytest

from pipeline.commands.parsers import PARSERS
from tests.conftest import ROOT, TINY

# Nothing may import torch: where it is None, Python raises an error at its import.
WITHOUT_TORCH = """
import sys

sys.modules["torch"] = None
from pipeline.command import main

sys.exit(main(sys.argv[1:]))
"""
HEAVY = (
    "pytorch_lightning", "torchvision", "timm", "albumentations", "segmentation_models_pytorch",
    "scipy", "numba", "matplotlib",
)  # fmt: skip


def without_torch(*words):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["methods"],
        ["run", "--help"],
        ["run", "-h"],
        ["explain", "--help"],
    ]
    + [[name, "--help"] for name in PARSERS],
    ids=" ".join,
)
def test_help_and_lists_need_no_torch(words):
    done = without_torch(*words)

    assert done.returncode == 0, done.stderr
    assert "tsgb" in done.stdout


def test_a_mistyped_word_is_told_without_torch(tmp_path):
    done = without_torch("run", "seed.treshold=0.3", f"run_dir={tmp_path}")

    assert done.returncode == 1
    assert "seed.threshold" in done.stderr


def test_a_run_says_where_it_goes_before_torch_is_there(tmp_path):
    done = without_torch("run", *TINY, f"run_dir={tmp_path / 'run'}")

    said, trace = done.stderr.split("Traceback", 1)
    assert said.replace("\n", "").startswith(f"run: {tmp_path / 'run'}")
    assert "import of torch halted" in trace


def test_the_table_of_the_stages_loads_no_library_of_a_network():
    loaded = f"print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, pipeline.commands.launch; {loaded}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == "[]\n"
