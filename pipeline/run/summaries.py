"""What the summary at the end of a command says of each stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.base.config import GROUND_TRUTH, PSEUDO
from pipeline.base.terminal import Headline, ToPaste, number
from pipeline.formats.corrected import plus_masks
from pipeline.means import miou, scope
from pipeline.run.stage import Lines, Outcome
from pipeline.stages.agreement import Agreement
from pipeline.stages.own_files import CHECKPOINT
from pipeline.stages.predictions import predictions_folder

_FEW_STEPS = 100  # of the optimiser; a network has hardly moved from where it began


def of_classifier(done: Outcome) -> Lines:
    """Average precision and where the checkpoint is."""
    precision = f"{number(done.summary['mAP'])} (mean over classes that occur)"
    yield "classifier mAP (val)", Headline(precision)
    yield "classifier", done.folder / CHECKPOINT
    yield from known("classifier", done)


def of_saliency(done: Outcome) -> Lines:
    """Where the maps are."""
    gone = "dropped" in done.summary
    yield "saliency maps", "removed once masks were made" if gone else done.folder / "maps"


def of_pseudo_labels(done: Outcome) -> Lines:
    """The honest scores, the oracle beside the seed's, and where the masks are."""
    scores = done.summary.get("scores")
    if scores:
        oracle, split = scores["oracle"], scores["split"]
        best = (
            f"{number(oracle['mIoU'])}, threshold {oracle['threshold']:.2f} chosen with the masks"
        )
        seed = f"{_mean(scores['seeds'])}, threshold fixed beforehand"
        yield f"seed mIoU ({split}, honest)", seed
        yield f"seed mIoU ({split}, oracle)", best
    yield from _masks(done, "pseudo-masks", "seed")


def of_relabel(done: Outcome) -> Lines:
    """The scores, and where the masks are."""
    scores = done.summary.get("scores")
    if scores:
        own = f"relabelled: segmenter's own mIoU{_plus(done)} ({scores['split']}, honest)"
        yield own, _mean(scores["seeds"])
    yield from _masks(done, "relabelled masks", "segmenter's own")
    again = f"tsgb run, the same settings, and segmenter.labels={done.folder / 'masks'}"
    yield "learn from these", ToPaste(again)


def of_segmentation(done: Outcome) -> Lines:
    """Where the checkpoint is."""
    yield _network(done), done.folder / CHECKPOINT
    yield from known("segmentation", done)


def of_evaluate(done: Outcome) -> Lines:
    """The score with its protocol, and where the predictions are."""
    scores, config = done.summary.get("scores"), done.settings.evaluate
    if scores:
        value = f"{_mean(scores)}; {scores['protocol']}"
        is_twin = done.settings.segmenter.labels == GROUND_TRUTH
        yield f"{_network(done)} mIoU", value if is_twin else Headline(value)
        yield from _means(done, {"mIoU": scores})
    else:
        yield _network(done), "not scored: the split has no ground truth"
    yield from known("evaluate", done)
    yield f"predictions of the {_network(done)}", predictions_folder(config, done.folder)


def known(stage: str, done: Outcome) -> Iterator[tuple[str, str]]:
    """What is known of a network without ground truth: nothing for most stages.

    Too short a training; how far predictions show what the labels name; what is never predicted.
    """
    if stage == "classifier":
        yield from _few_steps(done, "classifier")
    elif done.settings.segmenter.labels == GROUND_TRUTH:
        return  # of the twin its score says more
    elif stage == "segmentation":
        yield from _few_steps(done, "segmenter")
    elif stage == "evaluate" and "agreement" in done.summary:
        yield from _agreement(done.summary["agreement"], _network(done))


def _few_steps(done: Outcome, network: str) -> Iterator[tuple[str, str]]:
    """A line if the training was too short to learn anything."""
    steps = done.summary["steps"]
    if steps < _FEW_STEPS:
        remedy = f"Set {network}.min_steps={_FEW_STEPS} or more"
        value = f"{steps} steps; with fewer than {_FEW_STEPS} a network hardly learns. {remedy}"
        yield f"{network}: too short a training", value


def _agreement(found: Agreement, network: str) -> Iterator[tuple[str, str]]:
    """How far predictions show what the labels name; classes that are predicted nowhere."""
    total = Counter[str]()
    for counts in found.values():
        total.update(counts)
    yield f"{network}: named classes that it predicts", f"{total['both']} of {total['named']}"
    yield f"{network}: predicted classes that are named", f"{total['both']} of {total['predicted']}"
    never = [name for name, n in found.items() if n["named"] and not n["predicted"]]
    if never:
        remedy = "Look at the training masks, and train longer (segmenter.min_steps)"
        value = f"{', '.join(never)}, although labels name them. {remedy}"
        yield f"{network}: predicted in no image", value


def label_scores(summary: Mapping[str, Any], seeds: str) -> dict[str, dict[str, Any]]:
    """Honest scores by what is scored, ``seeds/`` by a word; empty without ground truth."""
    scores = summary.get("scores")
    kinds = {seeds: "seeds", "refined": "refined", "training masks": "masks"}
    return {title: scores[kind] for title, kind in kinds.items()} if scores else {}


def _masks(done: Outcome, name: str, seeds: str) -> Lines:
    """Scores of refined and training masks, means over chosen classes, and the folder."""
    scores = done.summary.get("scores")
    if scores:
        split, masks = scores["split"], scores["masks"]
        covered = f"{_mean(masks)} on {masks['coverage'] or 0.0:.0%} of the pixels, the others void"
        yield f"refined mIoU{_plus(done)} ({split}, honest)", _mean(scores["refined"])
        yield f"training masks mIoU{_plus(done)} ({split}, honest)", Headline(covered)
        yield from _means(done, label_scores(done.summary, seeds))
    else:
        yield name, "not scored: there is no ground truth"
    yield name, done.folder / "masks"


def _means(done: Outcome, scores: Mapping[str, Mapping[str, Any]]) -> Lines:
    """Means over background and the chosen classes, if there is a choice."""
    chosen = done.settings.evaluate.classes
    if chosen:
        means = [f"{word} {_mean(values, chosen)}" for word, values in scores.items()]
        yield f"  over background, {', '.join(chosen)}", ", ".join(means)


def _mean(scores: Mapping[str, Any], chosen: Sequence[str] = ()) -> str:
    """The mIoU, and the classes that it is over."""
    return f"{number(miou(scores, chosen))} (mean over {scope(scores, chosen)})"


def _network(done: Outcome) -> str:
    """Which segmenter it is: by what it learned from, or given; with its corrected masks."""
    config, labels = done.settings.evaluate, done.settings.segmenter.labels
    names = {PSEUDO: "segmenter", GROUND_TRUTH: "twin"}
    name = names.get(labels, f"segmenter of {labels}")
    if config.masks is not None or config.checkpoint is not None:
        name = "given network"
    return f"{name}{_plus(done)}"


def _plus(done: Outcome) -> str:
    """How many corrected masks the segmenter learned from, which every number of it says."""
    return plus_masks(done.summary.get("corrected_masks", 0))
