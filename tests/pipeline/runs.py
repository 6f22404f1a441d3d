"""Runs with other settings or data, and what lies in their folders."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from pytorch_lightning.callbacks import Callback

from pipeline.base.config import Command
from pipeline.commands.launch import carry_out
from pipeline.run.checks import Checks
from pipeline.run.executor import Step, job_of
from pipeline.run.run import Run
from pipeline.run.table import STAGES
from pipeline.stages import training
from tests.conftest import ROOT

MADE = 7  # classifier, saliency, pseudo_labels, and a segmenter and its twin with their scores


def do(run, command):
    """Run a command on the run; the folder of the stage that it names."""
    run.settings = replace(run.settings, stage=Command(command))
    carry_out(run)
    return run.stage(command) if command in STAGES else None


def kill_before(epoch, run, stage):
    """Kill a training of the run as this epoch begins, from 0 on."""

    class Kill(Callback):
        def on_train_epoch_start(self, trainer, _task):
            if trainer.current_epoch == epoch:
                raise RuntimeError("killed")

    original = training.make_trainer

    def killing(job, **options):
        return original(job, **{**options, "callbacks": [*options["callbacks"], Kill()]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "make_trainer", killing)
        with pytest.raises(RuntimeError, match="killed"):
            do(run, stage)


def check(run, stage):
    """Check the settings of a stage, as is done before any work."""
    STAGES[stage].check(Checks(run))


def job(run, stage):
    """What the work of a stage is given."""
    return job_of(Step(run, STAGES[stage]))


def with_settings(run, **groups):
    """The same run with other settings: ``with_settings(run, seed={"threshold": 0.6})``."""
    settings = run.settings
    for group, values in groups.items():
        node = getattr(settings, group)
        changed = {**node, **values} if isinstance(node, dict) else replace(node, **values)
        settings = replace(settings, **{group: changed})
    return Run(settings, run.folder)


def again(run):
    """The same command once more, which knows nothing of the first one."""
    return Run(run.settings, run.folder)


def when_made(run):
    """When each stage was finished, by folder."""
    manifests = run.folder.rglob("manifest.json")
    return {p.parent.relative_to(run.folder).as_posix(): p.stat().st_mtime_ns for p in manifests}


def stages_of(folders):
    """``{"saliency/TSGB-0a1b2c"}`` without the fingerprints: ``{"saliency/TSGB"}``."""
    return {folder.rpartition("-")[0] for folder in folders}


def command(*words, cwd=ROOT):
    """What the command line does with these words."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(ROOT / "scripts" / "run.py"), *words]
    return subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )
