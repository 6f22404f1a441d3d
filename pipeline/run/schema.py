"""Where the YAML files are, and the schema that they fill in. Light, for the sake of ``--help``."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_store import ConfigStore

from pipeline.base.config import RunConfig

_PACKAGE = Path(__file__).parents[1]
_INSTALLED = _PACKAGE / "configs"
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "configs"
"""The folder of ``run.yaml``: inside the package where a wheel put it, else in the checkout."""


def register_schema() -> None:
    """Make ``RunConfig`` the schema of ``configs/run.yaml``: unknown names become errors."""
    ConfigStore.instance().store(name="schema", node=RunConfig)
