"""From a composed configuration to a command that runs, and from an error to a readable message."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import cast

from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from rich.console import Console

from pipeline.base.config import Command, RunConfig
from pipeline.base.errors import ConfigError, PipelineError
from pipeline.base.files import fingerprint, storage_explained, write_json
from pipeline.base.terminal import Terminal
from pipeline.commands import compare, explain, report, saliency_benchmark, verify
from pipeline.run.executor import execute, steps_of
from pipeline.run.provenance import made_by
from pipeline.run.run import Run
from tsgb.errors import TSGBError

_ON_TOP: dict[Command, Callable[[Run], None]] = {
    Command.report: report.run,
    Command.explain: explain.run,
    Command.saliency_benchmark: saliency_benchmark.run,
    Command.compare: compare.run,
    Command.verify: verify.run,
}
"""Commands that read what stages made."""


class JobFailedError(CompactHydraException):
    """One job of a sweep failed; at the end of the sweep Hydra prints its text, without a trace."""


def launch(config: DictConfig, folder: Path, *, sweep: bool = False) -> None:
    """Run one command; errors made for people are printed as such and end with exit code 1.

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
    terminal = Terminal(console=Console(stderr=True, soft_wrap=True))
    with_trace = bool(os.environ.get("HYDRA_FULL_ERROR"))
    try:
        with storage_explained(folder):
            _launch(config, folder)
    except Exception as error:
        for_people = isinstance(error, (PipelineError, TSGBError))
        if not sweep and (with_trace or not for_people):
            raise
        if with_trace or not for_people:
            traceback.print_exc()
        terminal.note(str(error), type(error).__name__, "bold red")
        if sweep:
            terminal.note("The other jobs go on. Afterwards the same command makes the rest.")
        return f"{type(error).__name__}: {error}"
    return ""


def _launch(config: DictConfig, folder: Path) -> None:
    settings = plain(config)
    run = Run(settings, Path(settings.run_dir), folder)
    write_provenance(run)
    carry_out(run)
    run.terminal.summarise(str(run.output))


def carry_out(run: Run) -> None:
    """Do what ``stage`` names."""
    command = run.settings.stage
    if command in _ON_TOP:
        _ON_TOP[command](run)
        return
    execute(steps_of(run, command))
    if command is Command.all:
        report.run(run)


def write_provenance(run: Run) -> None:
    """Write versions, random seed and git revision of this command into its folder."""
    facts = {
        "random_seed": run.settings.random_seed,
        "config_fingerprint": fingerprint(asdict(run.settings)),
    }
    write_json(run.output / "provenance.json", {**facts, **made_by()})


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
