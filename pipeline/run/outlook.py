"""What a command is about to do, in words, before it does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from pipeline.base.config import GROUND_TRUTH
from pipeline.base.ranks import here
from pipeline.networks.device import device_of, training_precision
from pipeline.run.executor import Step
from pipeline.run.run import Run


def subject(run: Run) -> str:
    """The data and the hardware."""
    data = run.data
    return (
        f"{data.name}: {len(data.train.items)} images to learn from, {len(data.val.items)} held "
        f"out, {_count(len(data.classes), 'class')}; {_hardware(run)}"
    )


def outlook(steps: Sequence[Step], seconds: Sequence[float | None]) -> Iterator[str]:
    """The stages that are done and those to do, with an estimate of the time.

    Args:
        steps: The stages of a run, in order, those of its twin too.
        seconds: Estimates for their networks; None for a stage that is done.
    """
    expected = list(zip(map(_words, steps), seconds, strict=True))
    to_do = [words for words, s in expected if s is not None]
    done = [words for words, s in expected if s is None]
    if done:
        yield f"done already: {', '.join(done)}"
    if to_do:
        yield f"to do: {', '.join(to_do)}; {_duration(sum(s or 0.0 for s in seconds))}"


def _hardware(run: Run) -> str:
    trainer, place = run.settings.trainer, here()
    device = device_of(trainer)
    threads = f" with {_count(torch.get_num_threads(), 'thread')}" if device == "cpu" else ""
    processes = f", {place.size} processes" if place.size > 1 else ""
    return f"{device}{threads}{processes}, training in {training_precision(trainer)}"


def _words(step: Step) -> str:
    twin = "the twin's " if step.run.settings.segmenter.labels == GROUND_TRUTH else ""
    return twin + step.stage.name.replace("_", " ")


def _duration(seconds: float) -> str:
    """About how long networks will take, in words.

    Example:
        >>> _duration(7), _duration(100), _duration(9000)
        ('less than a minute', 'about 2 min', 'about 2.5 h')
    """
    if seconds < 45:
        return "less than a minute"
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes < 100 else f"about {minutes / 60:.1f} h"


def _count(number: int, what: str) -> str:
    """A number of things.

    Example:
        >>> _count(1, "class"), _count(2, "class"), _count(2, "thread")
        ('1 class', '2 classes', '2 threads')
    """
    plural = "es" if what.endswith("s") else "s"
    return f"{number} {what}{'' if number == 1 else plural}"
