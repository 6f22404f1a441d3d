"""Where the YAML files are, and the schema that they fill in. Light, for the sake of ``--help``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from pipeline.base.config import RunConfig

_PACKAGE = Path(__file__).parents[1]
_INSTALLED = _PACKAGE / "configs"
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "configs"
"""The folder of ``run.yaml``: inside the package where a wheel put it, else in the checkout."""


# Names of folders that say nothing about the data in them.
_COMMON = ("data", "dataset", "images", "img", "imgs", "jpegimages", "photos", "vocdevkit")


def register_schema() -> None:
    """Make ``RunConfig`` the schema of ``configs/run.yaml``: unknown names become errors.

    The YAML files may also use ``${named_after:FOLDER}`` and
    ``${layer_of:LIBRARY,BACKBONE,middle}``.
    """
    ConfigStore.instance().store(name="schema", node=RunConfig)


def named_after(folder: str) -> str:
    """A name for the data in a folder: the last part of its path that is no common word.

    Example:
        >>> named_after("weld seams/images")
        'weld_seams'
    """
    path = os.path.normpath(Path(folder).expanduser().absolute())  # no name is ".."
    parts = Path(path).parts[1:]
    names = [name for name in parts if name.lower() not in _COMMON]
    return re.sub(r"[^\w.-]+", "_", names[-1] if names else "data")


def _layer_of(library: str, backbone: str, which: str) -> str:
    from pipeline.networks.layers import layer_of  # loads torch

    return layer_of(library, backbone, which)


# Here, since the jobs of `launcher=slurm` import this module and register no schema.
OmegaConf.register_new_resolver("named_after", named_after, replace=True)
OmegaConf.register_new_resolver("layer_of", _layer_of, replace=True)
