"""Any finished runs side by side: a table, plots with spread, pictures, and what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from pipeline.base.arrays import Image
from pipeline.base.errors import ConfigError, MissingArtifactError, PipelineError, at_most
from pipeline.base.files import write_bytes
from pipeline.base.terminal import plain
from pipeline.commands.results import result_of
from pipeline.data.catalogue import Catalogue, Item, spaced
from pipeline.data.checks import data_fingerprint
from pipeline.data.palette import read_label_image
from pipeline.data.pixels import picture_of
from pipeline.data.truth import ground_truth
from pipeline.report import compare_page as page
from pipeline.report import compare_plots, comparison
from pipeline.report import compare_tables as tables
from pipeline.report.comparison import Group
from pipeline.report.page import data_address, duration, legend
from pipeline.report.pictures import encode_jpeg, overlay_labels, thumbnail
from pipeline.report.rendering import Pictures
from pipeline.run import lineage
from pipeline.run.building import build_data
from pipeline.run.lineage import Lineage, Record
from pipeline.run.provenance import made_by
from pipeline.run.run import Run

_KINDS = {"seeds": "Seeds", "refined": "Refined masks", "masks": "Training masks"}


def run(run: Run) -> None:
    """Write ``compare/index.html``, tables and plots of all finished runs that are found.

    Raises:
        ConfigError: ``compare.by`` or a folder of ``compare.runs`` cannot be used.
        MissingArtifactError: No finished pseudo-masks are there.
    """
    folders = check_settings(run)
    found = {folder: lineage.stages_in(folder) for folder in folders}
    ways = [way for stages in found.values() for way in lineage.lineages(stages)]
    ends = [end for stages in found.values() for end in lineage.loose_ends(stages)]
    if not ways:
        raise _nothing_found(folders, ends)
    _write(run, _sections(run, ways), ends, ways)


def check_settings(run: Run) -> list[Path]:
    """The folders to look into, once everything that can be checked before was.

    Raises:
        ConfigError: A folder that does not exist, or an order that cannot be.
    """
    config = run.settings.compare
    given = [Path(path).expanduser() for path in config.runs or []] or [run.folder]
    folders = list(dict.fromkeys(given))
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise ConfigError(
            f"compare.runs: no folder {', '.join(missing)}. Its runs would be left out in "
            "silence. Give the folders that run_dir had, as in compare.runs=[runs/a,runs/b]."
        )
    return folders


def _nothing_found(
    folders: Sequence[Path], ends: Sequence[tuple[Record, str]]
) -> MissingArtifactError:
    there = f" There is:\n{at_most([f'{s.path}: {why}' for s, why in ends])}\n" if ends else " "
    return MissingArtifactError(
        f"compare: no finished pseudo-masks in {', '.join(map(str, folders))}. There is nothing "
        f"to compare.{there}Run `tsgb run stage=masks` (or stage=all) first, "
        "or name other folders with compare.runs=[DIR,DIR]."
    )


def _sections(run: Run, ways: Sequence[Lineage]) -> list[page.Section]:
    """The runs by data, ground truth and what was scored; most runs, then images, first."""
    kinds: dict[tuple[Any, ...], list[Lineage]] = {}
    for way in ways:
        data, made = way.masks.parts["data"], way.masks.summary
        scored = (made.get("scores") or {}).get("images")  # maybe only some have masks
        truth = str(made["scored_by"]["truth"])
        kinds.setdefault((data, truth, scored, _split(way)), []).append(way)
    by_size = sorted(kinds.items(), key=lambda kind: (-len(kind[1]), -(kind[0][2] or 0)))
    config = run.settings.compare
    found = [comparison.grouped([result_of(w, config.classes) for w in own]) for _, own in by_size]
    _check_found(config.by, found)
    catalogue, reason = _catalogue(run)
    version = data_fingerprint(catalogue.without_truth()) if catalogue else ""
    sections = []
    for ((data, *_), own), groups in zip(by_size, found, strict=True):
        there = catalogue if data == version else None
        why = reason or "the data settings of this command describe other data"
        sections.append(_section(run, own, groups, there, why))
    return sections


def _check_found(by: str | None, found: Sequence[Sequence[Group]]) -> None:
    """Raise if no table can be sorted as wanted; those that cannot are sorted by what they have."""
    if by is None or by == "seconds":
        return
    if not any(comparison.measure_to_sort_by(groups, by) for groups in found):
        raise ConfigError(
            f"compare.by: no run has a number for {str(by)!r}. "
            "Leave compare.by out, or make what is missing (stage=evaluate, or stage=all)."
        )


def _split(way: Lineage) -> str:
    """``saliency.split`` of the masks."""
    maps = next(stage for stage in way.masks.ancestors() if stage.kind == "saliency")
    return str(maps.settings["saliency"]["split"])


def _catalogue(run: Run) -> tuple[Catalogue | None, str]:
    """The data of this command, only to show pictures; or why they cannot be had."""
    try:
        return build_data(run.settings.data), ""
    except PipelineError as error:
        return None, str(error)


def _section(
    run: Run,
    ways: Sequence[Lineage],
    groups: Sequence[Group],
    catalogue: Catalogue | None,
    why: str,
) -> page.Section:
    config = run.settings.compare
    by_cost, wanted = config.by == "seconds", comparison.measure_to_sort_by(groups, config.by)
    by = None if by_cost else wanted or comparison.measure_to_sort_by(groups, None)
    ordered = comparison.ordered_by_cost(groups) if by_cost else comparison.ordered(groups, by)
    title, chosen = _title(ways, catalogue), config.classes or ()
    section = page.Section(title, ordered, by, by_cost, chosen=chosen)
    remarks = list(_remarks(ways, section))
    galleries: Mapping[str, list[Pictures]] = {}
    try:
        galleries = _galleries(section, catalogue, config.pictures) if catalogue else {}
    except PipelineError as error:  # an image that is gone; the numbers need none
        why = str(error)
    if config.pictures and not galleries:
        remarks.append(
            f"No pictures, because {why.rstrip('.')}. With the data settings of the runs "
            "(data=..., experiment=...) the page has them."
        )
    colours = legend(catalogue.classes) if catalogue else []
    section = replace(section, galleries=galleries, legend=colours, remarks=remarks)
    return replace(section, plots=_plots(section))


def _title(ways: Sequence[Lineage], catalogue: Catalogue | None) -> str:
    masks = ways[0].masks
    scores = masks.summary.get("scores")
    name = catalogue.name if catalogue else f"data {masks.parts['data'][:6]}"
    scored = f"scored on {scores['images']} of {scores['split']}" if scores else "no ground truth"
    return f"{name}: masks of {masks.summary['images']} images, {scored}"


def _remarks(ways: Sequence[Lineage], section: page.Section) -> Iterator[str]:
    yield from _over(section)
    machines = {str(stage.made_by.get("platform")) for stage in _stages(ways)}
    if len(machines) > 1:
        yield f"Made on different machines ({', '.join(sorted(machines))}): times do not compare."
    if any(name.startswith("code") for name in section.names):
        yield (
            "Some runs with equal settings were made by different versions of the code (the "
            "columns code), so they are no repetitions of each other."
        )
    if not all(group.is_scored for group in section.groups):
        yield "Without ground truth no mask is scored; average precision needs only image labels."


def _over(section: page.Section) -> Iterator[str]:
    """Which classes the means of a section are over."""
    scored = [result.classes for group in section.groups for result in group.results]
    found = [iou for kinds in scored for kind, iou in kinds.items() if kind != "classifier"]
    if not found:
        return
    names = ["background", *section.chosen] if section.chosen else list(found[0])
    listed = ", ".join(names) if section.chosen else f"{len(names)} classes"
    absent = [name for name in names if any(iou.get(name) is None for iou in found)]
    text = f"Every mIoU is the mean over {listed}"
    if absent:
        text += (
            ", without those that are neither in the ground truth nor predicted, which for some "
            f"masks are: {', '.join(absent)}"
        )
    if section.chosen:
        text += "; average precision is over the same without background"
    yield f"{text}."


def _stages(ways: Sequence[Lineage]) -> list[Record]:
    """All stages of some lineages, each once, without twins."""
    ends = [(way.masks, way.segmenter, *way.scored) for way in ways]
    found = {
        stage.path: stage for end in ends for last in end if last for stage in last.ancestors()
    }
    return list(found.values())


def _plots(section: page.Section) -> dict[str, str]:
    plots = {
        "Scores": compare_plots.bars(section),
        "Quality and time": compare_plots.quality_and_cost(section),
    }
    return {title: data_address(plot, "image/png") for title, plot in plots.items() if plot}


def _galleries(
    section: page.Section, catalogue: Catalogue, count: int
) -> dict[str, list[Pictures]]:
    """For each kind of label image a row an image, chosen without a look at any score."""
    made = Path(section.groups[0].results[0].folder) / "masks"
    splits = (catalogue.scored, catalogue.train, catalogue.val)
    found = ([i for i in s.items if (made / f"{i.id}.png").is_file()] for s in splits)
    there: Sequence[Item] = next(filter(None, found), [])
    items = spaced(there, count) if count else []
    return {
        title: _gallery(section, kind, items, catalogue.classes)
        for kind, title in _KINDS.items()
        if items
    }


def _gallery(
    section: page.Section, kind: str, items: Sequence[Item], classes: Sequence[str]
) -> list[Pictures]:
    images = {item.id: thumbnail(picture_of(item)) for item in items}

    def column(group: Group) -> tuple[str, ...]:
        folder = Path(group.results[0].folder) / kind
        paths = {item.id: folder / f"{item.id}.png" for item in items}
        return tuple(_overlaid(images[name], path) for name, path in paths.items())

    alike: dict[tuple[str, ...], list[Group]] = {}
    for group in section.groups:
        alike.setdefault(column(group), []).append(group)
    rows = []
    for index, item in enumerate(items):
        sources = {"image": _address(images[item.id])}
        if item.mask is not None and item.mask.is_file():
            sources["ground truth"] = _address(overlay_labels(images[item.id], ground_truth(item)))
        sources |= {section.caption(same): found[index] for found, same in alike.items()}
        shown = {title: source for title, source in sources.items() if source}
        rows.append(Pictures(item.id, ", ".join(classes[k] for k in item.labels), shown))
    return rows


def _overlaid(image: Image, path: Path) -> str:
    """A label image over its image as a data address; empty if the file is gone."""
    return _address(overlay_labels(image, read_label_image(path))) if path.is_file() else ""


def _address(picture: Image) -> str:
    return data_address(encode_jpeg(picture), "image/jpeg")


def _write(
    run: Run,
    sections: Sequence[page.Section],
    ends: Sequence[tuple[Record, str]],
    ways: Sequence[Lineage],
) -> None:
    folder = run.output / "compare"
    content = page.Page(
        title=f"{sum(len(s.groups) for s in sections)} choices compared",
        folder=str(folder),
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        sections=sections,
        loose_ends=[(str(stage.path), why) for stage, why in ends],
        notes=_notes(ways),
    )
    files = {
        "index.html": page.render(content),
        "table.md": tables.as_markdown(content),
        "table.csv": tables.as_csv(sections),
        "classes.csv": tables.classes_csv(sections),
        "runs.csv": tables.runs_csv(sections),
    }
    for name, text in files.items():
        write_bytes(folder / name, text.encode())
    for section in sections:
        run.terminal.console.print(_table(section))
    for stage, why in ends:
        run.terminal.say(f"not in the table: {stage.name}", why)
    run.terminal.say("page", str(folder / "index.html"))
    run.terminal.say(
        "tables", f"{folder}: table.csv, table.md, classes.csv; runs.csv has every single run"
    )


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


def _table(section: page.Section) -> Table:
    """The most important scores in %, and seconds, for the terminal."""
    head, rows = tables.short_rows(section)
    how = f"%; mean and deviation over random seeds; sorted: {section.order}"
    segmenter = section.main_measures.get(comparison.SEGMENTER)
    if segmenter and segmenter.note not in section.order:  # of several evaluations, which
        how += f"\nnetwork: {segmenter.note}"
    caption = f"{section.changed_from}\n{how}" if section.ablation else how
    table = Table(title=plain(section.title), caption=plain(caption), box=SIMPLE, padding=0)
    table.add_column("no.", justify="right", no_wrap=True)
    table.add_column(plain(head[0]), overflow="fold")
    for title in head[1:]:
        table.add_column(plain(title), justify="right", no_wrap=True)
    for place, cells in enumerate(rows, start=1):
        table.add_row(str(place), *map(plain, cells))
    return table
