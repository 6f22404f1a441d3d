"""From a composed configuration to a stage that runs, and from an error to a readable message."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from hydra.errors import CompactHydraException
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from rich.console import Console

from pipeline.config import RunConfig
from pipeline.errors import ConfigError, PipelineError, StorageError
from pipeline.stages.context import Run, write_provenance
from tsgb.errors import TSGBError


class JobFailedError(CompactHydraException):
    """One job of a sweep failed; at the end of the sweep Hydra prints its text, without a trace."""


def launch(config: DictConfig, folder: Path, *, sweep: bool = False) -> None:
    """Run one stage; errors made for people are printed as such and end with exit code 1.

    Raises:
        JobFailedError: Any error within a sweep, after it was printed. Hydra makes the other jobs.
    """
    failure = _failure(config, folder, sweep=sweep)
    if failure and sweep:  # not where it was caught: Hydra would keep all that the job had loaded
        raise JobFailedError(failure)
    if failure:
        sys.exit(1)


def _failure(config: DictConfig, folder: Path, *, sweep: bool) -> str:
    """The text of what went wrong, once it was printed; empty if nothing did."""
    console = Console(stderr=True, soft_wrap=True)
    with_trace = bool(os.environ.get("HYDRA_FULL_ERROR"))
    try:
        with full_disk_explained(folder):
            _launch(config, folder)
    except Exception as error:
        for_people = isinstance(error, (PipelineError, TSGBError))
        if not sweep and (with_trace or not for_people):
            raise
        if with_trace or not for_people:
            traceback.print_exc()
        console.print(f"[bold red]{type(error).__name__}[/]:", end=" ")
        console.print(str(error), markup=False, highlight=False)
        if sweep:
            console.print("Other jobs go on; once it is mended, the same command makes the rest.")
        return f"{type(error).__name__}: {error}"
    return ""


def _launch(config: DictConfig, folder: Path) -> None:
    settings = plain(config)
    run = Run(settings, Path(settings.run_dir), folder)
    write_provenance(run)
    get_method(run.config.stage["_target_"])(run)
    run.summarise()


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn a full disk into advice, also where a library was writing (a checkpoint, a log).

    Raises:
        StorageError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageError(
            f"{folder}: the disk is full ({error}). What was being written is lost; everything "
            "before it is kept. Free some space, then run the same command again: it goes on here."
        ) from error


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
