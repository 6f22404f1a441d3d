"""From a composed configuration to a command that runs, and from an error to a readable message."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from pipeline.base import ranks
from pipeline.base.config import Command
from pipeline.base.errors import PipelineError
from pipeline.base.files import fingerprint, storage_explained, write_bytes, write_json
from pipeline.base.said import libraries_heard, logged_to
from pipeline.base.terminal import LOG, ToPaste, print_error
from pipeline.commands import compare, report, verify
from pipeline.commands.next_steps import predict_command, review_command
from pipeline.commands.processes import ONE_IS_ENOUGH
from pipeline.commands.remembered import remember
from pipeline.commands.stopping import NOTHING_LOST
from pipeline.networks.device import backend
from pipeline.run.executor import check, execute, steps_of
from pipeline.run.outlook import outlook, subject
from pipeline.run.provenance import made_by
from pipeline.run.run import Run
from pipeline.run.settings import plain
from tsgb.errors import TSGBError

_READERS: dict[Command, Callable[[Run], None]] = {
    Command.report: report.run,
    Command.compare: compare.run,
    Command.verify: verify.run,
}


class JobFailedError(CompactHydraException):
    """One job of a sweep failed; at the end of the sweep Hydra prints its text, without a trace."""


def launch(config: DictConfig, words: Sequence[str] = (), job: Path | None = None) -> None:
    """Run one command; errors made for people are printed as such and end with exit code 1.

    Args:
        config: Every setting.
        words: Settings that later commands of the run start from, as words of a command line.
        job: Folder of this job, if it is one of a sweep.

    Raises:
        JobFailedError: Any error within a sweep, after it was printed. Hydra makes the other jobs.
    """
    with logged_to((job or Path(config.run_dir).expanduser()) / "run.log"):
        LOG.info(shlex.join(["tsgb", "run", *sys.argv[1:]]))
        failure = _failure(partial(_launch, config, words, job), sweep=job is not None)
    if failure and job:  # not where it was caught: Hydra would keep all that the job had loaded
        raise JobFailedError(failure)
    if failure:
        ranks.linger()
        sys.exit(1)


def _failure(work: Callable[[], None], *, sweep: bool) -> str:
    """The text of what went wrong, once it was printed; empty if nothing did."""
    with_trace = bool(os.environ.get("HYDRA_FULL_ERROR"))
    try:
        with storage_explained(Path.cwd()):
            work()
    except Exception as found:  # noqa: BLE001 - every error is printed below
        error = ranks.as_lost(found)
        if not ranks.reports(error):
            return "told by another process"
        for_people = isinstance(error, (PipelineError, TSGBError))
        if with_trace or not for_people:
            LOG.info(traceback.format_exc())
            traceback.print_exc()
        print_error(error)
        if not for_people:
            sys.stderr.write(f"{NOTHING_LOST}\n")
        if sweep:
            sys.stderr.write("The other jobs go on. Afterwards the same command makes the rest.\n")
        return f"{type(error).__name__}: {error}"
    return ""


def _launch(config: DictConfig, words: Sequence[str], job: Path | None) -> None:
    settings = plain(config)
    ranks.connect(backend(settings.trainer))
    folder = Path(settings.run_dir).expanduser()
    if job is not None and job.is_relative_to(Path.cwd()):
        job = job.relative_to(Path.cwd())
    run = Run(settings, folder, job)
    with libraries_heard(run.terminal):
        carry_out(run, words)
    run.terminal.summarise(run.output)
    ranks.disconnect()


def carry_out(run: Run, words: Sequence[str] = ()) -> None:
    """Do what ``stage`` names, and write down with which settings.

    Args:
        run: The run.
        words: Settings that later commands of the run start from, as words of a command line.
    """
    command = run.settings.stage
    on_top = _on_top(command)
    if on_top is not None:
        work = partial(on_top, run)
        _ = ranks.first(work) if command in ONE_IS_ENOUGH else work()
        ranks.first(lambda: write_provenance(run))
        return
    ranks.first(lambda: run.data and None)  # drawn, checked and recorded before the others read it
    steps = steps_of(run, command)
    run.terminal.note(subject(run))
    seconds = check(steps)
    ranks.first(lambda: remember(run.folder, words))
    ranks.first(lambda: write_provenance(run))
    for line in outlook(steps, seconds):
        run.terminal.note(line)
    execute(steps, seconds)
    if command is Command.all:
        ranks.first(lambda: report.run(run))
        run.terminal.say("predict", ToPaste(predict_command(run)))
        run.terminal.say("review", ToPaste(review_command(run)))


def _on_top(command: Command) -> Callable[[Run], None] | None:
    """The command, if it reads what stages made; None for stages.

    Those that run networks bring libraries that take seconds.
    """
    if command is Command.explain:
        from pipeline.commands.explain import run as explain

        return explain
    if command is Command.saliency_benchmark:
        from pipeline.commands.saliency_benchmark import run as saliency_benchmark

        return saliency_benchmark
    if command is Command.predict:
        from pipeline.commands.predict import run as predict

        return predict
    return _READERS.get(command)


def write_provenance(run: Run) -> None:
    """Write settings, versions, random seed and git revision of this command into its folder."""
    settings = asdict(run.settings)
    facts = {
        "random_seed": run.settings.random_seed,
        "config_fingerprint": fingerprint(settings),
    }
    write_json(run.output / "provenance.json", {**facts, **made_by()})
    write_bytes(run.output / "config.yaml", OmegaConf.to_yaml(settings).encode())
