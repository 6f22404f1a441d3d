"""`stage=compare`: any finished runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import ConfigError, MissingArtifactError, at_most
from pipeline.run import lineage
from pipeline.run.lineage import Record
from pipeline.run.run import Run


def run(run: Run) -> None:
    """Write ``compare/index.html`` and tables of all finished runs that are found.

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
    from pipeline.commands.compared import write  # and pandas: half a second

    write(run, ways, ends)


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
