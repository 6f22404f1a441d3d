"""What a kill leaves is kept, and the same command ends where it would have ended."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from filelock import FileLock
from pytorch_lightning.callbacks import Callback

from pipeline.artifacts import StageFolder, read_json
from pipeline.errors import DataError
from pipeline.stages import classifier, pseudo_labels, saliency, segmentation, training
from tests.conftest import ROOT, TINY
from tests.pipeline.stages.runs import with_settings


def test_masks_that_a_killed_run_left_are_kept_and_the_rest_is_made(copied):
    stage = pseudo_labels.folder(copied)
    items = copied.catalogue.train.items
    kept = pseudo_labels.mask_path(stage, "masks", items[0])
    gone = pseudo_labels.mask_path(stage, "masks", items[1])
    expected, when = gone.read_bytes(), kept.stat().st_mtime_ns
    gone.unlink()
    stage.begin()  # and the run is killed here

    pseudo_labels.run(copied)

    assert gone.read_bytes() == expected
    assert kept.stat().st_mtime_ns == when
    assert stage.manifest["resumed"] is True


def test_two_commands_at_once_make_a_stage_once(make_run, capsys):
    """The second waits for the first one's result, and takes it."""
    first, second = (make_run(folder=make_run().folder) for _ in range(2))
    stages = [run.stage("some", "stage", classifier.__name__, []) for run in (first, second)]
    at_work, go_on, calls = Event(), Event(), []

    def work(stage):
        calls.append(stage)
        at_work.set()
        assert go_on.wait(60)
        return {}

    with ThreadPoolExecutor(2) as pool:
        earlier = pool.submit(first.carry_out, stages[0], work)
        assert at_work.wait(60)
        later = pool.submit(second.carry_out, stages[1], work)
        said = ""
        while "waiting" not in said and not later.done():
            said += capsys.readouterr().err
            time.sleep(0.01)
        go_on.set()
        assert earlier.result().is_done
        assert later.result().is_done

    assert calls == [stages[0]]
    assert "another process is at it" in said
    assert "unchanged" in capsys.readouterr().err


def test_the_second_command_goes_on_where_the_first_one_failed(make_run):
    run = make_run()
    stage = run.stage("some", "stage", classifier.__name__, [])

    def fail(_stage):
        raise DataError("an image is broken")

    with pytest.raises(DataError):
        run.carry_out(stage, fail)
    done = run.carry_out(stage, lambda _stage: {"images": 3})

    assert done.is_done
    assert done.summary == {"images": 3}


def test_a_disk_without_locks_is_worked_on_all_the_same(tmp_path, monkeypatch):
    def refuse(*_words, **_options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)

    with StageFolder(tmp_path / "some" / "stage", {}).alone(pytest.fail):
        worked = True

    assert worked


def test_masks_are_scored_once_by_two_commands(copied, monkeypatch):
    stage = pseudo_labels.folder(copied)
    stage.amend(truth=None)
    score, scored = pseudo_labels._score, []
    monkeypatch.setattr(
        pseudo_labels, "_score", lambda *words: scored.append(words) or score(*words)
    )

    with ThreadPoolExecutor(2) as pool:
        commands = [pool.submit(pseudo_labels.run, with_settings(copied)) for _ in range(2)]
        assert all(command.result(300).summary["truth"] for command in commands)

    assert len(scored) == 1


def test_a_stage_is_free_when_the_process_at_it_was_killed(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; from pipeline.artifacts import StageFolder\n"
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


def test_masks_are_made_while_maps_still_are(copied, monkeypatch):
    run = with_settings(copied, trainer={"workers": 0})  # one thread for masks; three may wait
    monkeypatch.setattr(pseudo_labels, "on_gpu", lambda _: True)  # where it pays
    for stage in ("saliency", "pseudo_labels"):
        shutil.rmtree(run.folder / stage)
    make, maps_at_the_time = pseudo_labels._Maker.make, []

    def watched(maker, item):
        make(maker, item)
        maps_at_the_time.append(len(list(maker.maps.path.glob("maps/*.npz"))))

    monkeypatch.setattr(pseudo_labels._Maker, "make", watched)

    stage = pseudo_labels.run(run)

    images = len(run.catalogue.train.items)
    assert maps_at_the_time[0] < images
    assert len(maps_at_the_time) == images
    assert len(list(stage.path.glob("masks/*.png"))) == images


def test_a_polite_kill_ends_saliency_at_once(copied, monkeypatch):
    """Lightning notes the signal and goes on with its predictions."""
    shutil.rmtree(copied.folder / "saliency")
    path, written = saliency.atomic_path, []

    def killed(target):
        written.append(target)
        os.kill(os.getpid(), signal.SIGTERM)
        return path(target)

    monkeypatch.setattr(saliency, "atomic_path", killed)

    with pytest.raises(SystemExit) as ended:
        saliency.run(copied)

    assert ended.value.code == 128 + signal.SIGTERM
    assert [target.exists() for target in written] == [True]


def test_a_deleted_file_is_made_again(copied):
    stage = pseudo_labels.folder(copied)
    gone = pseudo_labels.mask_path(stage, "masks", copied.catalogue.train.items[4])
    expected = gone.read_bytes()
    gone.unlink()

    pseudo_labels.run(copied)

    assert gone.read_bytes() == expected


@pytest.mark.parametrize("name", ["classifier", "segmentation"])
def test_training_that_was_killed_ends_where_it_would_have_ended(name, make_run):
    """Two epochs at once, or one, a kill and one more: the same weights."""
    module = {"classifier": classifier, "segmentation": segmentation}[name]
    group = "classifier" if name == "classifier" else "segmenter"
    results = []
    for folder in ("whole", "killed"):
        run = make_run(f"{group}.epochs=2", "segmenter.labels=ground_truth")
        run.folder = run.folder / folder
        if name == "segmentation":
            classifier.run(run)
        if folder == "killed":
            _kill_after_one_epoch(run, module)
        stage = module.run(run)
        results.append(torch.load(stage.path / "last.ckpt", weights_only=True)["state_dict"])
    whole, resumed = results
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def _kill_after_one_epoch(run, module):
    class Kill(Callback):
        def on_train_epoch_start(self, trainer, _task):
            if trainer.current_epoch == 1:
                raise RuntimeError("killed")

    original = training.make_trainer

    def killing(run, folder, **options):
        options["callbacks"] = [*options.get("callbacks", []), Kill()]
        return original(run, folder, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "make_trainer", killing)
        with pytest.raises(RuntimeError, match="killed"):
            module.run(run)


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

    again = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    assert again.returncode == 0, again.stderr
    assert "going on" in again.stderr
    manifest = read_json(checkpoint.parent / "manifest.json")
    assert manifest["state"] == "done"
    assert manifest["resumed"] is True
