"""Ctrl-C and `kill` end a command within seconds, and the same command goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT, TINY
from tests.pipeline.runs import command

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
SECONDS = 15  # to stop, on a busy machine
# Each would go on for minutes.
LONG = {
    "classifier": ("stage=classifier", "classifier.epochs=2000"),
    "one validation batch": ("stage=classifier", "classifier.epochs=2000", "trainer.workers=1"),
    "masks": ("stage=pseudo_labels", "refine.iterations=100000"),
    "segmentation": ("stage=segmentation", "segmenter.epochs=2000"),
}
LEFT = {  # a file that appears while a stage is at work
    "classifier": "classifier/*/last.ckpt",
    "one validation batch": "classifier/*/last.ckpt",
    "masks": "pseudo_labels/*/manifest.json",
    "segmentation": "segmentation/*/last.ckpt",
}


def wait_for(process, folder, pattern):
    end = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "the stage never began"
        time.sleep(0.05)


def started(words):
    script = [sys.executable, str(ROOT / "scripts" / "run.py"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(script, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("classifier", signal.SIGTERM),
        ("one validation batch", signal.SIGINT),
        ("masks", signal.SIGINT),
        ("masks", signal.SIGTERM),
        ("segmentation", signal.SIGTERM),
    ],
)
def test_a_signal_ends_a_command_with_its_code(tmp_path, shapes_root, stage, number):
    base = (*TINY, f"data.root={shapes_root}", f"run_dir={tmp_path}")
    for before in ("classifier", "pseudo_labels"):
        if stage in ("masks", "segmentation")[before == "pseudo_labels" :]:
            assert command(*base, f"stage={before}").returncode == 0
    with started([*base, *LONG[stage]]) as process:
        wait_for(process, tmp_path, LEFT[stage])
        process.send_signal(number)
        sent = time.monotonic()
        said = process.communicate(timeout=120)[1]

    assert process.returncode == CODES[number]
    assert time.monotonic() - sent < SECONDS
    assert "the same command goes on" in said
    assert "Traceback" not in said


def test_what_was_stopped_goes_on(tmp_path, shapes_root):
    words = (*TINY, f"data.root={shapes_root}", f"run_dir={tmp_path}", "stage=classifier")
    with started([*words, "classifier.epochs=30"]) as process:
        wait_for(process, tmp_path, LEFT["classifier"])
        process.terminate()

    again = command(*words, "classifier.epochs=30")

    assert again.returncode == 0, again.stderr
    assert "going on" in again.stderr


def test_a_signal_that_a_shell_has_switched_off_stays_so():
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "from pipeline.commands.stopping import stop_at_once; stop_at_once();"
        "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)

    assert done.stdout.strip() == "True", done.stderr
