"""Runs with other settings or data, and what lies in their folders."""

import os
import subprocess
import sys
from dataclasses import replace

from pipeline.stages.context import Run
from tests.conftest import ROOT

STAGES = 7  # classifier, saliency, pseudo_labels, and a network and its twin with their scores


def with_settings(run, **groups):
    """The same run with other settings: ``with_settings(run, seed={"threshold": 0.6})``."""
    config = run.config
    for group, values in groups.items():
        node = getattr(config, group)
        changed = {**node, **values} if isinstance(node, dict) else replace(node, **values)
        config = replace(config, **{group: changed})
    return Run(config, run.folder)


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
