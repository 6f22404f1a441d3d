"""`stage=verify`: are the files of a run what its stages wrote?"""

from __future__ import annotations

from pathlib import Path

from pipeline.base.errors import DamagedFileError, at_most
from pipeline.base.files import DAMAGED
from pipeline.run.folders import StageFolder
from pipeline.run.manifest import MANIFEST, Manifest, require_stages
from pipeline.run.run import Run
from pipeline.stages.own_files import remade


def run(run: Run) -> None:
    """Read every file of every finished stage and compare it with its hash.

    Raises:
        DamagedFileError: Some files are gone or differ. Those that differ were put aside.
        MissingArtifactError: The folder holds no stage.
    """
    require_stages(run.folder)
    folders = sorted(path.parent for path in run.folder.glob(f"*/*/{MANIFEST}"))
    problems: list[str] = []
    with run.terminal.progress("verifying", len(folders)) as step:
        for count, folder in enumerate(folders, start=1):
            problems += _problems(folder)
            step(count, len(folders))
    if problems:
        raise DamagedFileError(
            f"{run.folder}: {len(problems)} file(s) are not what the stages wrote; those that are "
            f"there were renamed NAME{DAMAGED}. {remade()}\n{at_most(problems)}"
        )
    run.terminal.say("verified", f"{len(folders)} stages: every file is what the stage wrote")


def _problems(path: Path) -> list[str]:
    """Files of a stage that are gone or changed, in words."""
    folder = StageFolder(path, {})
    manifest = Manifest.read(path)
    if manifest is None or not manifest.is_done:
        return []
    altered = folder.put_altered_aside()
    gone = [name for name in folder.contents.missing() if name not in altered]
    return [f"{path / name}: changed" for name in altered] + [
        f"{path / name}: gone" for name in gone
    ]
