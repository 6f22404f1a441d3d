"""`stage=report`: one page about everything that the stages left."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.files import write_bytes
from pipeline.base.terminal import ToPaste
from pipeline.commands.run_facts import (
    described,
    plane_words,
    share_words,
    state_of,
    what_next,
    what_was_run,
)
from pipeline.commands.run_images import IOU, RunImages
from pipeline.commands.run_results import RunResults
from pipeline.means import miou, scope
from pipeline.report import page
from pipeline.report.charts import Chart, Points, histogram, loss_chart
from pipeline.report.gallery import Gallery
from pipeline.report.score_tables import (
    average_precision_table,
    confusion,
    counted_in_words,
    iou_table,
    of_images,
)
from pipeline.report.tables import Cell, Column, Content, Table, percent
from pipeline.run.manifest import require_stages
from pipeline.run.run import Run
from pipeline.run.stage import Outcome
from pipeline.run.summaries import known
from pipeline.stages.predictions import evaluated_split

Row = list[Content]

_HELD_OUT = "held_out_loss"  # as pipeline.stages.held_out logs it
_LADDER = (
    "Each row is a later step of the same run. mIoU is the mean over classes of the intersection "
    "over union of prediction and ground truth; 100 is perfect. Ground-truth masks only affect "
    "numbers on this page: they choose and stop nothing, and only the supervised twin was trained "
    "on them. An oracle is chosen with the ground truth, to show what the best choice would have "
    "given; it is not a result."
)
_BLIND = (
    "No ground truth: the data have no masks, so nothing was scored. The average precision of the "
    "classifier and the lines above need image labels only; the pictures below are the only check "
    "of the outlines."
)
_TRAINING = (
    "The running mean of the loss on training batches, which should fall and then level off. The "
    "classifier's loss on some held-out images stands beside it where it costs less than 2 % of "
    "the time; it needs image labels only. A segmenter has none, since that would take "
    "ground-truth masks. The checkpoint of the last epoch is used; no score chooses it."
)
_KINDS = {"seeds": "seed", "refined": "refined mask", "masks": "training mask"}


def run(run: Run) -> None:
    """Write ``report/index.html`` from what is there; always, since it takes seconds.

    Raises:
        MissingArtifactError: No stage has run.
    """
    require_stages(run.folder)
    path = run.output / "report" / "index.html"
    found = RunResults(run)
    write_bytes(path, page.render(_page(found, RunImages(found, path))).encode())
    run.terminal.say("look at", ToPaste(path))


def _page(found: RunResults, images: RunImages) -> page.Page:
    run, data, gallery = found.run, found.run.data, images.gallery
    shown: list[page.Block] = (
        [page.Pictures(gallery, page.legend(found.classes))] if gallery else []
    )
    curves = list(_curves(found))
    trained: list[page.Block] = [page.Text(_TRAINING), page.Charts(curves)] if curves else []
    sections = [
        page.Section("", list(_numbers(found)), "Numbers"),
        page.Section("Pictures", [*_histograms(gallery), *shown], "Pictures"),
        page.Section("Classes", list(_tables(found)), "Classes"),
        page.Section(
            "Which class is taken for which", _confusions(images, found.classes), "Confusion"
        ),
        page.Section("Training", trained, "Training"),
        page.Section("What was run", list(what_was_run(found)), "What was run"),
        page.Section("What next", what_next(found), "What next"),
    ]
    title = f"{data.name}: {len(data.classes)} classes"
    return page.Page(title, str(run.output), page.now(), sections)


def _numbers(found: RunResults) -> Iterator[page.Block]:
    headlines = list(_headlines(found))
    if headlines:
        yield page.Numbers(headlines)
    else:
        yield page.Text(
            "There are no numbers yet; the table of stages below says what to run.", "plain"
        )
    states = {name: state_of(step) for name, step in found.steps.items()}
    left = [f"{name} ({state})" for name, state in states.items() if state != "done"]
    if left:
        yield page.Text(f"Not on this page: {', '.join(left)}. What was run says how to get them.")
    known_facts = list(_known(found))
    if known_facts:
        yield page.Fold("Known without ground truth", [page.Facts(known_facts)], open=True)
    ladder = [*_mask_scores(found), *_segmenter_scores(found)]
    columns = [Column("what", "text"), Column("mIoU"), Column("scored on", "text")]
    data, evaluated = found.run.data, found.run.settings.evaluate
    if ladder:
        yield Table("From saliency to a segmenter", columns, ladder, hint=_LADDER)
    elif not (data.scored.has_masks or evaluated_split(evaluated, data).has_masks):
        yield page.Text(_BLIND, "remark")


def _headlines(found: RunResults) -> Iterator[page.Headline]:
    chosen = found.run.chosen_classes
    for title, scores in found.segmenters.items():
        count = f", {scores['images']} images" if "images" in scores else ""
        yield _of_labels(title, scores, chosen, f"{scores['protocol']}{count}")
    if len(found.segmenters) == 2:
        scored = list(found.segmenters.values())
        own, twin = (miou(scores, chosen) for scores in scored)
        same = scored[0].get("images") == scored[1].get("images")
        share = own / twin if same and own is not None and twin else None
        note = "this mIoU of the segmenter over that of the twin, which learned from ground truth"
        yield page.Headline("of full supervision", f"{percent(share)} %", note)
    masks = found.summary("pseudo_labels").get("scores")
    if masks:
        note = f"{of_images(masks['split'], masks.get('images'))}, no oracle"
        yield _of_labels("refined masks", masks["refined"], chosen, note)
    trained = found.summary("classifier")
    if trained:
        images = of_images(trained.get("split", "val"), trained.get("held_out"))
        note = f"{images}, mean average precision over the classes that "
        note += "occur"
        yield page.Headline("mAP of the classifier", f"{percent(trained['mAP'])} %", note)


def _of_labels(
    what: str, scores: Mapping[str, Any], chosen: Sequence[str], note: str
) -> page.Headline:
    """The mean over background and the chosen classes, and small that over all that occur."""
    if chosen:
        note += f"; background + {len(chosen)} chosen classes"
        note += f" ({percent(scores['mIoU'])} % over {scope(scores)})"
    note += f"; mean over {scope(scores, chosen)}"
    return page.Headline(f"mIoU of the {what}", f"{percent(miou(scores, chosen))} %", note)


def _mask_scores(found: RunResults) -> Iterator[Row]:
    scores = found.summary("pseudo_labels").get("scores")
    if not scores:
        return
    config, split = found.run.settings, scores["split"]
    short = of_images(split, scores.get("images"))
    seed, refinement = config.seed, described("refine", config.refine)
    plane = plane_words(seed)
    fixed = f"{split}, {plane} at {seed.threshold:g} {share_words(seed)}, fixed beforehand"
    pair = f"{split}, {plane}: object from {seed.foreground:g}, background below "
    pair += f"{seed.background:g} {share_words(seed)}"
    how = {
        "seeds": f"{fixed}; {counted_in_words(scores['seeds'])}",
        "refined": f"{fixed}; {refinement}; {counted_in_words(scores['refined'])}",
        "masks": f"{pair}; {refinement}; {counted_in_words(scores['masks'])}",
    }
    for kind, name in _KINDS.items():
        yield _step(name, scores[kind]["mIoU"], how[kind], short)
        if kind == "seeds":
            oracle = scores["oracle"]
            text = f"{split}, {plane} at {oracle['threshold']:.2f} {share_words(seed)}"
            name = "seed, oracle: threshold chosen with the masks"
            yield _step(name, oracle["mIoU"], text, short, tone="oracle")


def _step(name: str, value: float | None, how: str, short: str, tone: str = "") -> Row:
    """The mIoU after one step of the pipeline, and how it was scored."""
    return [Cell(name, tone=tone), Cell(value, tone=tone), Cell(short, more=how)]


def _segmenter_scores(found: RunResults) -> Iterator[Row]:
    yield from _relabelled_scores(found)
    for title, scores in found.segmenters.items():
        how = f"{scores['protocol']}; {counted_in_words(scores)}"
        short = of_images(scores.get("split", "val"), scores.get("images"))
        yield _step(title, scores["mIoU"], how, short)


def _relabelled_scores(found: RunResults) -> Iterator[Row]:
    """Scores of the masks that the segmenter made of its training images."""
    scores, config = found.summary("relabel").get("scores"), found.run.settings
    if not scores:
        return
    least = config.relabel.min_confidence
    how = {
        "seeds": "the segmenter's own, classes of the image's label only",
        "refined": described("refine", config.refine) if config.relabel.refine else "not refined",
        "masks": f"void where the segmenter gives the label less than {least:g}",
    }
    for kind, words in how.items():
        text = f"{scores['split']}, {words}; {counted_in_words(scores[kind])}"
        short = of_images(scores["split"], scores.get("images"))
        title = f"{_KINDS[kind]}, relabelled"
        yield _step(title, scores[kind]["mIoU"], text, short)


def _known(found: RunResults) -> Iterator[tuple[str, str]]:
    """What needs no ground truth, of the twin too."""
    for name, folder in found.done.items():
        step = found.steps[name]
        outcome = Outcome(step.run.settings, folder.path, folder.summary)
        yield from known(step.stage.name, outcome)


def _tables(found: RunResults) -> Iterator[Table]:
    masks = found.summary("pseudo_labels").get("scores") or {}
    columns = {title: masks[kind] for kind, title in _KINDS.items() if kind in masks}
    if "masks" in masks:
        covered = percent(masks["masks"].get("coverage"))
        columns[f"training mask, void left out ({covered} % of pixels)"] = columns.pop(
            _KINDS["masks"]
        )
    columns |= found.segmenters
    if columns:
        yield iou_table(columns, found.classes, found.run.chosen_classes)
    if "classifier" in found.done:
        yield average_precision_table(found.summary("classifier"), found.classes)


def _confusions(images: RunImages, classes: Sequence[str]) -> list[page.Block]:
    found: list[page.Block] = []
    for number, ((what, split), counts) in enumerate(images.counts.items()):
        found.append(page.Fold(f"{what} on {split}", confusion(counts, classes), open=not number))
    return found


def _histograms(gallery: Gallery | None) -> Iterator[page.Histogram]:
    """The mIoU of single images, by split."""
    images = gallery.images if gallery else ()
    for split in dict.fromkeys(image.split for image in images):
        shown = [image for image in images if image.split == split]
        scores = [score for image in shown if (score := image.numbers.get(IOU)) is not None]
        if scores:
            title = f"mIoU of each of the {len(scores)} images of {split}"
            yield page.Histogram(title, histogram(scores))


def _curves(found: RunResults) -> Iterator[Chart]:
    for name in found.done:
        if name == "classifier" or name.startswith("segmentation"):
            curve = loss_chart(name, *_losses(found.done[name].path))
            if curve is not None:
                yield curve


def _losses(folder: Path) -> tuple[Points, Points]:
    """(step, loss) of batches and of held-out images, in all the sessions that a run took."""
    found: dict[str, dict[float, float]] = {"loss": {}, _HELD_OUT: {}}
    for path in sorted(folder.glob("logs*/metrics.csv"), key=lambda p: (len(str(p)), p)):
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                for name, values in found.items():
                    if row.get(name) and row.get("step"):
                        values[float(row["step"])] = float(row[name])
    training, held_out = (sorted(values.items()) for values in found.values())
    return training, held_out
