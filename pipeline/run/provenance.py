"""What made a result: versions, platform, git revision."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "tsgb", "torch", "torchvision", "timm", "pytorch-lightning", "torchmetrics",
    "segmentation-models-pytorch", "albumentations", "opencv-python-headless", "numpy", "numba",
    "hydra-core", "matplotlib", "jinja2",
)  # fmt: skip


@cache
def made_by() -> dict[str, Any]:
    """Versions and git revision of the code that is running."""
    return {
        "git": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def git_revision() -> str:
    """Commit of the checkout that this code runs from, ``-dirty`` if it was changed."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # not a checkout around a wheel
        return _git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"


def _git(*words: str) -> str:
    done = subprocess.run(  # fixed words, no shell
        ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
