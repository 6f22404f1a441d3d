"""`stage=report`: one page about everything that the stages left."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.base.config import ClassifierConfig, Plane, RunConfig, SeedConfig, SegmenterConfig
from pipeline.base.files import write_bytes
from pipeline.base.terminal import ToPaste
from pipeline.commands.next_steps import network_place, predict_command, review_command
from pipeline.commands.run_images import IOU, RunImages
from pipeline.commands.run_results import RunResults
from pipeline.data.checks import describe
from pipeline.formats.corrected import plus_masks
from pipeline.means import miou, scope
from pipeline.report import page as report
from pipeline.report.charts import Curve, histogram, loss_curve
from pipeline.report.comparison import flattened
from pipeline.report.gallery import Gallery
from pipeline.run.building import name_of
from pipeline.run.executor import Step
from pipeline.run.manifest import require_stages
from pipeline.run.provenance import made_by
from pipeline.run.run import Run
from pipeline.run.settings import default_settings
from pipeline.run.stage import Outcome
from pipeline.run.summaries import known
from pipeline.stages.own_files import CHECKPOINT
from pipeline.stages.predictions import evaluated_split

_KINDS = {"seeds": "seed", "refined": "refined mask", "masks": "training mask"}


def run(run: Run) -> None:
    """Write ``report/index.html`` from what is there; always, since it takes seconds.

    Raises:
        MissingArtifactError: No stage has run.
    """
    require_stages(run.folder)
    path = run.output / "report" / "index.html"
    found = RunResults(run)
    write_bytes(path, report.render(_page(found, RunImages(found, path))).encode())
    run.terminal.say("look at", ToPaste(path))


def _page(found: RunResults, images: RunImages) -> report.Page:
    run, data, gallery = found.run, found.run.data, images.gallery
    times = [step.folder.manifest.seconds for step in found.steps.values() if step.folder.manifest]
    return report.Page(
        title=f"{data.name}: {len(data.classes)} classes",
        folder=str(run.output),
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        headlines=list(_headlines(found)),
        steps=[*_mask_scores(found), *_segmenter_scores(found)],
        stages=[_state(name, step, sum(times)) for name, step in found.steps.items()],
        data=report.data_table(describe(data), data.classes),
        known=list(_known(found)),
        tables=list(_tables(found)),
        gallery=gallery,
        confusions=list(_confusions(images, found.classes)),
        histograms=list(_histograms(gallery)),
        legend=report.legend(found.classes),
        curves=list(_curves(found)),
        facts=_facts(found),
        commands=_commands(run),
        places=_places(found),
        changed=_changed(run.settings),
        packages=made_by()["packages"],
        config=OmegaConf.to_yaml(OmegaConf.create(asdict(run.settings))),
        has_ground_truth=data.scored.has_masks
        or evaluated_split(run.settings.evaluate, data).has_masks,
    )


def _headlines(found: RunResults) -> Iterator[report.Headline]:
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
        yield report.Headline("of full supervision", f"{report.percent(share)} %", note)
    masks = found.summary("pseudo_labels").get("scores")
    if masks:
        note = f"{report.of_images(masks['split'], masks.get('images'))}, no oracle"
        yield _of_labels("refined masks", masks["refined"], chosen, note)
    trained = found.summary("classifier")
    if trained:
        held_out, split = found.run.data.val, trained.get("split", "val")
        images = len(held_out.items) if split == held_out.name else None
        note = f"{report.of_images(split, images)}, mean average precision over the classes that "
        note += "occur"
        yield report.Headline("mAP of the classifier", f"{report.percent(trained['mAP'])} %", note)


def _of_labels(
    what: str, scores: Mapping[str, Any], chosen: Sequence[str], note: str
) -> report.Headline:
    """The mean over background and the chosen classes, and small that over all that occur."""
    if chosen:
        note += f"; background + {len(chosen)} chosen classes"
        note += f" ({report.percent(scores['mIoU'])} % over {scope(scores)})"
    note += f"; mean over {scope(scores, chosen)}"
    return report.Headline(f"mIoU of the {what}", f"{report.percent(miou(scores, chosen))} %", note)


def _mask_scores(found: RunResults) -> Iterator[report.ScoreStep]:
    scores = found.summary("pseudo_labels").get("scores")
    if not scores:
        return
    config, split = found.run.settings, scores["split"]
    short = report.of_images(split, scores.get("images"))
    seed, refinement = config.seed, _described(config.refine)
    plane = _plane(seed)
    fixed = f"{split}, {plane} at {seed.threshold:g} {_of_what(seed)}, fixed beforehand"
    pair = f"{split}, {plane}: object from {seed.foreground:g}, background below "
    pair += f"{seed.background:g} {_of_what(seed)}"
    how = {
        "seeds": f"{fixed}; {report.counted_in_words(scores['seeds'])}",
        "refined": f"{fixed}; {refinement}; {report.counted_in_words(scores['refined'])}",
        "masks": f"{pair}; {refinement}; {report.counted_in_words(scores['masks'])}",
    }
    for kind, name in _KINDS.items():
        yield report.ScoreStep(name, scores[kind]["mIoU"], how[kind], short)
        if kind == "seeds":
            oracle = scores["oracle"]
            text = f"{split}, {plane} at {oracle['threshold']:.2f} {_of_what(seed)}"
            name = "seed, oracle: threshold chosen with the masks"
            yield report.ScoreStep(name, oracle["mIoU"], text, short, oracle=True)


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


def _segmenter_scores(found: RunResults) -> Iterator[report.ScoreStep]:
    yield from _relabelled_scores(found)
    for title, scores in found.segmenters.items():
        how = f"{scores['protocol']}; {report.counted_in_words(scores)}"
        short = report.of_images(scores.get("split", "val"), scores.get("images"))
        yield report.ScoreStep(title, scores["mIoU"], how, short)


def _relabelled_scores(found: RunResults) -> Iterator[report.ScoreStep]:
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
        text = f"{scores['split']}, {words}; {report.counted_in_words(scores[kind])}"
        short = report.of_images(scores["split"], scores.get("images"))
        title = f"{_KINDS[kind]}, relabelled"
        yield report.ScoreStep(title, scores[kind]["mIoU"], text, short)


def _known(found: RunResults) -> Iterator[tuple[str, str]]:
    """What needs no ground truth, of the twin too."""
    for name, folder in found.done.items():
        step = found.steps[name]
        outcome = Outcome(step.run.settings, folder.path, folder.summary)
        yield from known(step.stage.name, outcome)


def _state(name: str, step: Step, total: float) -> report.StageState:
    folder, manifest = step.folder, step.folder.manifest
    if manifest and folder.is_done:
        time = report.duration(manifest.seconds)
        time += ", in several sessions" if manifest.resumed else ""
        code = str(manifest.made_by.get("git", ""))
        share = manifest.seconds / total if total else 0.0
        return report.StageState(name, "done", time, share, folder=folder.path.name, code=code)
    if not manifest:
        return report.StageState(name, "missing", remedy=step.command)
    if folder.is_of(manifest):
        return report.StageState(name, "not finished", remedy=step.command)
    return report.StageState(name, "made by other code", remedy=step.command)


def _tables(found: RunResults) -> Iterator[report.Table]:
    masks = found.summary("pseudo_labels").get("scores") or {}
    columns = {title: masks[kind] for kind, title in _KINDS.items() if kind in masks}
    if "masks" in masks:
        covered = report.percent(masks["masks"].get("coverage"))
        columns[f"training mask, void left out ({covered} % of pixels)"] = columns.pop(
            _KINDS["masks"]
        )
    columns |= found.segmenters
    if columns:
        yield report.iou_table(columns, found.classes, found.run.chosen_classes)
    if "classifier" in found.done:
        yield report.average_precision_table(found.summary("classifier"), found.classes)


def _confusions(images: RunImages, classes: Sequence[str]) -> Iterator[report.Confusion]:
    for (what, split), counts in images.counts.items():
        yield report.confusion(f"{what} on {split}", counts, classes)


def _histograms(gallery: Gallery | None) -> Iterator[report.Histogram]:
    """The mIoU of single images, by split."""
    images = gallery.images if gallery else ()
    for split in dict.fromkeys(image.split for image in images):
        shown = [image for image in images if image.split == split]
        scores = [score for image in shown if (score := image.numbers.get(IOU)) is not None]
        if scores:
            title = f"mIoU of each of the {len(scores)} images of {split}"
            yield report.Histogram(title, histogram(scores))


def _curves(found: RunResults) -> Iterator[Curve]:
    for name in found.done:
        if name == "classifier" or name.startswith("segmentation"):
            curve = loss_curve(name, _losses(found.done[name].path))
            if curve is not None:
                yield curve


def _losses(folder: Path) -> list[tuple[float, float]]:
    """(step, loss) of what the CSV logger wrote, in all the sessions that a run took."""
    losses: dict[float, float] = {}
    for path in sorted(folder.glob("logs*/metrics.csv"), key=lambda p: (len(str(p)), p)):
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row.get("loss") and row.get("step")]
        losses |= {float(row["step"]): float(row["loss"]) for row in rows}
    return sorted(losses.items())


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
    found = flattened("", {k: v for k, v in asdict(settings).items() if k != "stage"})
    return {name.removeprefix("."): str(setting.value) for name, setting in found.items()}


def _length(settings: ClassifierConfig | SegmenterConfig) -> str:
    least = f", at least {settings.min_steps} steps" if settings.min_steps else ""
    return f"{settings.epochs} epochs of batches of {settings.batch_size}{least}"


def _described(node: dict[str, Any]) -> str:
    """A group in one line: the name of what it builds, and its options."""
    options = ", ".join(f"{k} {json.dumps(v)}" for k, v in node.items() if k != "_target_")
    return f"{name_of(node)} ({options})" if options else name_of(node)
