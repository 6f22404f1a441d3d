"""The schema of the configuration; apart from the stages, so that ``--help`` need not load them."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from pipeline.base.config import RunConfig


def register_schema() -> None:
    """Make ``RunConfig`` the schema of ``configs/run.yaml``: unknown names become errors."""
    ConfigStore.instance().store(name="schema", node=RunConfig)
