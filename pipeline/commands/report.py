"""`stage=report`: one page about everything that the stages left."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.base.arrays import Image
from pipeline.base.config import ClassifierConfig, Plane, SeedConfig, SegmenterConfig
from pipeline.base.files import write_bytes
from pipeline.commands.next_steps import predict_command, review_command
from pipeline.commands.run_results import TWIN, RunResults
from pipeline.data.catalogue import Item, Split
from pipeline.data.checks import describe
from pipeline.data.pixels import picture_of
from pipeline.data.truth import ground_truth
from pipeline.formats.corrected import plus_masks
from pipeline.means import miou, scope
from pipeline.networks.device import workers_of
from pipeline.report import page as report
from pipeline.report.pictures import encode_jpeg, overlay_labels, overlay_map, thumbnail
from pipeline.run.building import name_of
from pipeline.run.executor import Step
from pipeline.run.manifest import require_stages
from pipeline.run.provenance import made_by
from pipeline.run.run import Run
from pipeline.run.stage import Outcome
from pipeline.run.summaries import known
from pipeline.scoring import ConfusionMatrix
from pipeline.stages.corrected import without
from pipeline.stages.label_images import mask_path
from pipeline.stages.maps import map_path, masked_split, read_maps, scored_split
from pipeline.stages.own_files import read_labels
from pipeline.stages.predictions import evaluated_split, prediction_path

_WITHOUT_TRUTH = 8  # images that are shown where nothing can be sorted by score
_COLOURS = "Maps go from grey (zero) over red to light yellow (the map's maximum)."
_KINDS = {"seeds": "seed", "refined": "refined mask", "masks": "training mask"}


def run(run: Run) -> None:
    """Write ``report/index.html`` from what is there; always, since it takes seconds.

    Raises:
        MissingArtifactError: No stage has run.
    """
    require_stages(run.folder)
    path = run.output / "report" / "index.html"
    write_bytes(path, report.render(_page(RunResults(run))).encode())
    run.terminal.say("report", str(path))


def _page(found: RunResults) -> report.Page:
    run, data = found.run, found.run.data
    return report.Page(
        title=f"{data.name}: {len(data.classes)} classes",
        folder=str(run.output),
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        headlines=list(_headlines(found)),
        steps=[*_mask_scores(found), *_segmenter_scores(found)],
        stages=[_state(name, step) for name, step in found.steps.items()],
        data=report.data_table(describe(data), data.classes),
        known=list(_known(found)),
        tables=list(_tables(found)),
        galleries=[gallery for gallery in (_val_gallery(found), _train_gallery(found)) if gallery],
        legend=report.legend(found.classes),
        curves=list(_curves(found)),
        facts=_facts(found),
        packages=made_by()["packages"],
        config=OmegaConf.to_yaml(OmegaConf.create(asdict(run.settings))),
        has_ground_truth=data.scored.has_masks
        or evaluated_split(run.settings.evaluate, data).has_masks,
    )


def _headlines(found: RunResults) -> Iterator[report.Headline]:
    chosen = found.run.chosen_classes
    for title, scores in found.segmenters.items():
        yield _of_labels(title, scores, chosen, scores["protocol"])
    if len(found.segmenters) == 2:
        scored = list(found.segmenters.values())
        own, twin = (miou(scores, chosen) for scores in scored)
        same = scored[0].get("images") == scored[1].get("images")
        share = own / twin if same and own is not None and twin else None
        note = "this mIoU of the segmenter over that of the twin, which learned from ground truth"
        yield report.Headline("of full supervision", f"{report.percent(share)} %", note)
    masks = found.summary("pseudo_labels").get("scores")
    if masks:
        yield _of_labels("refined masks", masks["refined"], chosen, f"{masks['split']}, no oracle")
    trained = found.summary("classifier")
    if trained:
        note = f"{trained.get('split', 'val')}, mean average precision over the classes that occur"
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
        yield report.ScoreStep(name, scores[kind]["mIoU"], how[kind])
        if kind == "seeds":
            oracle = scores["oracle"]
            text = f"{split}, {plane} at {oracle['threshold']:.2f} {_of_what(seed)}"
            name = "seed, oracle: threshold chosen with the masks"
            yield report.ScoreStep(name, oracle["mIoU"], text, oracle=True)


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
        yield report.ScoreStep(title, scores["mIoU"], how)


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
        yield report.ScoreStep(f"{_KINDS[kind]}, relabelled", scores[kind]["mIoU"], text)


def _known(found: RunResults) -> Iterator[tuple[str, str]]:
    """What needs no ground truth, of the twin too."""
    for name, folder in found.done.items():
        step = found.steps[name]
        outcome = Outcome(step.run.settings, folder.path, folder.summary)
        yield from known(step.stage.name, outcome)


def _state(name: str, step: Step) -> report.StageState:
    folder, manifest = step.folder, step.folder.manifest
    if manifest and folder.is_done:
        time = report.duration(manifest.seconds)
        time += ", in several sessions" if manifest.resumed else ""
        code = str(manifest.made_by.get("git", ""))
        return report.StageState(name, "done", time, folder=folder.path.name, code=code)
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


def _val_gallery(found: RunResults) -> report.Gallery | None:
    """Predictions of the segmenter, and of the twin, on the split that is scored."""
    config = found.run.settings.evaluate
    split = without(evaluated_split(config, found.run.data), found.learned_corrected)
    named = {"evaluate": found.segmenter_title, "evaluate_twin": TWIN}
    stages = {title: found.done[name] for name, title in named.items() if name in found.done}
    if not stages:
        return None
    first = next(iter(stages))

    def sources(item: Item) -> dict[str, Path]:
        return {title: prediction_path(config, s.path, item) for title, s in stages.items()}

    def row(item: Item, score: float | None) -> report.Row:
        return _row(found, item, score, {}, sources(item))

    groups = _groups(found, split, lambda item: sources(item)[first], row)
    return report.Gallery(f"Predictions on {split.name}", _hint(split, first), groups)


def _train_gallery(found: RunResults) -> report.Gallery | None:
    """The way from saliency to the masks that the segmenter learned from."""
    made, config = found.done.get("pseudo_labels"), found.run.settings.saliency
    if made is None:
        return None
    folder, again = made.path, found.done.get("relabel")
    split = scored_split(config, found.run.data)
    if not split.has_masks:
        split = masked_split(config, found.run.data)

    def row(item: Item, score: float | None) -> report.Row:
        masks = {title: mask_path(folder, kind, item) for kind, title in _KINDS.items()}
        if again is not None:
            masks[f"{_KINDS['masks']}, relabelled"] = mask_path(again.path, "masks", item)
        return _row(found, item, score, _named_maps(found, item), masks)

    groups = _groups(found, split, lambda item: mask_path(folder, "refined", item), row)
    hint = f"{_hint(split, _KINDS['refined'])} {_COLOURS}"
    return report.Gallery(f"From saliency to masks on {split.name}", hint, groups)


def _hint(split: Split, scored: str) -> str:
    if not split.has_masks:
        return "The first images of the list; without ground truth there is no worst or best."
    return f"Sorted by the mIoU of the {scored} over the classes in one image."


def _groups(
    found: RunResults,
    split: Split,
    scored: Callable[[Item], Path],
    row: Callable[[Item, float | None], report.Row],
) -> dict[str, list[report.Row]]:
    items = {item.id: item for item in split.items}
    if not split.has_masks:
        return {"First": [row(item, None) for item in split.items[:_WITHOUT_TRUTH]]}
    scores = _image_scores(found, split, scored)
    chosen = report.worst_and_best(scores)
    return {name: [row(items[id_], scores[id_]) for id_ in ids] for name, ids in chosen.items()}


def _image_scores(
    found: RunResults, split: Split, scored: Callable[[Item], Path]
) -> dict[str, float]:
    """The mIoU of each image alone; for sorting, not a result."""

    def score(item: Item) -> float:
        matrix = ConfusionMatrix(len(found.classes) + 1)
        labels = read_labels(scored(item), found.run.folder)
        matrix.update(labels, ground_truth(item))
        return matrix.mean_iou()

    items = [item for item in split.items if scored(item).exists()]
    with ThreadPoolExecutor(max(workers_of(found.run.settings.trainer), 1)) as pool:
        scores = zip(items, pool.map(score, items), strict=True)
        return {item.id: value for item, value in scores if report.is_number(value)}


def _row(
    found: RunResults,
    item: Item,
    score: float | None,
    maps: Mapping[str, Any],
    label_images: Mapping[str, Path],
) -> report.Row:
    image = thumbnail(picture_of(item))
    tiles = [_tile("image", image)]
    tiles += [_tile(title, overlay_map(image, saliency)) for title, saliency in maps.items()]
    tiles += [
        _tile(title, overlay_labels(image, read_labels(path, found.run.folder)))
        for title, path in label_images.items()
        if path.exists()
    ]
    if item.mask is not None and item.mask.is_file():
        tiles.append(_tile("ground truth", overlay_labels(image, ground_truth(item))))
    return report.Row(item.id, [found.classes[k] for k in item.labels], score, tiles)


def _tile(caption: str, picture: Image) -> report.Tile:
    return report.Tile(caption, report.data_address(encode_jpeg(picture), "image/jpeg"))


def _named_maps(found: RunResults, item: Item) -> dict[str, Any]:
    stage = found.done.get("saliency")
    if stage is None or not map_path(stage.path, item).exists():
        return {}
    names = (f"saliency: {found.classes[k]}" for k in item.labels)
    return dict(zip(names, read_maps(stage.path, item), strict=True))


def _curves(found: RunResults) -> Iterator[report.Curve]:
    for name in found.done:
        if name == "classifier" or name.startswith("segmentation"):
            curve = report.loss_curve(name, _losses(found.done[name].path))
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
    run, config, maker = found.run, found.run.settings, made_by()
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
        "label new photos": predict_command(run),
        "list what to correct first": review_command(run),
        "random seed": str(config.random_seed),
        "code": str(maker["git"]),
        "machine": f"Python {maker['python']}, {maker['platform']}",
    }


def _length(settings: ClassifierConfig | SegmenterConfig) -> str:
    least = f", at least {settings.min_steps} steps" if settings.min_steps else ""
    return f"{settings.epochs} epochs of batches of {settings.batch_size}{least}"


def _described(node: dict[str, Any]) -> str:
    """A group in one line: the name of what it builds, and its options."""
    options = ", ".join(f"{k} {json.dumps(v)}" for k, v in node.items() if k != "_target_")
    return f"{name_of(node)} ({options})" if options else name_of(node)
