"""The example scripts for torchrun and SLURM, with stand-ins for both that print their words."""

import os
import re
import subprocess

import pytest

from tests.conftest import ROOT, composed

SCRIPTS = ROOT / "scripts"
SETTINGS = ("experiment=photos", "data=shapes", "run_dir=runs/my photos")


@pytest.fixture
def started(tmp_path):
    """Run a script; what it would have started, as words."""
    for name in ("torchrun", "srun"):
        stand_in = tmp_path / name
        stand_in.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$0" "$OMP_NUM_THREADS" "$@"\n')
        stand_in.chmod(0o755)

    def run(script, **environment):
        kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        path = f"{tmp_path}:{kept['PATH']}"
        done = subprocess.run(
            ["bash", str(SCRIPTS / script), *SETTINGS], capture_output=True, text=True, check=True,
            env={**kept, "OMP_NUM_THREADS": "", **environment, "PATH": path}, cwd=ROOT,
        )  # fmt: skip
        return done.stdout.splitlines()

    return run


def test_torchrun_gets_machines_processes_and_the_settings_unchanged(started):
    program, _, *words = started("torchrun.sh", HEAD="first", NODES="2", GPUS="4")

    assert program.endswith("/torchrun")
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=first:29500"} <= set(words)
    script = words.index("scripts/run.py")
    assert (ROOT / words[script]).is_file()
    assert tuple(words[script + 1 :]) == SETTINGS
    understood_by_torchrun(words)


def understood_by_torchrun(words):
    from torch.distributed.run import parse_args

    wanted = parse_args(words)
    assert wanted.training_script == "scripts/run.py"
    assert tuple(wanted.training_script_args) == SETTINGS


def test_srun_gets_a_task_for_each_gpu_and_the_settings_unchanged(started):
    program, threads, *words = started("slurm.sbatch", SLURM_CPUS_PER_TASK="8")

    assert program.endswith("/srun")
    assert threads == "8"
    assert "--kill-on-bad-exit=1" in words
    assert words[words.index("python") + 1 :] == ["scripts/run.py", *SETTINGS]


def test_slurm_is_asked_for_as_many_tasks_as_gpus():
    text = (SCRIPTS / "slurm.sbatch").read_text()
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", text, re.MULTILINE))

    assert asked["gres"] == f"gpu:{asked['ntasks-per-node']}"
    assert "gpus-per-task" not in asked
    assert "requeue" in asked
    assert asked["job-name"] not in ("bash", "interactive")  # which Lightning takes for a shell


@pytest.mark.parametrize("script", ["torchrun.sh", "slurm.sbatch"])
def test_the_settings_of_its_example_exist(script):
    example = re.search(rf"scripts/{re.escape(script)} (.*)", (SCRIPTS / script).read_text())

    assert composed(*example[1].split(), "data=shapes").run_dir == "runs/photos"
