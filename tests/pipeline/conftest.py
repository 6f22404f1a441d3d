"""A finished run on tiny data, made once in each test process."""

import shutil

import pytest

from pipeline.commands.remembered import remember
from pipeline.run.run import Run
from pipeline.run.settings import plain
from pipeline.stages import prediction
from tests.conftest import TINY, composed
from tests.pipeline.runs import do


@pytest.fixture(scope="session")
def finished(tmp_path_factory, shapes_root):
    """A finished run; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    words = [*TINY, f"data.root={shapes_root}"]
    run = Run(plain(composed(*words)), folder)
    remember(folder, words)
    do(run, "all")
    return run


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run that a test may damage."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    return Run(finished.settings, folder)


@pytest.fixture
def beside_a_gpu(monkeypatch):
    """Results of predictions are written by threads, as beside a GPU; the CPU plays its part."""
    load = prediction.loading
    monkeypatch.setattr(prediction, "on_gpu", lambda _: True)
    monkeypatch.setattr(prediction, "loading", lambda n, pinned: load(n, pinned=False))


@pytest.fixture
def other_data(shapes_root, tmp_path):
    """A copy of the tiny data that a test may damage."""
    folder = tmp_path / "data"
    shutil.copytree(shapes_root, folder)
    return folder
