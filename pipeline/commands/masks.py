"""`tsgb masks`: label images out to labelling tools, and back."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.base.config import GROUND_TRUTH, ScoredSplit
from pipeline.base.errors import (
    ConfigError,
    DataError,
    MissingArtifactError,
    at_most,
    failure_of_image,
)  # fmt: skip
from pipeline.base.files import atomic_path
from pipeline.base.terminal import Terminal, ToPaste
from pipeline.data.catalogue import VOID
from pipeline.data.class_names import read_classes
from pipeline.data.found_files import files_by_id
from pipeline.data.ids import read_ids
from pipeline.formats.instances import Counts, Splitter
from pipeline.formats.masks import VOID_NAME, Masks
from pipeline.formats.photos import Photos
from pipeline.formats.png import PngWriter, read_png
from pipeline.formats.reading import read_masks
from pipeline.formats.writing import KEEP_VOID, Writer, writer
from pipeline.run.data_record import DataRecord
from pipeline.run.lineage import Record, stages_in
from pipeline.run.manifest import MANIFEST
from pipeline.stages.failures import Failures, raise_if_any

_FOLDERS = {"pseudo_labels": "masks", "relabel": "masks", "evaluate": "predictions"}
"""Where a stage keeps its label images."""


def main(wanted: argparse.Namespace, terminal: Terminal) -> None:
    """Export or import.

    Args:
        wanted: The words of the command.
        terminal: Where progress and summary are shown.

    Raises:
        PipelineError: Some could not be written; the message says why.
    """
    work = {"export": export, "import": import_}[wanted.action]
    work(wanted, terminal)
    terminal.summarise(wanted.out)


def export(wanted: argparse.Namespace, terminal: Terminal) -> None:
    """Write the label images of a run in the format of a tool.

    Raises:
        ConfigError: The format cannot hold the names, or there are files in the folder already.
        DataError: The folder of the photos is missing, or ``--only`` names a photo without mask.
        MissingArtifactError: The run has no such label images, or several.
        StageIncompleteError: Some could not be read; the others were written.
    """
    kind = "evaluate" if wanted.predictions else "pseudo_labels"
    stage = source_of(wanted.run, kind, wanted.split)
    names = dict(enumerate(DataRecord(stage.path.parents[1]).classes, start=1))
    folder = stage.path / _FOLDERS[stage.kind]
    masks = read_png(folder, list(names.values()), wanted.megapixels)
    masks = masks if wanted.only is None else masks.only(read_ids(wanted.only))
    if wanted.format == "png":
        _refuse_others(wanted.out, ".png", masks)
    elif wanted.format == "yolo":
        _refuse_others(wanted.out / "labels" / wanted.split, ".txt", masks)
    target = writer(
        wanted.format, wanted.out, _with_void(names, wanted.void), wanted.split,
        polygons=wanted.polygons,
    )  # fmt: skip
    splitter, photos = Splitter(wanted.min_pixels, wanted.void), Photos.within(wanted.images)
    failures = _write(masks, target, splitter, photos, terminal)
    path = target.finish()
    if wanted.images is not None and wanted.format != "png":  # where it would be taken for a mask
        _copy(photos, masks, wanted.out / _images(wanted))
    raise_if_any(failures, len(masks), "masks export")
    terminal.say("label images", f"{stage.name}, {len(masks)} images of {wanted.split}")
    _say(splitter.counts, wanted, terminal)
    terminal.say("open in the tool", ToPaste(path))


def _write(
    masks: Masks, target: Writer, splitter: Splitter, photos: Photos, terminal: Terminal
) -> Failures:
    failures: Failures = {}
    with terminal.progress("exporting", len(masks)) as step:
        for count, id_ in enumerate(masks, start=1):
            try:
                target.add(photos.named(id_), *splitter.split(masks[id_]))
            except Exception as error:
                reason = failure_of_image(error)
                if reason is None:
                    raise
                failures[id_] = reason
            step(count, len(masks))
    return failures


def _refuse_others(folder: Path, suffix: str, ids: Iterable[str]) -> None:
    """Refuse a folder with label files of other photos, which would be taken for ours."""
    others = files_by_id(folder.rglob("*"), folder, [suffix]).keys() - set(ids)
    if others:
        raise ConfigError(
            f"{folder}: has label files of {len(others)} other photos, such as {min(others)!r}. "
            "Choose another --out, or remove this folder."
        )


def _with_void(names: Mapping[int, str], void: bool) -> dict[int, str]:
    if void and VOID_NAME in names.values():
        raise ConfigError(
            f"--void: {VOID_NAME!r} is a class of this run. Leave the option out, or rename it."
        )
    return {**names, **({VOID: VOID_NAME} if void else {})}


def _images(wanted: argparse.Namespace) -> str:
    """Where a tool looks for the photos."""
    return f"images/{wanted.split}" if wanted.format == "yolo" else "images"


def _copy(photos: Photos, ids: Iterable[str], folder: Path) -> None:
    """Copy photos; missing ones are named.

    Raises:
        DataError: Some are not there.
    """
    missing = []
    for id_ in ids:
        if id_ not in photos.files:
            missing.append(id_)
            continue
        with atomic_path(folder / photos.named(id_).name) as temporary:
            shutil.copyfile(photos.files[id_], temporary)
    if missing:
        raise DataError(
            f"--images: {len(missing)} photo(s) are not there.\n{at_most(missing)}\nThe masks were "
            "written. Name the folder that the ids of the run start from."
        )


def _say(counts: Counts, wanted: argparse.Namespace, terminal: Terminal) -> None:
    terminal.say("objects", f"{counts.instances} in {counts.images} images")
    if counts.dropped:
        terminal.say(
            f"dropped, below {wanted.min_pixels} pixels",
            f"{counts.dropped} objects, {counts.dropped_pixels} pixels, now background",
        )
    if counts.void_pixels:
        kept = "kept" if wanted.void or wanted.format in KEEP_VOID else "left out"
        share = 100 * counts.void_pixels / counts.pixels
        terminal.say(f"void, {kept}", f"{counts.void_pixels} pixels, {share:.2f} %")


def source_of(place: Path, kind: str, split: str) -> Record:
    """The one finished stage whose label images are wanted.

    Args:
        place: Folder of a run, or of one of its stages.
        kind: ``pseudo_labels`` or ``evaluate``.
        split: ``train`` or ``val``.

    Raises:
        MissingArtifactError: There is none, or there are several.
    """
    if (place / MANIFEST).is_file():
        stages = stages_in(place.absolute().parents[1])
        found = [s for s in stages if s.path == place.absolute() and s.kind in _FOLDERS]
    else:
        found = [s for s in stages_in(place.absolute()) if s.kind == kind and not _is_twin(s)]
    done = [s for s in found if s.manifest and s.manifest.is_done and _split_of(s) == split]
    if len(done) == 1:
        return done[0]
    if done:
        listed = at_most([str(stage.path) for stage in done])
        raise MissingArtifactError(f"{place}: has {len(done)} of them. Name one.\n{listed}")
    settings = f"saliency.split={split}" if kind == "pseudo_labels" else f"evaluate.split={split}"
    raise MissingArtifactError(
        f"{place}: no finished {kind} of {split}. Run `tsgb run run_dir={place} stage={kind} "
        f"{settings}`, or name another folder of a run."
    )


def _is_twin(stage: Record) -> bool:
    """Whether predictions come from a segmenter that learned from ground truth."""
    learned = [one.settings.get("segmenter", {}).get("labels") for one in stage.ancestors()]
    return GROUND_TRUTH in learned


def _split_of(stage: Record) -> str:
    settings = {k: v for one in stage.ancestors() for k, v in one.settings.items()}
    kind = "evaluate" if stage.kind == "evaluate" else "saliency"
    split = str(settings.get(kind, {}).get("split"))
    return ScoredSplit.train if split == ScoredSplit.scored else split


def import_(wanted: argparse.Namespace, terminal: Terminal) -> None:
    """Write what a tool exported as indexed PNG files.

    Raises:
        ConfigError: There are files in the folder already.
        DataError: The file is malformed, or has classes that the run does not have.
        StageIncompleteError: Some images could not be read; the others were written.
    """
    classes = _classes(wanted)
    masks = read_masks(
        wanted.masks, classes, images=wanted.images, max_megapixels=wanted.megapixels
    )
    _refuse_others(wanted.out, ".png", masks)
    names = dict(enumerate(masks.classes, start=1))
    splitter = Splitter(void=True)
    target = PngWriter(wanted.out, names)
    failures = _write(masks, target, splitter, Photos({}), terminal)
    target.finish()
    raise_if_any(failures, len(masks), "masks import")
    terminal.say("label images", f"{len(masks)}")
    terminal.say("values", ", ".join(f"{value} {name}" for value, name in names.items()))


def _classes(wanted: argparse.Namespace) -> Sequence[str] | None:
    if wanted.run is not None:
        return DataRecord(wanted.run).classes
    if wanted.names is not None:
        return read_classes(wanted.names)
    return None if wanted.classes is None else read_classes(wanted.classes.split(","))
