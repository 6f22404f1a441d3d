"""Ctrl-C and `kill` end a command within seconds, and the same command goes on."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from tests.conftest import ROOT, TINY
from tests.pipeline.runs import command

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
SECONDS = 15  # to stop, on a busy machine
# Each would go on for minutes.
LONG = {
    "one validation batch": ("stage=classifier", "classifier.epochs=2000", "trainer.workers=1"),
    "masks": ("stage=pseudo_labels", "refine.iterations=100000"),
    "segmentation": ("stage=segmentation", "segmenter.epochs=2000"),
}
LEFT = {  # a file that appears while a stage is at work
    "one validation batch": "classifier/*/last.ckpt",
    "masks": "pseudo_labels/*/manifest.json",
    "segmentation": "segmentation/*/last.ckpt",
}


def wait_for(process, folder, pattern, done):
    """Wait until a file appears that was not there before."""
    end = time.monotonic() + 120
    while not set(folder.glob(pattern)) - done:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "the stage never began"
        time.sleep(0.05)


@contextmanager
def started(words):
    """A command that a person began at a terminal; it does not outlive the block."""
    script = [sys.executable, str(ROOT / "scripts" / "run.py"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # Shells let what they start with `&` ignore Ctrl-C, and so would all that the tests start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        script, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        signal.signal(signal.SIGINT, before)
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("one validation batch", signal.SIGINT),
        ("masks", signal.SIGINT),
        ("segmentation", signal.SIGTERM),
    ],
)
def test_a_signal_ends_a_command_with_its_code(copied, stage, number):
    """What comes before the stage is there already, and reused."""
    done = set(copied.folder.glob(LEFT[stage]))
    words = [*TINY, f"data.root={copied.settings.data['root']}", f"run_dir={copied.folder}"]
    with started([*words, *LONG[stage]]) as process:
        wait_for(process, copied.folder, LEFT[stage], done)
        said = stopped(process, number)

    assert "the same command goes on" in said
    assert "Traceback" not in said


def stopped(process, number):
    """Send a signal; what the command says, once it has ended in time and with its code."""
    process.send_signal(number)
    sent = time.monotonic()
    said = process.communicate(timeout=120)[1]
    assert process.returncode == CODES[number]
    assert time.monotonic() - sent < SECONDS
    return said


def test_what_was_stopped_goes_on(tmp_path, shapes_root):
    words = (*TINY, f"data.root={shapes_root}", f"run_dir={tmp_path}", "stage=classifier")
    with started([*words, "classifier.epochs=12"]) as process:
        wait_for(process, tmp_path, "classifier/*/last.ckpt", set())
        stopped(process, signal.SIGTERM)

    again = command(*words, "classifier.epochs=12")

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
