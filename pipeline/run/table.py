"""The stages, in order, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.base.config import CORRECTED, GROUND_TRUTH, PSEUDO, Command, RunConfig
from pipeline.base.files import file_fingerprint, fingerprint
from pipeline.networks.colours import with_colours
from pipeline.networks.device import numerics
from pipeline.run import summaries, works
from pipeline.run.building import name_of, reads_network
from pipeline.run.context import RunContext
from pipeline.run.stage import Score, Stage
from pipeline.stages.corrected import learned_before
from pipeline.stages.export import export_for_server
from pipeline.stages.maps import masked_split, scored_split
from pipeline.stages.predictions import evaluated_split

Choices = Mapping[str, Any]


def _classifier(run: RunContext) -> Choices:
    # Which layers are read later makes no difference to what is learned.
    config = replace(run.settings.classifier, middle_layer="", last_layer="")
    weights = _weights_version(config.weights)
    config = with_colours(replace(config, weights=weights), bands=run.data.bands)
    return {"classifier": config, **_numerics(run)}


def _saliency(run: RunContext) -> Choices:
    config = replace(run.settings.saliency, keep=True)  # the same maps, for shorter
    few = {} if config.images is None else {"images": list(masked_split(config, run.data).ids)}
    return {"saliency": config, **few}


def _pseudo_labels(run: RunContext) -> Choices:
    return {"seed": run.settings.seed, "refine": run.settings.refine}


def _segmentation(run: RunContext) -> Choices:
    config, learned, maker = run.settings.segmenter, None, None
    if config.labels == GROUND_TRUTH:
        learned = run.truth_version(run.data.train)
    elif config.labels != PSEUDO:
        folder = Path(config.labels)
        learned, maker = _masks_version(folder, run.data.train.ids), run.stage_at(folder)
    labels = config.labels if config.labels in (PSEUDO, GROUND_TRUTH) else "given"
    known, corrected = _corrected(run)
    learned = fingerprint([learned, known]) if known else learned
    config = with_colours(config, run.settings.classifier, run.data.bands)
    plain = replace(
        config, weights=_weights_version(config.weights), labels=labels, twin=False,
        corrected_repeats=None,
    )  # fmt: skip
    learned_from = maker.path.name if maker else None
    return {
        "segmenter": plain, **_numerics(run), "learned": learned, "learned_from": learned_from,
        **corrected,
    }  # fmt: skip


def _corrected(run: RunContext) -> tuple[Sequence[Any], Choices]:
    """What corrected masks are learned, those of label images' own maker too, and how."""
    before, found = learned_before(run.settings.segmenter), run.corrected
    if found is None:
        return before, {}
    how = {"corrected_repeats": run.settings.segmenter.corrected_repeats}
    return [found.version, before], {CORRECTED: how}


def _relabel(run: RunContext) -> Choices:
    config = run.settings.relabel
    return {"relabel": config, "refine": run.settings.refine if config.refine else None}


def _evaluate(run: RunContext) -> Choices:
    config, given = run.settings.evaluate, None
    if config.masks is not None:
        given = _masks_version(Path(config.masks), evaluated_split(config, run.data).ids)
    elif config.checkpoint is not None:
        given = _weights_version(config.checkpoint)
    # The classes of a mean and the export are added to finished predictions.
    plain = replace(config, classes=None, export=False, masks=None, checkpoint=None)
    refine = run.settings.refine if config.refine else None
    return {"evaluate": plain, "given": given, "refine": refine}


def _numerics(run: RunContext) -> Choices:
    return {"numerics": numerics(run.settings.trainer)}


def _weights_version(weights: str) -> str:
    """A word (none, download, classifier) as it is; for a file, the fingerprint of its content."""
    path = Path(weights).expanduser()
    return file_fingerprint(path) if path.is_file() else weights


def _masks_version(folder: Path, ids: Iterable[str]) -> str:
    """Fingerprint of the label images that a folder holds for these images."""
    paths = ((name, folder.expanduser() / f"{name}.png") for name in ids)
    return fingerprint([(name, file_fingerprint(path)) for name, path in paths if path.is_file()])


def _needs_of_segmentation(settings: RunConfig) -> list[str]:
    config = settings.segmenter
    masks = ["pseudo_labels"] if config.labels == PSEUDO else []
    return masks + (["classifier"] if config.weights == "classifier" else [])


def _needs_of_relabel(settings: RunConfig) -> list[str]:
    looks = settings.relabel.refine and reads_network(settings.refine)
    return ["segmentation", *(["classifier"] if looks else [])]


def _needs_of_evaluate(settings: RunConfig) -> list[str]:
    config = settings.evaluate
    if config.masks is not None:
        return []
    looks = config.classifier_prior or (config.refine and reads_network(settings.refine))
    own = [] if config.checkpoint is not None else ["segmentation"]
    return own + (["classifier"] if looks else [])


def _labels_word(settings: RunConfig) -> str:
    labels = settings.segmenter.labels
    word = labels if labels in (PSEUDO, GROUND_TRUTH) else Path(labels).parent.name or "given"
    return word if settings.data.get(CORRECTED) is None else f"{word}_{CORRECTED}"


def _evaluated_word(settings: RunConfig) -> str:
    config = settings.evaluate
    given = config.masks is not None or config.checkpoint is not None
    return f"{'given' if given else _labels_word(settings)}_{config.split}"


_ALL = (
    Stage(
        name="classifier",
        needs=lambda _: [],
        word=lambda settings: settings.classifier.backbone,
        choices=_classifier,
        check=lambda checks: checks.classifier(),
        trains=True,
        trial=lambda trials: trials.classifier(),
        work=works.classifier,
        lines=summaries.of_classifier,
    ),
    Stage(
        name="saliency",
        needs=lambda _: ["classifier"],
        word=lambda settings: name_of(settings.saliency.method),
        choices=_saliency,
        check=lambda checks: checks.saliency(),
        trial=lambda trials: trials.saliency(),
        work=works.saliency,
        lines=summaries.of_saliency,
    ),
    Stage(
        name="pseudo_labels",
        needs=lambda _: ["classifier", "saliency"],
        word=lambda settings: name_of(settings.refine),
        choices=_pseudo_labels,
        check=lambda checks: checks.pseudo_labels(),
        work=works.pseudo_labels,
        lines=summaries.of_pseudo_labels,
        score=Score(
            lambda settings, data: scored_split(settings.saliency, data),
            works.score_pseudo_masks,
        ),
    ),
    Stage(
        name="segmentation",
        needs=_needs_of_segmentation,
        word=_labels_word,
        choices=_segmentation,
        check=lambda checks: checks.segmentation(),
        trains=True,
        trial=lambda trials: trials.segmentation(),
        work=works.segmentation,
        lines=summaries.of_segmentation,
    ),
    Stage(
        name="relabel",
        needs=_needs_of_relabel,
        word=_labels_word,
        choices=_relabel,
        check=lambda checks: checks.relabel(),
        trial=lambda trials: trials.relabel(),
        work=works.relabel,
        lines=summaries.of_relabel,
        score=Score(lambda _, data: data.scored, works.score_relabelled),
    ),
    Stage(
        name="evaluate",
        needs=_needs_of_evaluate,
        word=_evaluated_word,
        choices=_evaluate,
        check=lambda checks: checks.evaluate(),
        trial=lambda trials: trials.evaluate(),
        work=works.evaluate,
        lines=summaries.of_evaluate,
        score=Score(
            lambda settings, data: evaluated_split(settings.evaluate, data),
            works.score_predictions,
        ),
        afterwards=export_for_server,
    ),
)
STAGES = {stage.name: stage for stage in _ALL}

CHAINS: dict[Command, tuple[str, ...]] = {
    Command.masks: ("pseudo_labels",),
    Command.all: ("segmentation", "evaluate"),
}
"""Commands that make these stages and everything they need."""


def in_order(names: Iterable[str], settings: RunConfig) -> list[Stage]:
    """These stages and everything that they need under the settings, in the order of the table."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += STAGES[name].needs(settings)
    return [stage for stage in _ALL if stage.name in found]
