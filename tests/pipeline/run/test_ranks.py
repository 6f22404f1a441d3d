"""Several processes make what one makes, by torchrun, srun and `trainer.devices`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from pipeline.base.config import Command
from pipeline.base.errors import ConfigError
from pipeline.base.files import read_json
from pipeline.commands.processes import wanted
from pipeline.run.run import Run
from pipeline.run.settings import plain
from tests.conftest import ROOT, TINY, composed
from tests.pipeline import ranks_at_work
from tests.pipeline.runs import command, do, when_made

SCRIPT = str(ROOT / "scripts" / "run.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
PREDICTED = ("saliency", "pseudo_labels", "evaluate")


def torchrun(count, *words, script=SCRIPT):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, f"--nproc-per-node={count}", script, *words],
        env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def srun(count, *words):
    """Processes with the variables that `srun -n COUNT` gives them; their codes and errors."""
    shared = {
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NAME": "run.py", "SLURM_NNODES": "1",
        "SLURM_NTASKS": str(count), "SLURM_NODELIST": "127.0.0.1", "SLURM_NODEID": "0",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, SCRIPT, *words], stderr=subprocess.PIPE, text=True,
            env={**ENVIRONMENT, **shared, "SLURM_PROCID": str(k), "SLURM_LOCALID": str(k)},
        )
        for k in range(count)
    ]  # fmt: skip
    said = [process.communicate()[1] for process in started]
    return [process.returncode for process in started], said


def files_of(folder, *stages):
    """Everything but what stages write about themselves, by name."""
    paths = (path for stage in stages for path in (folder / stage).rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths if p.suffix != ".json"}


def summaries(folder):
    return {p.parent.name: read_json(p)["summary"] for p in folder.glob("*/*/manifest.json")}


def test_three_processes_make_the_same_masks_and_scores_to_the_bit(finished, copied, shapes_root):
    """Trainings that one process has finished are taken as they are."""
    for stage in PREDICTED:
        shutil.rmtree(copied.folder / stage)
    trained = when_made(copied)

    done = torchrun(3, *TINY, f"data.root={shapes_root}", f"run_dir={copied.folder}")

    assert done.returncode == 0, done.stderr
    assert files_of(copied.folder, *PREDICTED) == files_of(finished.folder, *PREDICTED)
    assert summaries(copied.folder) == summaries(finished.folder)
    assert {name: when_made(copied)[name] for name in trained} == trained
    assert (copied.folder / "report" / "index.html").is_file()
    assert done.stderr.count("starting") == len(PREDICTED) + 1  # said once; the twin is scored too


def test_an_error_of_tasks_of_srun_is_told_once(copied, shapes_root):
    words = (*TINY, f"data.root={shapes_root}", f"run_dir={copied.folder}", "stage=segmentation")

    codes, said = srun(2, *words, "segmenter.labels=nowhere")

    assert codes == [1, 1]
    assert "".join(said).count("'nowhere' is not a folder") == 1
    assert "Traceback" not in "".join(said)


def test_a_training_of_which_a_process_was_killed_goes_on_with_any_number(tmp_path, shapes_root):
    folder = tmp_path / "run"
    words = [
        *TINY, f"data.root={shapes_root}", f"run_dir={folder}", "classifier.epochs=40",
        "stage=classifier",
    ]  # fmt: skip
    several = [sys.executable, SCRIPT, *words, "trainer.devices=2"]
    with subprocess.Popen(several, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300  # a busy machine
        while not list(folder.glob("*/*/last.ckpt")) and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        os.kill(children_of(process.pid)[1], signal.SIGKILL)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "the same command goes on" in said

    second = command(*words)

    assert second.returncode == 0, second.stderr
    assert "going on" in second.stderr
    (path,) = folder.glob("*/*/manifest.json")
    assert read_json(path)["parts"]["processes"] == [2, 1]


def children_of(process):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=True
    )
    return sorted(int(word) for word in found.stdout.split())


@pytest.fixture(scope="module")
def at_work(finished, shapes_root, tmp_path_factory):
    """What two processes have found; see ``ranks_at_work``."""
    folder = tmp_path_factory.mktemp("ranks")
    data = folder / "data"
    shutil.copytree(shapes_root, data)
    shutil.copytree(finished.folder, folder / "run")
    script = str(ROOT / "tests" / "pipeline" / "ranks_at_work.py")
    done = torchrun(2, str(folder), str(data), str(folder / "run"), script=script)
    assert done.returncode == 0, done.stderr
    return folder


def test_processes_share_gather_and_sum_and_learn_of_each_others_errors(at_work):
    first, second = (json.loads((at_work / f"heard-{k}.json").read_text()) for k in range(2))

    assert first == second
    assert first["shares"] == [["a", "c", "e"], ["b", "d"]]
    assert first["alone"] == [["a", "b", "c", "d", "e"], 0]
    assert first["counts"] == [[0, 0], [2, 2]]  # two pixels of each
    assert first["error"] == "DataError: rank 0 failed"
    assert "data: b0 in process 0" in first["disagreement"]
    assert "b1 in process 1" in first["disagreement"]


@pytest.mark.parametrize("name", ["classifier", "plain", "balanced"])
def test_gradients_of_a_step_are_those_of_one_process(name, at_work, of_one_process):
    """The batch is divided 3 to 2, and void unequally between them."""
    found = torch.load(at_work / f"{name}.pt", weights_only=True)

    expected = of_one_process[name]
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def of_one_process(finished):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "set_num_threads", lambda _count: None)
        return ranks_at_work.gradients_of_a_step(finished)


def test_failures_of_all_processes_are_reported_together(at_work, finished):
    first, second = ((at_work / f"failure-{k}.txt").read_text() for k in range(2))

    assert first == second
    assert "2 of 10 images failed" in first
    assert all(item.id in first for item in finished.data.train.items[:2])


def test_two_processes_relabel_and_predict_as_one(at_work, copied, shapes_root, tmp_path):
    do(copied, "relabel")
    photos = copied.data.val.items[0].image.parent
    words = (f"predict.images={photos}", f"predict.out={tmp_path / 'labelled'}")
    do(Run(plain(composed(*TINY, f"data.root={shapes_root}", *words)), copied.folder), "predict")

    assert files_of(at_work / "run", "relabel") == files_of(copied.folder, "relabel")
    labelled = files_of(at_work, "labelled")
    assert labelled == files_of(tmp_path, "labelled")
    assert "labelled/pixels.csv" in labelled or any(n.endswith(".csv") for n in labelled)


def test_a_sweep_of_several_processes_is_refused():
    with pytest.raises(ConfigError, match="jobs of a sweep have one process each"):
        wanted(Command.all, 2, sweep=True)


@pytest.mark.parametrize(("stage", "count"), [("all", 3), ("predict", 3), ("report", 1)])
def test_a_plain_command_starts_what_it_can_use(stage, count):
    assert wanted(Command(stage), 3, sweep=False) == count


def test_torchrun_decides_how_many_processes_there_are(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")

    assert wanted(Command.all, 3, sweep=False) == 1
