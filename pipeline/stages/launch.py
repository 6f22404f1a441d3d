"""From a composed configuration to a stage that runs, and from an error to a readable message."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import cast

from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from rich.console import Console

from pipeline.config import RunConfig
from pipeline.errors import ConfigError, PipelineError
from pipeline.stages.context import Run, write_provenance
from tsgb.errors import TSGBError


def launch(config: DictConfig, folder: Path) -> None:
    """Run one stage; errors made for people are printed as such and end with exit code 1."""
    try:
        run = Run(plain(config), folder)
        write_provenance(run)
        get_method(run.config.stage["_target_"])(run)
        run.summarise()
    except (PipelineError, TSGBError) as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        Console(stderr=True, soft_wrap=True).print(f"[bold red]{type(error).__name__}[/]:", end=" ")
        Console(stderr=True, soft_wrap=True).print(str(error), markup=False, highlight=False)
        sys.exit(1)


def plain(config: DictConfig) -> RunConfig:
    """The configuration as typed plain values, with every reference resolved.

    Raises:
        ConfigError: A value that has no default was not given.
    """
    try:
        OmegaConf.resolve(config)
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise ConfigError(
                f"configuration: {', '.join(missing)} must be given; there is no default. "
                f"Add {missing[0]}=VALUE to the command."
            )
        return cast(RunConfig, OmegaConf.to_object(config))
    except MissingMandatoryValue as error:
        raise ConfigError(f"configuration: {error}. Add it to the command.") from error
