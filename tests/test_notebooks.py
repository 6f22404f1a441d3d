"""The notebooks of the documentation run from top to bottom, with shorter trainings."""

import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "notebooks"
SHORTER = {r"range\(120\)": "range(30)", r"epochs=\d+": "epochs=1", r"range\(60\)": "range(2)"}


def shortened(code):
    for long, short in SHORTER.items():
        code = re.sub(long, short, code)
    return code


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    shutil.copy(FOLDER / "berries.py", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(path, as_version=4)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    stored = [cell.outputs for cell in codes]
    for cell in codes:
        cell.source = shortened(cell.source)

    place = {"metadata": {"path": tmp_path}}
    NotebookClient(notebook, timeout=300, coalesce_streams=True, resources=place).execute()

    kinds = [[output.output_type for output in outputs] for outputs in stored]
    assert [[output.output_type for output in cell.outputs] for cell in codes] == kinds


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_is_stored_with_small_pictures(path):
    assert "image/jpeg" in path.read_text()
    assert path.stat().st_size < 200_000
