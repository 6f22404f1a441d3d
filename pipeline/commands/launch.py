"""From a composed configuration to a command that runs, and from an error to a readable message."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from pipeline.base.config import Command
from pipeline.base.errors import PipelineError
from pipeline.base.files import fingerprint, storage_explained, write_bytes, write_json
from pipeline.commands import compare, explain, report, saliency_benchmark, verify
from pipeline.commands.remembered import remember
from pipeline.run.executor import check, execute, steps_of
from pipeline.run.provenance import made_by
from pipeline.run.run import Run
from pipeline.run.settings import plain
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


def launch(
    config: DictConfig, folder: Path, words: Sequence[str] = (), *, sweep: bool = False
) -> None:
    """Run one command; errors made for people are printed as such and end with exit code 1.

    Args:
        config: Every setting.
        folder: Where the command's own files go.
        words: Settings that later commands of the run start from, as words of a command line.
        sweep: Whether this is one of several jobs.

    Raises:
        JobFailedError: Any error within a sweep, after it was printed. Hydra makes the other jobs.
    """
    failure = _failure(partial(_launch, config, folder, words), folder, sweep=sweep)
    if failure and sweep:  # not where it was caught: Hydra would keep all that the job had loaded
        raise JobFailedError(failure)
    if failure:
        sys.exit(1)


def _failure(work: Callable[[], None], folder: Path, *, sweep: bool) -> str:
    """The text of what went wrong, once it was printed; empty if nothing did."""
    console = Console(stderr=True, soft_wrap=True)
    with_trace = bool(os.environ.get("HYDRA_FULL_ERROR"))
    try:
        with storage_explained(folder):
            work()
    except Exception as error:
        for_people = isinstance(error, (PipelineError, TSGBError))
        if not sweep and (with_trace or not for_people):
            raise
        if with_trace or not for_people:
            traceback.print_exc()
        console.print(f"[bold red]{type(error).__name__}[/]:", end=" ")
        console.print(str(error), markup=False, highlight=False)
        if sweep:
            console.print("The other jobs go on. Afterwards the same command makes the rest.")
        return f"{type(error).__name__}: {error}"
    return ""


def _launch(config: DictConfig, folder: Path, words: Sequence[str]) -> None:
    settings = plain(config)
    run = Run(settings, Path(settings.run_dir), folder)
    carry_out(run, words)
    run.terminal.summarise(str(run.output))


def carry_out(run: Run, words: Sequence[str] = ()) -> None:
    """Do what ``stage`` names, and write down with which settings.

    Args:
        run: The run.
        words: Settings that later commands of the run start from, as words of a command line.
    """
    command = run.settings.stage
    if command in _ON_TOP:
        _ON_TOP[command](run)
        write_provenance(run)
        return
    steps = steps_of(run, command)
    check(steps)
    remember(run.folder, words)
    write_provenance(run)
    execute(steps)
    if command is Command.all:
        report.run(run)


def write_provenance(run: Run) -> None:
    """Write settings, versions, random seed and git revision of this command into its folder."""
    settings = asdict(run.settings)
    facts = {
        "random_seed": run.settings.random_seed,
        "config_fingerprint": fingerprint(settings),
    }
    write_json(run.output / "provenance.json", {**facts, **made_by()})
    write_bytes(run.output / "config.yaml", OmegaConf.to_yaml(settings).encode())
