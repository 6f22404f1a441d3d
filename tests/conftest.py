"""What the tests share: few threads, a tiny data set, and a way to run stages like the command."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from pipeline.run.run import Run
from pipeline.run.schema import CONFIGS, register_schema
from pipeline.run.settings import plain

ROOT = Path(__file__).parent.parent
TINY = (
    "data.train=10",
    "data.val=4",
    "data.size=64",
    "classifier.size=64",
    "classifier.epochs=1",
    "classifier.batch_size=4",
    "saliency.size=64",
    "refine.iterations=2",
    "segmenter.size=64",
    "segmenter.epochs=1",
    "segmenter.batch_size=4",
    "trainer=cpu",
    "trainer.workers=0",
    "trainer.progress=false",
)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if item.get_closest_marker("slow") and "slow" not in item.config.option.markexpr:
        pytest.skip("takes an hour: pytest -m slow")


@pytest.fixture(autouse=True, scope="session")
def _two_test_processes_on_two_cores():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _determinism_of_a_trainer_ends_with_the_test():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory) -> Path:
    """One drawing of the tiny data for all tests of a process."""
    folder = tmp_path_factory.mktemp("shapes")
    drawn = Run(plain(composed(*TINY, f"data.root={folder / 'shapes'}")), folder / "run")
    assert drawn.data.train.items
    return folder / "shapes"


@pytest.fixture
def make_run(tmp_path, shapes_root) -> Callable[..., Run]:
    """A run on tiny built-in data, composed from ``configs/`` as the command line does it."""

    def make(*overrides: str, folder: Path | None = None) -> Run:
        # Later overrides win, so that a test can change what TINY says.
        values = (*TINY, f"data.root={shapes_root}", *overrides)
        return Run(plain(composed(*values)), folder or tmp_path / "run")

    return make


def composed(*overrides: str):
    """The configuration that the command line would make of these words."""
    register_schema()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("run", overrides=list(overrides))
