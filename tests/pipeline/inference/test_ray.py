"""Ray Data labels photos with a trained network: one actor, one network, batches of files."""

import os
import sys

import pytest

from pipeline import load
from pipeline.stages.predictions import prediction_path
from tests.pipeline.runs import job

ray = pytest.importorskip("ray", reason="needs the extra ray: pip install 'tsgb[ray]'")
# Ray 2.60 sets options of its own that it calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:`use_:DeprecationWarning")


class Labeller:
    """What docs/beyond_one_machine.md shows."""

    def __init__(self, run):
        self.network = load(run, device="cpu")

    def __call__(self, batch):
        found = self.network.predict_batch(list(batch["path"]))
        return {"id": batch["id"], "png": [one.png() for one in found]}


@pytest.fixture
def cluster(monkeypatch):
    """Ray on this machine, whose workers import what this process does."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    ray.init(num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


def test_masks_made_by_ray_are_those_of_the_stage(cluster, finished):
    items = finished.data.val.items
    photos = [{"id": item.id, "path": str(item.image)} for item in items]

    rows = (
        ray.data.from_items(photos)
        .map_batches(
            Labeller, fn_constructor_args=(str(finished.folder),), batch_size=3,
            batch_format="numpy", compute=ray.data.ActorPoolStrategy(size=1),
        )
        .take_all()
    )  # fmt: skip

    made = {row["id"]: row["png"] for row in rows}
    assert len(made) == len(items)
    folder = job(finished, "evaluate").folder
    for item in items:
        assert (
            made[item.id] == prediction_path(finished.settings.evaluate, folder, item).read_bytes()
        )
