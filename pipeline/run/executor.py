"""Stages in order: checked before any work, skipped where they are done, resumed where killed.

Of several processes all do the work, each its share; the first alone takes locks, decides what is
done, and writes down what came out. The others wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.base import ranks
from pipeline.base.config import Command
from pipeline.base.errors import DamagedFileError, MissingArtifactError, at_most
from pipeline.base.files import DAMAGED
from pipeline.base.terminal import Place
from pipeline.run.building import build
from pipeline.run.fingerprint import code_version
from pipeline.run.folders import StageFolder, check_layout
from pipeline.run.run import Run
from pipeline.run.stage import Outcome, Score, Stage
from pipeline.run.table import CHAINS, STAGES, in_order
from pipeline.stages.job import Job, Summary
from pipeline.stages.own_files import remade

_DROPPED = "dropped"  # in the summary of a stage: its files were removed when they had served


@dataclass(frozen=True)
class Step:
    """A stage of a run, or of its twin."""

    run: Run
    stage: Stage

    @property
    def folder(self) -> StageFolder:
        """Where its result is, or will be."""
        return self.run.stage(self.stage.name)

    @property
    def command(self) -> str:
        """The words that make it."""
        stage = "pseudo_labels" if self.stage.name == "saliency" else self.stage.name
        labels = self.run.settings.segmenter.labels
        words = f" segmenter.labels={labels}" if stage in ("segmentation", "evaluate") else ""
        return f"stage={stage}{words}"


def steps_of(run: Run, command: Command) -> list[Step]:
    """What a command makes, in order: one stage, or a chain with everything that it needs.

    Maps are a stage of their own, but nobody asks for them alone: `pseudo_labels` makes both.
    """
    if command in CHAINS:
        stages = in_order(CHAINS[command], run.settings)
        steps = [Step(run, stage) for stage in stages]
        if command is Command.all and run.has_twin:
            twin = run.twin
            steps += [Step(twin, STAGES[name]) for name in ("segmentation", "evaluate")]
        return steps
    names = ("saliency", "pseudo_labels") if command is Command.pseudo_labels else (str(command),)
    return [Step(run, STAGES[name]) for name in names]


def check(steps: Sequence[Step]) -> list[float | None]:
    """Look for everything that would stop the steps, before any work.

    Returns:
        Estimated seconds of the networks of each step; None for a step that is done.

    Raises:
        ConfigError: Settings of a step cannot work, or processes have found different data.
        MissingArtifactError: A step needs what is not done and not among the steps.
    """
    for run in {step.run.folder: step.run for step in steps}.values():
        check_layout(run.folder)
    ranks.agree([f"{step.stage.name}/{step.folder.path.name}" for step in steps], "the stages")
    _check(steps)
    _require_inputs(steps)
    return _try(steps)


def execute(steps: Sequence[Step], seconds: Sequence[float | None]) -> None:
    """Make every step, in order; what is done already is skipped.

    Args:
        steps: As :func:`steps_of` has them.
        seconds: What :func:`check` expects of them.
    """
    for k, step in enumerate(steps):
        later = sum(expected or 0.0 for expected in seconds[k + 1 :])
        step.run.terminal.place = Place(k + 1, len(steps), later)
        ranks.first(partial(_take_back, step, steps))
        make(step.run, step.folder, partial(_work, step))
        _score(step)
        ranks.first(partial(_drop_maps, step))
        ranks.first(partial(_tell, step))
        step.run.terminal.place = None


def _check(steps: Sequence[Step]) -> None:
    from pipeline.run.checks import Checks  # and the libraries of all networks: seconds

    checks = {id(step.run): Checks(step.run) for step in steps}
    for check in checks.values():
        check.trainer()
    for step in steps:
        step.stage.check(checks[id(step.run)])


def _try(steps: Sequence[Step]) -> list[float | None]:
    """Try the networks of what is not done; the twin's segmenter is the same as the run's own."""
    from pipeline.run.trials import Trials, same_random_numbers  # likewise

    done = ranks.first(lambda: [step.folder.is_done for step in steps])
    undone = [step for step, is_done in zip(steps, done, strict=True) if not is_done]
    waiting = {step.stage.name: step for step in reversed(undone)}
    trials = {id(step.run): Trials(step.run) for step in waiting.values()}
    expected: dict[str, float] = {}
    with same_random_numbers():
        for step in reversed(waiting.values()):
            if step.stage.trial is not None:
                expected[step.stage.name] = step.stage.trial(trials[id(step.run)])
    to_do = [expected.get(step.stage.name, 0.0) for step in steps]
    return [None if is_done else s for s, is_done in zip(to_do, done, strict=True)]


def _require_inputs(steps: Sequence[Step]) -> None:
    """Raise if a stage that a step reads is neither made by the steps nor done."""
    made = {step.folder.path for step in steps}
    for step in steps:
        for need in _needs(step):
            if need.folder.path not in made:
                require(need)


def _needs(step: Step) -> Iterable[Step]:
    return (Step(step.run, STAGES[name]) for name in step.stage.needs(step.run.settings))


def require(step: Step) -> None:
    """Raise unless a stage is done.

    Raises:
        MissingArtifactError: Names the command that makes it.
    """
    folder = step.folder
    if folder.is_done:
        return
    manifest = folder.manifest
    state = "was made by other code, or is not whole" if manifest else "is missing"
    if manifest and not manifest.is_done:
        state = "is not finished; it was killed, or another command is at it"
    raise MissingArtifactError(
        f"{folder.path}: {state}. Run `tsgb run {step.command}` with the same "
        "settings first, or stage=all."
    )


def _work(step: Step) -> Summary:
    ranks.first(partial(_check_inputs, step))
    return step.stage.work(job_of(step))


def _check_inputs(step: Step) -> None:
    """Compare what a stage is about to read with the hashes of what was written.

    Raises:
        DamagedFileError: Some files have changed. They were put aside.
    """
    for need in _needs(step):
        damaged = need.folder.put_altered_aside()
        if damaged:
            raise DamagedFileError(
                f"{need.folder.path}: {len(damaged)} file(s) are not what the stage wrote. They "
                f"were renamed NAME{DAMAGED}. {remade()}\n{at_most(damaged)}"
            )


def make(run: Run, folder: StageFolder, work: Callable[[], Summary]) -> None:
    """Do the work of a stage unless it is done, or another command does it; say which."""
    terminal = run.terminal
    name = terminal.described(folder.path.relative_to(run.folder).as_posix())
    if not _is_done(folder):
        with _turn(run, folder):
            if not _is_done(folder):  # unless the other command did it
                resumed = ranks.first(folder.begin)
                terminal.note("going on" if resumed else "starting", name)
                summary = work()
                seconds = ranks.first(lambda: folder.finish(summary))
                terminal.note(f"done in {seconds:.0f} s", name, "green")
                return
    terminal.note(f"unchanged ({folder.fingerprint}), skipped", name, "green")


def _is_done(folder: StageFolder) -> bool:
    return ranks.first(lambda: folder.is_done)


def _turn(run: Run, folder: StageFolder) -> AbstractContextManager[None]:
    if not ranks.is_first():
        return nullcontext()
    name = folder.path.relative_to(run.folder).as_posix()
    busy = "another process is at it; waiting until it ends"
    return folder.alone(lambda: run.terminal.note(busy, name))


def job_of(step: Step) -> Job:
    """What the work of a stage is given."""
    run = step.run
    inputs = {need.stage.name: need.folder.path for need in _needs(step)}
    return Job(run.settings, run.data, step.folder.path, inputs, run.terminal, build)


def _drop_maps(step: Step) -> None:
    """With ``saliency.keep=false``, remove maps once the masks of them are made and scored."""
    if step.stage.name != "pseudo_labels" or step.run.settings.saliency.keep:
        return
    maps = step.run.stage("saliency")
    if maps.is_done and not maps.summary.get(_DROPPED):
        with _turn(step.run, maps):
            maps.drop("maps")
            maps.amend(**{_DROPPED: True})


def _take_back(step: Step, steps: Sequence[Step]) -> None:
    """Let a stage whose files were dropped be made anew if a step has yet to read them."""
    folder = step.folder
    if folder.is_done and folder.summary.get(_DROPPED):
        readers = [s for s in steps if any(n.folder.path == folder.path for n in _needs(s))]
        if not readers or any(_is_to_do(reader) for reader in readers):
            folder.reopen()


def _is_to_do(step: Step) -> bool:
    """Whether a step is still to be made or scored."""
    score = step.stage.score
    return not step.folder.is_done or (score is not None and bool(_waits_for(step, score)))


def _score(step: Step) -> None:
    """Add scores to a finished stage unless the same ground truth and code have scored it.

    Not part of the work: ground truth that is corrected or added later changes no result of it.
    """
    score = step.stage.score
    if score is None:
        return
    if ranks.first(partial(_waits_for, step, score)):
        with _turn(step.run, step.folder):
            by = ranks.first(partial(_waits_for, step, score))
            if by:  # unless another command has scored it
                scores = score.work(job_of(step))
                ranks.first(lambda: step.folder.amend(scored_by=by, scores=scores))


def _waits_for(step: Step, score: Score) -> dict[str, Any] | None:
    """Ground truth and code that have not scored a stage yet; None if they have."""
    truth = step.run.truth_version(score.split(step.run.settings, step.run.data))
    by = {"truth": truth, "code": code_version(score.module)}
    return None if step.folder.summary.get("scored_by") == by else by


def _tell(step: Step) -> None:
    run, stage, folder = step.run, step.stage, step.folder
    for line in stage.lines(Outcome(run.settings, folder.path, folder.summary)):
        run.terminal.say(*line)
    if stage.afterwards is not None:
        for line in stage.afterwards(job_of(step)):
            run.terminal.say(*line)
