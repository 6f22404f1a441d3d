import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np

from pipeline.masks.crf import compilation
from pipeline.masks.crf.compilation import kernel
from pipeline.masks.crf.workspace import Workspace

ONE_KERNEL = """
import logging
import numpy as np
logging.basicConfig(level=logging.INFO)
from pipeline.masks.crf.lattice import _blur
_blur(np.zeros(2, np.float32), np.array([~0, 1, -1], np.int32))
"""


def doubled(values):
    return values * 2


def test_compiles_without_a_writable_cache_folder(monkeypatch):
    njit = compilation.njit

    def without_folder(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(compilation, "njit", without_folder)

    np.testing.assert_array_equal(kernel(doubled)(np.arange(3)), [0, 2, 4])


def test_compilation_of_this_package_is_announced_once(caplog):
    event = SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=doubled)})
    announcement = compilation._Announcement()
    with caplog.at_level(logging.INFO):
        announcement.on_start(event)
        assert not caplog.messages  # of another package
        doubled.__module__ = "pipeline.masks.crf.somewhere"
        announcement.on_start(event)
        announcement.on_start(event)

    assert caplog.messages == ["compiling the dense CRF, once per machine, about 10 s"]


def test_a_second_process_does_not_compile(tmp_path):
    """The cache may lie anywhere, the way it does when the package cannot be written."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", ONE_KERNEL]

    outputs = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
        for _ in range(2)
    ]

    assert ["compiling the dense CRF" in output for output in outputs] == [True, False]


def test_workspace_reuses_memory():
    workspace = Workspace()
    large = workspace.array("rows", (10, 8), np.float32)
    small = workspace.array("rows", (3, 4), np.float32)
    larger = workspace.array("rows", (100, 8), np.float32)

    assert np.shares_memory(large, small)
    assert not np.shares_memory(large, larger)
    assert not np.shares_memory(workspace.array("other", (3, 4), np.float32), larger)
