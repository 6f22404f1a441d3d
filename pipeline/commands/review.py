"""`tsgb review`: the images of a run that are most worth a person's minutes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import (
    ConfigError,
    MissingArtifactError,
    failure_of_image,
)
from pipeline.base.files import write_bytes
from pipeline.base.terminal import Terminal, ToPaste
from pipeline.commands.command_line import settings_at
from pipeline.commands.masks import source_of
from pipeline.data.catalogue import Catalogue, Item, Split
from pipeline.data.palette import read_label_image
from pipeline.data.pixels import picture_of
from pipeline.inference.loading import load
from pipeline.inference.records import network_record
from pipeline.inference.reviewing import Ranked, Reviewer
from pipeline.inference.signals import SIGNALS
from pipeline.report import page as report
from pipeline.report.gallery import Gallery, Shown, fitted, label_layer
from pipeline.report.page import Block, Section, data_address
from pipeline.report.pictures import encode_jpeg
from pipeline.report.rendering import csv_table
from pipeline.report.tables import Column, Table
from pipeline.run.lineage import Record, stages_in
from pipeline.run.run import Run
from pipeline.stages.corrected import without
from pipeline.stages.failures import Failures, raise_if_any
from pipeline.stages.own_files import CHECKPOINT, read_own
from pipeline.stages.trained import load_classifier
from pipeline.tasks.predictor import ClassifierPrior
from pipeline.tasks.segmenter import corrected_in

TABLE, PAGE, LIST = "review.csv", "index.html", "images.txt"
_COUNTED = "named_not_found"  # a signal that is a number of classes
_MASKS = ("pseudo_labels", "relabel")  # stages whose masks a segmenter learns from


def main(wanted: argparse.Namespace, terminal: Terminal) -> None:
    """Write the ranked list.

    Args:
        wanted: The words of the command.
        terminal: Where progress and summary are shown.

    Raises:
        PipelineError: There is nothing to look at, or not everything could be.
    """
    source = find_source(wanted, terminal)
    review(source, wanted.top)
    terminal.summarise(source.out)


@dataclass(frozen=True)
class Source:
    """What is looked at.

    Attributes:
        data: The data of the run, without any ground truth.
        split: The images.
        held_out: Whether the network did not learn from them.
        network: The stage that trained the network.
        classifier: The stage that trained the classifier.
        masks: The stage that made the pseudo-masks of these images; None if they have none.
        reviewer: Looks at them.
        terminal: Where the progress is shown.
    """

    data: Catalogue
    split: Split
    held_out: bool
    network: Record
    classifier: Record
    masks: Record | None
    reviewer: Reviewer
    terminal: Terminal

    @property
    def out(self) -> Path:
        """Where the results go."""
        return self.reviewer.folder


def find_source(wanted: argparse.Namespace, terminal: Terminal) -> Source:
    """The images, networks and pseudo-masks that the words of a command are about.

    Raises:
        ConfigError: The run has no images of this split.
        DataError: The images of the run are not what they were.
        MissingArtifactError: The run has no finished network, several, or no classifier.
    """
    network = network_record(wanted.run.expanduser())
    folder = network.path.parents[1]
    data = Run(settings_at(folder), folder).data.without_truth()
    split = data.train if wanted.split == "train" else data.val
    split = without(split, corrected_in(network.path / CHECKPOINT))
    if not split.items:
        raise ConfigError(f"--split {wanted.split}: {folder} has no such images.")
    classifier, masks = _classifier_of(network), _masks_of(network, wanted.split)
    reviewer = Reviewer(
        wanted.out or folder / "review" / wanted.split,
        load(network.path, device=wanted.device),
        ClassifierPrior(load_classifier(classifier.path)),
        masks.path if masks else None,
        [classifier.fingerprint, masks.fingerprint if masks else ""],
    )
    held_out = wanted.split == "val"
    return Source(data, split, held_out, network, classifier, masks, reviewer, terminal)


def _classifier_of(network: Record) -> Record:
    """The classifier that a network comes from, or else one of its run."""
    stages = [*network.ancestors(), *stages_in(network.path.parents[1])]
    for stage in stages:
        if stage.kind == "classifier" and stage.manifest and stage.manifest.is_done:
            return stage
    run = network.path.parents[1]
    raise MissingArtifactError(
        f"{run}: has no finished classifier, with which the network is compared. Run `tsgb run "
        f"run_dir={run} stage=classifier`."
    )


def _masks_of(network: Record, split: str) -> Record | None:
    """The pseudo-masks that a network learned from; for held-out images, those that were made."""
    if split == "train":
        made = [stage for stage in network.ancestors() if stage.kind in _MASKS]
        return made[-1] if made else None
    try:
        return source_of(network.path.parents[1], "pseudo_labels", split)
    except MissingArtifactError:
        return None


def review(source: Source, top: int) -> None:
    """Look at every image that was not looked at yet, then write the list, the table and the page.

    Args:
        source: What is looked at.
        top: How many images are listed and shown.

    Raises:
        StageIncompleteError: Some images could not be looked at; the others are in the list.
    """
    failures = _look(source)
    images = source.reviewer.ranked(source.split.items)
    first, out = images[:top], source.out
    write_bytes(out / LIST, "".join(f"{image.item.id}\n" for image in first).encode())
    write_bytes(out / TABLE, csv_table(list(_rows(source, images))).encode())
    write_bytes(out / PAGE, report.render(_page(source, images, first)).encode())
    raise_if_any(failures, len(source.split.items), "review")
    source.terminal.say("all images, ranked", out / TABLE)
    source.terminal.say("look at", ToPaste(out / PAGE))
    for name, command in _next(source).items():
        source.terminal.say(name, ToPaste(command))


def _look(source: Source) -> Failures:
    reviewer, items = source.reviewer, source.split.items
    failures, missing = Failures(), [item for item in items if not reviewer.is_done(item)]
    if len(missing) < len(items):
        done = len(items) - len(missing)
        source.terminal.note(f"{done} of {len(items)} images were looked at already")
    with source.terminal.progress("looking at images", len(missing)) as step:
        for count, item in enumerate(missing, start=1):
            try:
                reviewer.look(item)
            except Exception as error:
                reason = failure_of_image(error)
                if reason is None:
                    raise
                failures[item.id] = reason
            step(count, len(missing))
    return failures


def _rows(source: Source, images: Sequence[Ranked]) -> Iterator[dict[str, Any]]:
    """The lines of the table."""
    for rank, image in enumerate(images, start=1):
        yield {
            "rank": rank,
            "image": image.item.id,
            "score": image.score,
            "reason": image.reason,
            "label": ", ".join(_names(source, image.item)),
            "found": ", ".join(image.found),
            **{name: image.signals.get(name) for name in SIGNALS},
        }


def _names(source: Source, item: Item) -> list[str]:
    return [source.data.classes[k] for k in item.labels]


def _page(source: Source, images: Sequence[Ranked], first: Sequence[Ranked]) -> report.Page:
    data = source.data
    hint = (
        "The first of the list. An image stands high if it has more of the signals below than most "
        "other images have; each signal counts the same. No ground truth is read."
    )
    gallery = Gallery([_shown(source, image) for image in first], hint)
    commands: list[Block] = [report.Commands(_next(source))] if _next(source) else []
    sections = [
        Section("", [report.Numbers(list(_headlines(source, images)))]),
        Section("Pictures", [report.Pictures(gallery, report.legend(data.classes))], "Pictures"),
        Section("Signals", [_table(first)], "Signals"),
        Section("What was looked at", [report.Facts({**_facts(source), **SIGNALS})], "Facts"),
        Section("What next", commands, "What next"),
    ]
    return report.Page(f"{data.name}: where to look", str(source.out), report.now(), sections)


def _headlines(source: Source, images: Sequence[Ranked]) -> Iterator[report.Headline]:
    total, split = len(images), source.split
    yield report.Headline("images", str(total), f"of {len(split.items)} in {split.name}")
    notes = {
        "named_not_found": "images whose label names a class of which the network finds no pixel",
        "found_not_named": "images with a class that the network finds and the label does not name",
    }
    for name, note in notes.items():
        count = sum(image.signals[name] > 0 for image in images)
        yield report.Headline(name.replace("_", " "), str(count), note)


def _table(first: Sequence[Ranked]) -> Table:
    columns = [
        Column("image", "text"),
        Column("score"),
        *(Column(n.replace("_", " "), "number" if n == _COUNTED else "share") for n in SIGNALS),
    ]
    rows = [[i.item.id, i.score, *(i.signals.get(name) for name in SIGNALS)] for i in first]
    hint = "Score: the mean share of the images that have less of a signal."
    return Table("", columns, rows, hint=hint, sortable=True)


def _shown(source: Source, image: Ranked) -> Shown:
    item, reviewer, classes = image.item, source.reviewer, len(source.data.classes)
    paths = {"prediction": reviewer.label_path(item), "pseudo-mask": reviewer.mask_path(item)}
    layers = {"photo": data_address(encode_jpeg(fitted(picture_of(item))), "image/jpeg")}
    layers |= {
        caption: data_address(label_layer(read_own(path, read_label_image), classes), "image/png")
        for caption, path in paths.items()
        if path is not None
    }
    numbers = {"score": image.score, **image.signals}
    return Shown(
        item.id, source.split.name, _names(source, item), layers, numbers, note=image.reason
    )


def _next(source: Source) -> dict[str, str]:
    """What to do with the list, by its purpose."""
    if source.masks is None:
        return {}
    words = ["tsgb", "masks", "export", str(source.masks.path), "--format", "cvat"]
    words += ["--split", "val"] if source.held_out else []
    words += ["--only", str(source.out / LIST), "--out", str(source.out / "to_correct")]
    found = {"take them to a labelling tool": shlex.join([*words, *_photos(source.split)])}
    if not source.held_out:
        run = shlex.quote(str(source.network.path.parents[1]))
        found["then train with what it exports"] = f"tsgb run run_dir={run} data.corrected=FILE"
    return found


def _photos(split: Split) -> list[str]:
    """The option that names the folder in which ids are paths, if there is one."""
    ends = {(item, item.image.with_suffix("").as_posix()) for item in split.items}
    folders = {end.removesuffix(f"/{item.id}") for item, end in ends}
    whole = all(end.endswith(f"/{item.id}") for item, end in ends)
    return ["--images", folders.pop()] if whole and len(folders) == 1 else []


def _facts(source: Source) -> dict[str, str]:
    masks = source.masks.name if source.masks else "none of these images"
    return {
        "network": source.network.name,
        "classifier": source.classifier.name,
        "pseudo-masks": masks,
        "ground truth": "not read",
    }
