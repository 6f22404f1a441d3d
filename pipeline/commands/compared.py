"""The page and the tables of a comparison: the same images under each run, and what differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError, PipelineError
from pipeline.base.files import write_bytes
from pipeline.base.terminal import ToPaste
from pipeline.commands.compare_images import ComparedImages, showers
from pipeline.commands.next_steps import predict_with, review_of
from pipeline.commands.results import result_of
from pipeline.data.catalogue import Catalogue
from pipeline.data.checks import data_fingerprint
from pipeline.networks.device import workers_of
from pipeline.report import page
from pipeline.report.compare_page import ComparedData
from pipeline.report.comparison import Comparison, grouped
from pipeline.report.page import Block, Facts, Section, Text
from pipeline.report.rendering import csv_table
from pipeline.report.tables import duration
from pipeline.run.building import build_data
from pipeline.run.lineage import Lineage, Record
from pipeline.run.provenance import made_by
from pipeline.run.run import Run

Ways = Sequence[Lineage]
Ends = Sequence[tuple[Record, str]]


def write(run: Run, ways: Ways, ends: Ends) -> None:
    """Write ``compare/index.html`` and its tables, and print the main scores.

    Raises:
        ConfigError: ``compare.by`` or ``compare.classes`` cannot be used.
    """
    kinds = _kinds(ways)
    folder, (catalogue, reason) = run.output / "compare", _catalogue(run)
    version = data_fingerprint(catalogue.without_truth()) if catalogue else ""
    compared = _compared(run, kinds, catalogue.name if catalogue else "", version)
    own = [one for one, (data, _) in zip(compared, kinds, strict=True) if data == version]
    if not own:
        reason = reason or "the data settings of this command describe other data"
    pictures = _pictures(run, own, catalogue, reason, folder)
    content = _page(folder, compared, pictures, ends, ways)
    files = {
        "index.html": page.render(content),
        "table.md": page.as_markdown(content),
        "table.csv": csv_table([row for one in compared for row in one.csv_rows()]),
        "classes.csv": csv_table([row for one in compared for row in one.class_rows()]),
        "runs.csv": csv_table([row for one in compared for row in one.run_rows()]),
    }
    for name, text in files.items():
        write_bytes(folder / name, text.encode())
    for one in compared:
        run.terminal.table(one.title, *one.short_rows(), one.caption)
    for stage, why in ends:
        run.terminal.say(f"not in the table: {stage.name}", why)
    run.terminal.say("tables; runs.csv has every single run", folder)
    run.terminal.say("look at", ToPaste(folder / "index.html"))


def _kinds(ways: Ways) -> list[tuple[str, Ways]]:
    """The runs by data, ground truth and what was scored; most runs, then images, first."""
    kinds: dict[tuple[Any, ...], list[Lineage]] = {}
    for way in ways:
        data, made = way.masks.parts["data"], way.masks.summary
        scored = (made.get("scores") or {}).get("images")  # maybe only some have masks
        truth = str(made["scored_by"]["truth"])
        kinds.setdefault((data, truth, scored, _split(way)), []).append(way)
    by_size = sorted(kinds.items(), key=lambda kind: (-len(kind[1]), -(kind[0][2] or 0)))
    return [(str(kind[0]), own) for kind, own in by_size]


def _split(way: Lineage) -> str:
    """``saliency.split`` of the masks."""
    maps = next(stage for stage in way.masks.ancestors() if stage.kind == "saliency")
    return str(maps.settings["saliency"]["split"])


def _compared(
    run: Run, kinds: Sequence[tuple[str, Ways]], name: str, version: str
) -> list[ComparedData]:
    """The tables; those of the data of this command have its name.

    Raises:
        ConfigError: No table can be sorted as wanted. Others are sorted by what they have.
    """
    config, found = run.settings.compare, []
    for data, ways in kinds:
        groups = Comparison(grouped([result_of(way, config.classes) for way in ways]))
        content = groups.ordered(config.by)
        title = _title(ways, name if data == version else f"data {data[:6]}")
        remarks = list(_remarks(ways, content, config.classes or ()))
        found.append(ComparedData(title, content, remarks, config.classes or ()))
    by = config.by
    if by not in (None, "seconds") and not any(one.content.measure(by) for one in found):
        raise ConfigError(
            f"compare.by: no run has a number for {str(by)!r}. "
            "Leave compare.by out, or make what is missing (stage=evaluate, or stage=all)."
        )
    return found


def _title(ways: Ways, name: str) -> str:
    masks = ways[0].masks
    scores = masks.summary.get("scores")
    scored = f"scored on {scores['images']} of {scores['split']}" if scores else "no ground truth"
    return f"{name}: masks of {masks.summary['images']} images, {scored}"


def _remarks(ways: Ways, content: Comparison, chosen: Sequence[str]) -> Iterator[str]:
    yield from _over(content, chosen)
    machines = {str(stage.made_by.get("platform")) for stage in _stages(ways)}
    if len(machines) > 1:
        yield f"Made on different machines ({', '.join(sorted(machines))}): times do not compare."
    if any(name.startswith("code") for name in content.names):
        yield (
            "Some runs with equal settings were made by different versions of the code (the "
            "columns code), so they are no repetitions of each other."
        )
    if not all(way.masks.summary.get("scores") for way in ways):
        yield "Without ground truth no mask is scored; average precision needs only image labels."


def _over(content: Comparison, chosen: Sequence[str]) -> Iterator[str]:
    """Which classes the means are over."""
    scored = [result.classes for group in content.groups for result in group.results]
    found = [iou for kinds in scored for kind, iou in kinds.items() if kind != "classifier"]
    if not found:
        return
    names = ["background", *chosen] if chosen else list(found[0])
    listed = ", ".join(names) if chosen else f"{len(names)} classes"
    absent = [name for name in names if any(iou.get(name) is None for iou in found)]
    text = f"Every mIoU is the mean over {listed}"
    if absent:
        text += (
            ", without those that are neither in the ground truth nor predicted, which for some "
            f"masks are: {', '.join(absent)}"
        )
    text += "; average precision is over the same without background" if chosen else ""
    yield f"{text}."


def _stages(ways: Sequence[Lineage]) -> list[Record]:
    """All stages of some lineages, each once, without twins."""
    ends = [(way.masks, way.segmenter, *way.scored) for way in ways]
    found = {
        stage.path: stage for end in ends for last in end if last for stage in last.ancestors()
    }
    return list(found.values())


def _catalogue(run: Run) -> tuple[Catalogue | None, str]:
    """The data of this command, only to show pictures; or why they cannot be had."""
    try:
        return build_data(run.settings.data), ""
    except PipelineError as error:
        return None, str(error)


def _pictures(
    run: Run, own: Sequence[ComparedData], catalogue: Catalogue | None, reason: str, folder: Path
) -> list[Block]:
    """The gallery of the runs on this command's data, or why there is none."""
    most = run.settings.compare.pictures
    if not most:
        return []
    if catalogue and own:
        images = ComparedImages(catalogue, folder / "index.html", showers(own))
        try:
            gallery = images.gallery(most, workers_of(run.settings.trainer))
        except PipelineError as error:  # a damaged file; the numbers need none
            gallery, reason = None, str(error)
        if gallery:
            return [page.Pictures(gallery, page.legend(catalogue.classes))]
        reason = reason or "the label images of these runs are gone"
    return [Text(
        f"No pictures, because {reason.rstrip('.')}. With the data settings of the runs "
        "(data=..., experiment=...) the page has them.", "remark",
    )]  # fmt: skip


def _page(
    folder: Path, compared: Sequence[ComparedData], pictures: list[Block], ends: Ends, ways: Ways
) -> page.Page:
    apart: list[Block] = [Text(
        f"These runs use {len(compared)} different sets of data or ground truth. Their numbers "
        "cannot be compared, so each set has its own tables.", "remark",
    )]  # fmt: skip
    tables = [
        Section(one.title, one.blocks, "Tables" if one is compared[0] else "") for one in compared
    ]
    left = {str(stage.path): why for stage, why in ends}
    left_out: list[Block] = [Text(
        "Stages that are not finished, or that no row uses. Run the original command again to "
        "resume a stage that was killed."
    ), Facts(left)] if left else []  # fmt: skip
    sections = [
        Section("", apart if len(compared) > 1 else []),
        tables[0],
        Section("Pictures", pictures, "Pictures"),
        *tables[1:],
        Section("Not in the tables", left_out, "Left out"),
        Section("How it was made", [Facts(_notes(ways))], "How"),
        Section("What next", _next(compared), "What next"),
    ]
    title = f"{sum(len(one.content.groups) for one in compared)} choices compared"
    return page.Page(title, str(folder), page.now(), sections)


def _next(compared: Sequence[ComparedData]) -> list[Block]:
    """Commands for the first network in the order of the tables."""
    groups = chain.from_iterable(one.content.groups for one in compared)
    networks = [part.segmenter for group in groups for part in group.results if part.segmenter]
    if not networks:
        return []
    folder = Path(networks[0].folder)
    return [page.Commands({
        "label new photos with the first network of the tables": predict_with(folder),
        "find out which of its images to correct first": review_of(folder),
    })]  # fmt: skip


def _notes(ways: Sequence[Lineage]) -> dict[str, str]:
    stages = _stages(ways)
    together = sum(stage.seconds for stage in stages)
    ends = [way.scored or ((way.segmenter or way.masks),) for way in ways]
    alone = sum(
        sum({s.path: s.seconds for e in last for s in e.ancestors()}.values()) for last in ends
    )
    revisions = sorted({str(stage.made_by.get("git")) for stage in stages})
    return {
        "folders": ", ".join(sorted({str(way.masks.path.parents[1]) for way in ways})),
        "time of all runs": f"{duration(together)}, a stage that several share counted once; "
        f"{duration(alone)} if each had made its own",
        "code": ", ".join(revisions),
        "this page": f"made by {made_by()['git']}",
    }
