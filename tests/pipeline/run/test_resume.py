"""What a kill leaves is kept, and the same command ends where it would have ended."""

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
import torch
from filelock import FileLock

from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.run.executor import make
from pipeline.run.folders import StageFolder
from pipeline.run.table import STAGES
from pipeline.stages.label_images import mask_path
from tests.conftest import ROOT, TINY
from tests.pipeline.runs import again, do, kill_before


def test_masks_that_a_killed_run_left_are_kept_and_the_rest_is_made(copied):
    stage = copied.stage("pseudo_labels")
    items = copied.data.train.items
    kept = mask_path(stage.path, "masks", items[0])
    gone = mask_path(stage.path, "masks", items[1])
    expected, when = gone.read_bytes(), kept.stat().st_mtime_ns
    gone.unlink()
    stage.begin()  # and the run is killed here

    do(copied, "pseudo_labels")

    assert gone.read_bytes() == expected
    assert kept.stat().st_mtime_ns == when
    assert stage.manifest.resumed is True


def test_two_commands_at_once_make_a_stage_once(make_run, capsys):
    """The second waits for the first one's result, and takes it."""
    first, second = (again(make_run()) for _ in range(2))
    at_work, go_on, calls = Event(), Event(), []

    def work():
        calls.append(1)
        at_work.set()
        assert go_on.wait(60)
        return {}

    with ThreadPoolExecutor(2) as pool:
        earlier = pool.submit(make, first, some_stage(first), work)
        assert at_work.wait(60)
        later = pool.submit(make, second, some_stage(second), work)
        said = ""
        while "waiting" not in said and not later.done():
            said += capsys.readouterr().err
            time.sleep(0.01)
        go_on.set()
        earlier.result()
        later.result()

    assert some_stage(first).is_done
    assert len(calls) == 1
    assert "another process is at it" in said
    assert "unchanged" in capsys.readouterr().err


def some_stage(run):
    return run.folder_of("some", "stage", "pipeline.stages.classifier", [], {})


def test_the_second_command_goes_on_where_the_first_one_failed(make_run):
    run = make_run()

    def fail():
        raise DataError("an image is broken")

    with pytest.raises(DataError):
        make(run, some_stage(run), fail)
    make(run, some_stage(run), lambda: {"images": 3})

    assert some_stage(run).is_done
    assert some_stage(run).summary == {"images": 3}


def test_a_disk_without_locks_is_worked_on_all_the_same(tmp_path, monkeypatch):
    def refuse(*_words, **_options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)

    with StageFolder(tmp_path / "some" / "stage", {}).alone(pytest.fail):
        worked = True

    assert worked


def test_masks_are_scored_once_by_two_commands(copied, monkeypatch):
    copied.stage("pseudo_labels").amend(scored_by=None)
    stage, scored = STAGES["pseudo_labels"], []

    def counted(job):
        scored.append(job)
        return stage.score.work(job)

    monkeypatch.setitem(
        STAGES, "pseudo_labels", replace(stage, score=replace(stage.score, work=counted))
    )

    with ThreadPoolExecutor(2) as pool:
        commands = [pool.submit(do, again(copied), "pseudo_labels") for _ in range(2)]
        assert all(command.result(300).summary["scored_by"] for command in commands)

    assert len(scored) == 1


def test_a_stage_is_free_when_the_process_at_it_was_killed(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; from pipeline.run.folders import StageFolder\n"
        "with StageFolder(Path(sys.argv[1]), {}).alone(print):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    path, waited = tmp_path / "some" / "stage", []
    words = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "held\n"

        def kill():
            waited.append(True)
            process.kill()

        def wait():
            with StageFolder(path, {}).alone(kill):
                return True

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(wait).result(60)
    assert waited == [True]


def test_a_deleted_file_is_made_again(copied):
    stage = copied.stage("pseudo_labels")
    gone = mask_path(stage.path, "masks", copied.data.train.items[4])
    expected = gone.read_bytes()
    gone.unlink()

    do(copied, "pseudo_labels")

    assert gone.read_bytes() == expected


@pytest.mark.parametrize("name", ["classifier", "segmentation"])
def test_training_that_was_killed_ends_where_it_would_have_ended(name, make_run, tmp_path):
    """Two epochs at once, or one, a kill and one more: the same weights."""
    group = "classifier" if name == "classifier" else "segmenter"
    results = []
    for folder in ("whole", "killed"):
        words = (f"{group}.epochs=2", "segmenter.labels=ground_truth")
        run = make_run(*words, folder=tmp_path / folder)
        if name == "segmentation":
            do(run, "classifier")
        if folder == "killed":
            kill_before(1, run, name)
        stage = do(run, name)
        results.append(torch.load(stage.path / "last.ckpt", weights_only=True)["state_dict"])
    whole, resumed = results
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("damaged", [["last.ckpt"], ["last.ckpt", "last.ckpt.previous"]])
def test_a_training_with_a_damaged_checkpoint_goes_on_from_the_one_before(
    damaged, make_run, tmp_path, capsys
):
    """Half a checkpoint is put aside; without a whole one the training starts anew."""
    whole, killed = (make_run("classifier.epochs=3", folder=tmp_path / n) for n in ("a", "b"))
    kill_before(2, killed, "classifier")
    folder = killed.stage("classifier").path
    for name in damaged:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    weights = [
        torch.load(do(run, "classifier").path / "last.ckpt", weights_only=True)["state_dict"]
        for run in (whole, killed)
    ]

    said = capsys.readouterr().err.replace("\n", "")
    assert all(f"{name}.damaged" in said for name in damaged)
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not (folder / "last.ckpt.previous").exists()


def test_the_command_survives_a_real_kill(tmp_path, shapes_root):
    """SIGKILL in the middle of training; the same command ends the run."""
    words = [
        sys.executable, str(ROOT / "scripts" / "run.py"), *TINY, f"data.root={shapes_root}",
        f"run_dir={tmp_path / 'run'}", "classifier.epochs=12", "stage=classifier",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    made = tmp_path / "run" / "classifier"
    deadline = time.monotonic() + 300  # a busy machine
    while not list(made.glob("*/last.ckpt")) and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (checkpoint,) = made.glob("*/last.ckpt")

    second = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    assert second.returncode == 0, second.stderr
    assert "going on" in second.stderr
    manifest = read_json(checkpoint.parent / "manifest.json")
    assert manifest["state"] == "done"
    assert manifest["resumed"] is True
