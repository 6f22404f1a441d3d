"""Stage 5: one page about everything that the other stages left."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.artifacts import StageFolder, write_bytes
from pipeline.data.catalogue import Item, Split
from pipeline.data.checks import describe
from pipeline.data.images import read_image
from pipeline.data.palette import read_label_image
from pipeline.report import page as report
from pipeline.report.pictures import (
    Image,
    encode_jpeg,
    overlay_labels,
    overlay_map,
    thumbnail,
)
from pipeline.scoring import ConfusionMatrix, mean_over
from pipeline.stages import classifier, evaluate, pseudo_labels, saliency, segmentation
from pipeline.stages.context import Run, name_of

_WITHOUT_TRUTH = 8  # images that are shown where nothing can be sorted by score
_KINDS = {"seeds": "seed", "refined": "refined mask", "masks": "training mask"}
_TWIN = "supervised twin"


def run(run: Run) -> None:
    """Write ``report/index.html`` from what is there; always, since it takes seconds."""
    path = run.output / "report" / "index.html"
    write_bytes(path, report.render(_page(_Results(run))).encode())
    run.say("report", str(path))


@dataclass
class _Results:
    """What the stages of a run left; a stage made with other settings counts as missing."""

    run: Run

    @cached_property
    def folders(self) -> dict[str, tuple[StageFolder, str]]:
        """Stages that belong to the run, in order, with the words of a command that makes each."""
        run, twin = self.run, segmentation.GROUND_TRUTH
        found = {
            "classifier": (classifier.folder(run), "stage=classifier"),
            "saliency": (saliency.folder(run), "stage=pseudo_labels"),
            "pseudo_labels": (pseudo_labels.folder(run), "stage=pseudo_labels"),
            "segmentation": (segmentation.folder(run), "stage=segmentation"),
            "evaluate": (evaluate.folder(run), "stage=evaluate"),
        }
        if self._has_twin:
            words = f"segmenter.labels={twin}"
            made, scored = segmentation.folder(run, twin), evaluate.folder(run, twin)
            found["segmentation_twin"] = (made, f"stage=segmentation {words}")
            found["evaluate_twin"] = (scored, f"stage=evaluate {words}")
        return found

    @property
    def _has_twin(self) -> bool:
        config = self.run.config
        given = config.evaluate.masks is not None or config.evaluate.checkpoint is not None
        learns_pseudo = config.segmenter.labels == segmentation.PSEUDO
        return learns_pseudo and not given and segmentation.has_twin(self.run)

    @cached_property
    def done(self) -> dict[str, StageFolder]:
        """The stages that are done with exactly the settings of this run."""
        return {name: folder for name, (folder, _) in self.folders.items() if folder.is_done}

    @property
    def classes(self) -> tuple[str, ...]:
        return self.run.catalogue.classes

    def summary(self, name: str) -> dict[str, Any]:
        """What came out of a stage; empty if it is not done."""
        return self.done[name].summary if name in self.done else {}

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """Scores of everything that predicted the split, by title."""
        titles = {"evaluate": self.network_title, "evaluate_twin": _TWIN}
        scores = {title: self.summary(name).get("scores") for name, title in titles.items()}
        return {title: values for title, values in scores.items() if values}

    @property
    def network_title(self) -> str:
        config = self.run.config
        if config.evaluate.masks is not None:
            return "given masks"
        if config.evaluate.checkpoint is not None:
            return "given network"
        return "network" if config.segmenter.labels == segmentation.PSEUDO else _TWIN


def _page(found: _Results) -> report.Page:
    run, catalogue = found.run, found.run.catalogue
    return report.Page(
        title=f"{catalogue.name}: {len(catalogue.classes)} classes",
        folder=str(run.output),
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        headlines=list(_headlines(found)),
        rungs=[*_mask_rungs(found), *_network_rungs(found)],
        stages=[_state(name, *entry) for name, entry in found.folders.items()],
        data=report.data_table(describe(catalogue), catalogue.classes),
        tables=list(_tables(found)),
        galleries=[gallery for gallery in (_val_gallery(found), _train_gallery(found)) if gallery],
        legend=report.legend(found.classes),
        curves=list(_curves(found)),
        facts=_facts(run),
        packages=run.made_by["packages"],
        config=OmegaConf.to_yaml(OmegaConf.create(asdict(run.config))),
        has_ground_truth=catalogue.scored.has_masks or evaluate.split_of(run).has_masks,
    )


def _headlines(found: _Results) -> Iterator[report.Headline]:
    networks = found.networks
    chosen = found.run.config.evaluate.classes
    for title, scores in networks.items():
        note = scores["protocol"]
        if chosen:
            mean = mean_over(scores, [report.BACKGROUND_NAME, *chosen])
            note += f"; {report.percent(mean)} % over background + {len(chosen)} chosen classes"
        yield report.Headline(f"mIoU of the {title}", f"{report.percent(scores['mIoU'])} %", note)
    if len(networks) == 2:
        network, twin = (scores["mIoU"] for scores in networks.values())
        share = network / twin if network is not None and twin else None
        note = "mIoU of the network over that of the twin, which learned from ground truth"
        yield report.Headline("of full supervision", f"{report.percent(share)} %", note)
    masks = found.summary("pseudo_labels").get("scores")
    if masks:
        value = f"{report.percent(masks['refined']['mIoU'])} %"
        yield report.Headline("mIoU of the refined masks", value, f"{masks['split']}, no oracle")
    trained = found.summary("classifier")
    if trained:
        note = f"{trained.get('split', 'val')}, mean average precision over the classes that occur"
        yield report.Headline("mAP of the classifier", f"{report.percent(trained['mAP'])} %", note)


def _mask_rungs(found: _Results) -> Iterator[report.Rung]:
    scores = found.summary("pseudo_labels").get("scores")
    if not scores:
        return
    config, split = found.run.config, scores["split"]
    maximum = f"of the maximum of maps to the power {config.seed.power:g}"
    fixed = f"{split}, background at {config.seed.threshold:g} {maximum}, fixed beforehand"
    refinement = _described(config.refine)
    how = {
        "seeds": f"{fixed}; {report.void_in_words(scores['seeds'])}",
        "refined": f"{fixed}; {refinement}; {report.void_in_words(scores['refined'])}",
        "masks": f"{split}, background below {config.seed.background:g}, object above "
        f"{config.seed.foreground:g}; {refinement}; {report.void_in_words(scores['masks'])}",
    }
    for kind, name in _KINDS.items():
        yield report.Rung(name, scores[kind]["mIoU"], how[kind])
        if kind == "seeds":
            oracle = scores["oracle"]
            text = f"{split}, background at {oracle['threshold']:.2f} {maximum}"
            name = "seed, oracle: threshold chosen with the masks"
            yield report.Rung(name, oracle["mIoU"], text, oracle=True)


def _network_rungs(found: _Results) -> Iterator[report.Rung]:
    for title, scores in found.networks.items():
        how = f"{scores['protocol']}; {report.void_in_words(scores)}"
        yield report.Rung(title, scores["mIoU"], how)


def _state(name: str, folder: StageFolder, command: str) -> report.StageState:
    manifest = folder.manifest
    if folder.is_done:
        time = report.duration(manifest["seconds"])
        time += ", in several sessions" if manifest["resumed"] else ""
        code = str(manifest["made_by"].get("git", ""))
        return report.StageState(name, "done", time, folder=folder.path.name, code=code)
    if not manifest:
        return report.StageState(name, "missing", remedy=command)
    if manifest.get("fingerprint") == folder.fingerprint:
        return report.StageState(name, "not finished", remedy=command)
    return report.StageState(name, "made by other code", remedy=command)


def _tables(found: _Results) -> Iterator[report.Table]:
    masks = found.summary("pseudo_labels").get("scores") or {}
    columns = {title: masks[kind] for kind, title in _KINDS.items() if kind in masks}
    if "masks" in masks:
        covered = report.percent(masks["masks"].get("coverage"))
        columns[f"training mask, void left out ({covered} % of pixels)"] = columns.pop(
            _KINDS["masks"]
        )
    columns |= found.networks
    if columns:
        yield report.iou_table(columns, found.classes, found.run.config.evaluate.classes)
    if "classifier" in found.done:
        yield report.average_precision_table(found.summary("classifier"), found.classes)


def _val_gallery(found: _Results) -> report.Gallery | None:
    """Predictions of the network, and of the twin, on the split that is scored."""
    split = evaluate.split_of(found.run)
    named = {"evaluate": found.network_title, "evaluate_twin": _TWIN}
    stages = {title: found.done[name] for name, title in named.items() if name in found.done}
    if not stages:
        return None
    first = next(iter(stages))
    given = found.run.config.evaluate.masks

    def sources(item: Item) -> dict[str, Path]:
        if given is not None:
            return {first: Path(given) / f"{item.id}.png"}
        return {title: evaluate.prediction_path(stage, item) for title, stage in stages.items()}

    def row(item: Item, score: float | None) -> report.Row:
        return _row(found, item, score, {}, sources(item))

    groups = _groups(found, split, lambda item: sources(item)[first], row)
    return report.Gallery(f"Predictions on {split.name}", _hint(split, first), groups)


def _train_gallery(found: _Results) -> report.Gallery | None:
    """The way from saliency to the masks that the network learned from."""
    stage, catalogue = found.done.get("pseudo_labels"), found.run.catalogue
    if stage is None:
        return None
    split = catalogue.scored if catalogue.scored.has_masks else catalogue.train

    def row(item: Item, score: float | None) -> report.Row:
        masks = {
            title: pseudo_labels.mask_path(stage, kind, item) for kind, title in _KINDS.items()
        }
        return _row(found, item, score, _named_maps(found, item), masks)

    groups = _groups(found, split, lambda i: pseudo_labels.mask_path(stage, "refined", i), row)
    hint = _hint(split, _KINDS["refined"])
    return report.Gallery(f"From saliency to masks on {split.name}", hint, groups)


def _hint(split: Split, scored: str) -> str:
    if not split.has_masks:
        return "The first images of the list; without ground truth there is no worst or best."
    return f"Sorted by the mIoU of the {scored} over the classes in one image's ground truth."


def _groups(
    found: _Results,
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
    found: _Results, split: Split, scored: Callable[[Item], Path]
) -> dict[str, float]:
    """The mIoU of each image alone; for sorting, not a result."""

    def score(item: Item) -> float:
        matrix = ConfusionMatrix(len(found.classes) + 1)
        matrix.update(read_label_image(scored(item)), read_label_image(item.mask or ""))
        return matrix.mean_iou()

    items = [item for item in split.items if scored(item).exists()]
    with ThreadPoolExecutor(max(found.run.config.trainer.workers, 1)) as pool:
        scores = zip(items, pool.map(score, items), strict=True)
        return {item.id: value for item, value in scores if report.is_number(value)}


def _row(
    found: _Results,
    item: Item,
    score: float | None,
    maps: Mapping[str, Any],
    label_images: Mapping[str, Path],
) -> report.Row:
    image = thumbnail(read_image(item.image))
    tiles = [_tile("image", image)]
    tiles += [_tile(title, overlay_map(image, saliency)) for title, saliency in maps.items()]
    paths = {**label_images, **({"ground truth": item.mask} if item.mask else {})}
    tiles += [
        _tile(title, overlay_labels(image, read_label_image(path)))
        for title, path in paths.items()
        if path.exists()
    ]
    return report.Row(item.id, [found.classes[k] for k in item.labels], score, tiles)


def _tile(caption: str, picture: Image) -> report.Tile:
    return report.Tile(caption, report.data_address(encode_jpeg(picture), "image/jpeg"))


def _named_maps(found: _Results, item: Item) -> dict[str, Any]:
    stage = found.done.get("saliency")
    if stage is None or not saliency.map_path(stage, item).exists():
        return {}
    names = (f"saliency: {found.classes[k]}" for k in item.labels)
    return dict(zip(names, saliency.read_maps(stage, item), strict=True))


def _curves(found: _Results) -> Iterator[report.Curve]:
    for name in ("classifier", "segmentation", "segmentation_twin"):
        if name in found.done:
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


def _facts(run: Run) -> dict[str, str]:
    config, made_by = run.config, run.made_by
    scales = ", ".join(f"{scale:g}" for scale in config.saliency.scales)
    classes, network = config.classifier, config.segmenter
    mirror = "with" if config.saliency.flip else "without"
    return {
        "classifier": f"{classes.library}/{classes.backbone}, initial weights {classes.weights}, "
        f"{classes.epochs} epochs of batches of {classes.batch_size}",
        "saliency": f"{_described(config.saliency.method)} at scales {scales}, {mirror} mirror",
        "refinement": _described(config.refine),
        "network": f"{network.arch} with {network.encoder}, initial weights {network.weights}, "
        f"{network.epochs} epochs of batches of {network.batch_size}",
        "random seed": str(config.random_seed),
        "code": str(made_by["git"]),
        "machine": f"Python {made_by['python']}, {made_by['platform']}",
    }


def _described(node: dict[str, Any]) -> str:
    """A group in one line: the name of what it builds, and its options."""
    options = ", ".join(f"{k} {json.dumps(v)}" for k, v in node.items() if k != "_target_")
    return f"{name_of(node)} ({options})" if options else name_of(node)
