"""Which network learned from which label images: the folders of both, round by round."""

from __future__ import annotations

from dataclasses import replace

from pipeline.artifacts import StageFolder
from pipeline.config import SegmenterConfig
from pipeline.errors import ConfigError
from pipeline.stages import classifier, pseudo_labels
from pipeline.stages.context import Run, weights_version

PSEUDO, GROUND_TRUTH = "pseudo", "ground_truth"


def settings(run: Run, labels: str | None = None, round_: int | None = None) -> SegmenterConfig:
    """The recipe of one network, with what it learns from and in which round.

    Args:
        run: Its settings are those of the last round.
        labels: None for ``segmenter.labels``.
        round_: From 1; None for the last one. On ground truth there is only one.

    Raises:
        ConfigError: Labels that are unknown, or no round.
    """
    config = run.config.segmenter
    labels = labels or config.labels
    if labels not in (PSEUDO, GROUND_TRUTH):
        raise ConfigError(
            f"segmenter.labels: {labels!r} is unknown. Choose {PSEUDO} or {GROUND_TRUTH}."
        )
    if config.rounds < 1:
        raise ConfigError(
            f"segmenter.rounds: {config.rounds}. No network would be trained. Choose 1 or more."
        )
    number = (round_ or config.rounds) if labels == PSEUDO else 1
    return replace(config, labels=labels, rounds=number, twin=False)


def all_of(run: Run) -> range:
    """The rounds of the run, from 1."""
    return range(1, settings(run).rounds + 1)


def network(run: Run, labels: str | None = None, round_: int | None = None) -> StageFolder:
    """Where the network of a round is, or will be; arguments as above."""
    config = settings(run, labels, round_)
    upstream = []
    if config.labels == PSEUDO:
        upstream.append(learned_from(run, config.rounds))
    if config.weights == "classifier":
        upstream.append(classifier.folder(run))
    learned = run.truth_version(run.catalogue.train) if config.labels == GROUND_TRUTH else None
    return run.stage(
        "segmentation", variant(config), "pipeline.stages.segmentation", upstream,
        segmenter=replace(config, weights=weights_version(config.weights)),
        precision=run.config.trainer.precision, ground_truth=learned,
    )  # fmt: skip


def learned_from(run: Run, round_: int) -> StageFolder:
    """Where the label images of a round are: the pseudo-masks, or what the network before says."""
    return pseudo_labels.folder(run) if round_ == 1 else relabelled(run, round_)


def relabelled(run: Run, round_: int) -> StageFolder:
    """Where the label images of a round after the first are, or will be."""
    upstream, config = [network(run, PSEUDO, round_ - 1)], run.config
    return run.stage(
        "relabel", f"round_{round_}", "pipeline.stages.relabel", upstream,
        relabel=config.relabel, refine=config.refine if config.relabel.refine else None,
    )  # fmt: skip


def variant(config: SegmenterConfig) -> str:
    """Labels and round in a word, for folders.

    Example:
        >>> variant(SegmenterConfig()), variant(SegmenterConfig(rounds=2))
        ('pseudo', 'pseudo_2')
    """
    return config.labels if config.rounds == 1 else f"{config.labels}_{config.rounds}"


def described(config: SegmenterConfig) -> str:
    """Labels and round in words, for people.

    Example:
        >>> described(SegmenterConfig()), described(SegmenterConfig(rounds=2))
        ('pseudo labels', 'pseudo labels, round 2')
    """
    name = f"{config.labels} labels"
    return name if config.rounds == 1 else f"{name}, round {config.rounds}"
