"""What was run, and what to do next: the end of a report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from omegaconf import OmegaConf

from pipeline.base.config import ClassifierConfig, Plane, RunConfig, SeedConfig, SegmenterConfig
from pipeline.commands.next_steps import network_place, predict_command, review_command
from pipeline.commands.run_results import RunResults
from pipeline.data.checks import describe
from pipeline.formats.corrected import plus_masks
from pipeline.report import page
from pipeline.report.choices import flattened
from pipeline.report.score_tables import (
    data_table,
)
from pipeline.report.tables import Cell, Column, Content, Table, duration
from pipeline.run.executor import Step
from pipeline.run.options import word_of
from pipeline.run.provenance import made_by
from pipeline.run.run import Run
from pipeline.run.settings import default_settings
from pipeline.stages.own_files import CHECKPOINT

Row = list[Content]

_FEW = 8  # classes; a longer table is folded at first
_RUN = (
    "The same settings, data and code give the same result. The command in the last column runs a "
    "stage that is missing or whose inputs have changed; all others are skipped."
)


def what_was_run(found: RunResults) -> Iterator[page.Block]:
    """Stages, settings, data and versions."""
    data, settings = found.run.data, found.run.settings
    yield _stages(found)
    yield page.Facts(_facts(found))
    yield page.Fold("Images of every split", [data_table(describe(data), data.classes)],
               open=len(data.classes) <= _FEW)  # fmt: skip
    changed = _changed(settings)
    if changed:
        yield page.Fold(
            "Settings that are not the defaults of this program", [page.Facts(changed)], open=True
        )
    yield page.Fold("Versions of packages", [page.Facts(made_by()["packages"])])
    yield page.Fold(
        "All settings", [page.Code(OmegaConf.to_yaml(OmegaConf.create(asdict(settings))))]
    )


def what_next(found: RunResults) -> list[page.Block]:
    """Commands and paths, once there is a network."""
    commands = _commands(found.run)
    return [page.Commands(commands), page.Facts(_places(found))] if commands else []


def state_of(step: Step) -> str:
    """Whether a stage is done, in words."""
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
    folder, manifest, state = step.folder, step.folder.manifest, state_of(step)
    if state != "done" or not manifest:
        return [name, Cell(state, tone="bad"), Cell(""), "", "", Cell(step.command, tone="code")]
    time = duration(manifest.seconds) + (", in several sessions" if manifest.resumed else "")
    share = Cell(manifest.seconds, time, bar=manifest.seconds / total if total else 0.0)
    code = str(manifest.made_by.get("git", ""))
    return [name, Cell(state, tone="good"), share, folder.path.name, code, ""]


def _facts(found: RunResults) -> dict[str, str]:
    config, maker = found.run.settings, made_by()
    plus = plus_masks(found.summary("segmentation").get("corrected_masks", 0))
    scales = ", ".join(f"{scale:g}" for scale in config.saliency.scales)
    classes, segmenter, seed = config.classifier, config.segmenter, config.seed
    method = described("saliency.method", config.saliency.method)
    mirror = "with" if config.saliency.flip else "without"
    return {
        "classifier": f"{classes.library}/{classes.backbone}, initial weights {classes.weights}, "
        f"{_length(classes)}",
        "saliency": f"{method} at scales {scales}, {mirror} mirror",
        "background": f"{plane_words(seed)} at {seed.threshold:g}, for training masks at "
        f"{seed.foreground:g} and {seed.background:g} {share_words(seed)}",
        "refinement": described("refine", config.refine),
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


def plane_words(seed: SeedConfig) -> str:
    """The background plane in words."""
    if seed.plane == Plane.constant:
        return "constant background"
    return "background (1 - strongest map)^alpha, tied"


def share_words(seed: SeedConfig) -> str:
    """What a threshold is a share of."""
    compete = f" after a competition at temperature {seed.competition:g},"
    maps = f"maps{compete if seed.competition else ''} to the power {seed.power:g}"
    return f"of the maximum of {maps}"


def _length(settings: ClassifierConfig | SegmenterConfig) -> str:
    least = f", at least {settings.min_steps} steps" if settings.min_steps else ""
    return f"{settings.epochs} epochs of batches of {settings.batch_size}{least}"


def described(group: str, node: dict[str, Any]) -> str:
    """A group in one line: what the command calls it, and its options."""
    options = ", ".join(f"{k} {json.dumps(v)}" for k, v in node.items() if k != "_target_")
    return f"{word_of(group, node)} ({options})" if options else word_of(group, node)
