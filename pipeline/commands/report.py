"""`stage=report`: one page about everything that the stages left."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.base.config import ClassifierConfig, Plane, RunConfig, SeedConfig, SegmenterConfig
from pipeline.base.files import write_bytes
from pipeline.commands.next_steps import network_place, predict_command, review_command
from pipeline.commands.run_images import IOU, RunImages
from pipeline.commands.run_results import RunResults
from pipeline.data.checks import describe
from pipeline.formats.corrected import plus_masks
from pipeline.means import miou, scope
from pipeline.report.charts import Chart, Points, histogram, loss_chart
from pipeline.report.choices import flattened
from pipeline.report.gallery import Gallery
from pipeline.report.page import (
    Block,
    Charts,
    Code,
    Commands,
    Facts,
    Fold,
    Headline,
    Histogram,
    Numbers,
    Page,
    Pictures,
    Section,
    Text,
    legend,
    now,
    render,
)
from pipeline.report.score_tables import (
    average_precision_table,
    confusion,
    counted_in_words,
    data_table,
    iou_table,
    of_images,
)
from pipeline.report.tables import Cell, Column, Content, Table, duration, percent
from pipeline.run.building import name_of
from pipeline.run.executor import Step
from pipeline.run.manifest import require_stages
from pipeline.run.options import word_of
from pipeline.run.provenance import made_by
from pipeline.run.run import Run
from pipeline.run.settings import default_settings
from pipeline.run.stage import Outcome
from pipeline.run.summaries import known
from pipeline.stages.own_files import CHECKPOINT
from pipeline.stages.predictions import evaluated_split

Row = list[Content]

_HELD_OUT = "held_out_loss"  # as the classifier's task logs it
_FEW = 8  # classes of a table that is open at first
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
    "The running mean of the loss on training batches. It should fall and then level off. The "
    "checkpoint of the last epoch is used; no score chooses it."
)
_RUN = (
    "The same settings, data and code give the same result. The command in the last column runs a "
    "stage that is missing or whose inputs have changed; all others are skipped."
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
    write_bytes(path, render(_page(found, RunImages(found, path))).encode())
    run.terminal.say("report", str(path))


def _page(found: RunResults, images: RunImages) -> Page:
    run, data, gallery = found.run, found.run.data, images.gallery
    shown: list[Block] = [Pictures(gallery, legend(found.classes))] if gallery else []
    curves = list(_curves(found))
    trained: list[Block] = [Text(_TRAINING), Charts(curves)] if curves else []
    sections = [
        Section("", list(_numbers(found)), "Numbers"),
        Section("Pictures", [*_histograms(gallery), *shown], "Pictures"),
        Section("Classes", list(_tables(found)), "Classes"),
        Section("Which class is taken for which", _confusions(images, found.classes), "Confusion"),
        Section("Training", trained, "Training"),
        Section("What was run", list(_what_was_run(found)), "What was run"),
        Section("What next", _next(found), "What next"),
    ]
    title = f"{data.name}: {len(data.classes)} classes"
    return Page(title, str(run.output), now(), sections)


def _numbers(found: RunResults) -> Iterator[Block]:
    headlines = list(_headlines(found))
    if headlines:
        yield Numbers(headlines)
    else:
        yield Text("There are no numbers yet; the table of stages below says what to run.", "plain")
    states = {name: _state(step) for name, step in found.steps.items()}
    left = [f"{name} ({state})" for name, state in states.items() if state != "done"]
    if left:
        yield Text(f"Not on this page: {', '.join(left)}. What was run says how to get them.")
    known_facts = list(_known(found))
    if known_facts:
        yield Fold("Known without ground truth", [Facts(known_facts)], open=True)
    ladder = [*_mask_scores(found), *_segmenter_scores(found)]
    columns = [Column("what", "text"), Column("mIoU"), Column("scored on", "text")]
    data, evaluated = found.run.data, found.run.settings.evaluate
    if ladder:
        yield Table("From saliency to a segmenter", columns, ladder, hint=_LADDER)
    elif not (data.scored.has_masks or evaluated_split(evaluated, data).has_masks):
        yield Text(_BLIND, "remark")


def _headlines(found: RunResults) -> Iterator[Headline]:
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
        yield Headline("of full supervision", f"{percent(share)} %", note)
    masks = found.summary("pseudo_labels").get("scores")
    if masks:
        note = f"{of_images(masks['split'], masks.get('images'))}, no oracle"
        yield _of_labels("refined masks", masks["refined"], chosen, note)
    trained = found.summary("classifier")
    if trained:
        held_out, split = found.run.data.val, trained.get("split", "val")
        images = len(held_out.items) if split == held_out.name else None
        note = f"{of_images(split, images)}, mean average precision over the classes that "
        note += "occur"
        yield Headline("mAP of the classifier", f"{percent(trained['mAP'])} %", note)


def _of_labels(what: str, scores: Mapping[str, Any], chosen: Sequence[str], note: str) -> Headline:
    """The mean over background and the chosen classes, and small that over all that occur."""
    if chosen:
        note += f"; background + {len(chosen)} chosen classes"
        note += f" ({percent(scores['mIoU'])} % over {scope(scores)})"
    note += f"; mean over {scope(scores, chosen)}"
    return Headline(f"mIoU of the {what}", f"{percent(miou(scores, chosen))} %", note)


def _mask_scores(found: RunResults) -> Iterator[Row]:
    scores = found.summary("pseudo_labels").get("scores")
    if not scores:
        return
    config, split = found.run.settings, scores["split"]
    short = of_images(split, scores.get("images"))
    seed, refinement = config.seed, _described(config.refine)
    plane = _plane(seed)
    fixed = f"{split}, {plane} at {seed.threshold:g} {_of_what(seed)}, fixed beforehand"
    pair = f"{split}, {plane}: object from {seed.foreground:g}, background below "
    pair += f"{seed.background:g} {_of_what(seed)}"
    how = {
        "seeds": f"{fixed}; {counted_in_words(scores['seeds'])}",
        "refined": f"{fixed}; {refinement}; {counted_in_words(scores['refined'])}",
        "masks": f"{pair}; {refinement}; {counted_in_words(scores['masks'])}",
    }
    for kind, name in _KINDS.items():
        yield _step(name, scores[kind]["mIoU"], how[kind], short)
        if kind == "seeds":
            oracle = scores["oracle"]
            text = f"{split}, {plane} at {oracle['threshold']:.2f} {_of_what(seed)}"
            name = "seed, oracle: threshold chosen with the masks"
            yield _step(name, oracle["mIoU"], text, short, tone="oracle")


def _step(name: str, value: float | None, how: str, short: str, tone: str = "") -> Row:
    """The mIoU after one step of the pipeline, and how it was scored."""
    return [Cell(name, tone=tone), Cell(value, tone=tone), Cell(short, more=how)]


def _plane(seed: SeedConfig) -> str:
    """The background plane in words."""
    if seed.plane == Plane.constant:
        return "constant background"
    return "background (1 - strongest map)^alpha, tied"


def _of_what(seed: SeedConfig) -> str:
    """What a threshold is a share of."""
    compete = f" after a competition at temperature {seed.competition:g},"
    maps = f"maps{compete if seed.competition else ''} to the power {seed.power:g}"
    return f"of the maximum of {maps}"


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
        "refined": _described(config.refine) if config.relabel.refine else "not refined",
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


def _state(step: Step) -> str:
    folder, manifest = step.folder, step.folder.manifest
    if manifest and folder.is_done:
        return "done"
    if not manifest:
        return "missing"
    return "not finished" if folder.is_of(manifest) else "made by other code"


def _stages(found: RunResults) -> Table:
    """The state of each stage, its time, and the command that completes it."""
    manifests = [step.folder.manifest for step in found.steps.values()]
    total = sum(manifest.seconds for manifest in manifests if manifest)
    names = ("stage", "state", "time", "folder", "code", "to do")
    columns = [Column(name, "number" if name == "time" else "text") for name in names]
    rows = [_stage_row(name, step, total) for name, step in found.steps.items()]
    return Table("", columns, rows, hint=_RUN)


def _stage_row(name: str, step: Step, total: float) -> Row:
    folder, manifest, state = step.folder, step.folder.manifest, _state(step)
    if state != "done" or not manifest:
        return [name, Cell(state, tone="bad"), Cell(""), "", "", Cell(step.command, tone="code")]
    time = duration(manifest.seconds) + (", in several sessions" if manifest.resumed else "")
    share = Cell(manifest.seconds, time, bar=manifest.seconds / total if total else 0.0)
    code = str(manifest.made_by.get("git", ""))
    return [name, Cell(state, tone="good"), share, folder.path.name, code, ""]


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


def _confusions(images: RunImages, classes: Sequence[str]) -> list[Block]:
    found: list[Block] = []
    for number, ((what, split), counts) in enumerate(images.counts.items()):
        found.append(Fold(f"{what} on {split}", confusion(counts, classes), open=not number))
    return found


def _histograms(gallery: Gallery | None) -> Iterator[Histogram]:
    """The mIoU of single images, by split."""
    images = gallery.images if gallery else ()
    for split in dict.fromkeys(image.split for image in images):
        shown = [image for image in images if image.split == split]
        scores = [score for image in shown if (score := image.numbers.get(IOU)) is not None]
        if scores:
            title = f"mIoU of each of the {len(scores)} images of {split}"
            yield Histogram(title, histogram(scores))


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


def _what_was_run(found: RunResults) -> Iterator[Block]:
    data, settings = found.run.data, found.run.settings
    yield _stages(found)
    yield Facts(_facts(found))
    yield Fold("Images of every split", [data_table(describe(data), data.classes)],
               open=len(data.classes) <= _FEW)  # fmt: skip
    changed = _changed(settings)
    if changed:
        yield Fold(
            "Settings that are not the defaults of this program", [Facts(changed)], open=True
        )
    yield Fold("Versions of packages", [Facts(made_by()["packages"])])
    yield Fold("All settings", [Code(OmegaConf.to_yaml(OmegaConf.create(asdict(settings))))])


def _next(found: RunResults) -> list[Block]:
    commands = _commands(found.run)
    return [Commands(commands), Facts(_places(found))] if commands else []


def _facts(found: RunResults) -> dict[str, str]:
    config, maker = found.run.settings, made_by()
    plus = plus_masks(found.summary("segmentation").get("corrected_masks", 0))
    scales = ", ".join(f"{scale:g}" for scale in config.saliency.scales)
    classes, segmenter = config.classifier, config.segmenter
    mirror = "with" if config.saliency.flip else "without"
    return {
        "classifier": f"{classes.library}/{classes.backbone}, initial weights {classes.weights}, "
        f"{_length(classes)}",
        "saliency": f"{_described(config.saliency.method)} at scales {scales}, {mirror} mirror",
        "background": f"{_plane(config.seed)} at {config.seed.threshold:g}, for training masks at "
        f"{config.seed.foreground:g} and {config.seed.background:g} {_of_what(config.seed)}",
        "refinement": _described(config.refine),
        "training masks": f"{segmenter.labels}{plus}",
        "segmenter": f"{segmenter.arch} with {segmenter.encoder}, initial weights "
        f"{segmenter.weights}, {_length(segmenter)}",
        "random seed": str(config.random_seed),
        "code": str(maker["git"]),
        "machine": f"Python {maker['python']}, {maker['platform']}",
    }


def _commands(run: Run) -> dict[str, str]:
    """What to do next, with this run's own folders."""
    if not run.stage("segmentation").is_done:
        return {}
    place = shlex.quote(str(network_place(run)))
    return {
        "label new photos": predict_command(run),
        "take the network away": f"tsgb export {place} --format onnx",
        "list what to correct first": review_command(run),
        "masks for a labelling tool": f"tsgb masks export {place} --format cvat",
        "compare the runs in this folder": f"tsgb run run_dir={shlex.quote(str(run.folder))} "
        "stage=compare",
    }


def _places(found: RunResults) -> dict[str, str]:
    """Where the results lie."""
    named = {"segmentation": ("checkpoint of the segmenter", CHECKPOINT),
             "pseudo_labels": ("pseudo-masks", "masks"),
             "evaluate": ("predictions", "predictions")}  # fmt: skip
    return {
        title: str(found.done[stage].path / name)
        for stage, (title, name) in named.items()
        if stage in found.done
    }


def _changed(settings: RunConfig) -> dict[str, str]:
    """Settings with other values than those of a command without any words."""
    usual = _flat(default_settings())
    return {k: v for k, v in _flat(settings).items() if usual.get(k) != v}


def _flat(settings: RunConfig) -> dict[str, str]:
    """Values as text by dotted name."""
    found = flattened("", {k: v for k, v in asdict(settings).items() if k != "stage"}, _word)
    return {name.removeprefix("."): str(setting.value) for name, setting in found.items()}


def _word(group: str, node: Mapping[str, Any]) -> str:
    return word_of(group.removeprefix("."), node)


def _length(settings: ClassifierConfig | SegmenterConfig) -> str:
    least = f", at least {settings.min_steps} steps" if settings.min_steps else ""
    return f"{settings.epochs} epochs of batches of {settings.batch_size}{least}"


def _described(node: dict[str, Any]) -> str:
    """A group in one line: the name of what it builds, and its options."""
    options = ", ".join(f"{k} {json.dumps(v)}" for k, v in node.items() if k != "_target_")
    return f"{name_of(node)} ({options})" if options else name_of(node)
