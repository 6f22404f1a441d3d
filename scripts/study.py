"""Run a study: every variant of a recipe, each as a Hydra sweep, then one table of all.

`python scripts/study.py studies/chain.yaml [OVERRIDE ...]`, for example `data.root=PATH` or
`random_seed=0`. Finished jobs are skipped, so that the same command after a kill goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

RUN = Path(__file__).with_name("run.py")


@dataclass
class Study:
    """What a study file holds.

    Attributes:
        base: Overrides of every job.
        sweep: Overrides with several values each, in Hydra's syntax: all combinations are run.
        variants: Further overrides by the name of the variant.
    """

    base: list[str]
    sweep: list[str]
    variants: dict[str, Any]


def read_study(path: Path) -> Study:
    """The study in a YAML file.

    Raises:
        omegaconf.errors.OmegaConfBaseException: A key is missing or unknown.
    """
    merged = OmegaConf.merge(OmegaConf.structured(Study), OmegaConf.load(path))
    return cast(Study, OmegaConf.to_object(merged))


def commands(study: Study, folder: str, given: Sequence[str]) -> list[list[str]]:
    """Arguments of `scripts/run.py`: a sweep for each variant, then the comparison.

    Args:
        study: What to run.
        folder: ``run_dir`` of all jobs, which share the stages in it.
        given: Overrides that win over those of the study, a sweep over the same key included.

    Example:
        >>> study = Study(["stage=masks"], ["random_seed=0,1"], {"cam": ["saliency=cam"]})
        >>> for words in commands(study, "runs/x", ["random_seed=0"]):
        ...     print(*words)
        -m stage=masks run_dir=runs/x saliency=cam random_seed=0
        stage=masks run_dir=runs/x random_seed=0 stage=compare
    """
    overrides = OverridesParser.create().parse_overrides(list(given))
    keys = {override.get_key_element() for override in overrides}
    sweep = [word for word in study.sweep if word.partition("=")[0] not in keys]
    base = [*study.base, f"run_dir={folder}"]
    swept = [["-m", *base, *sweep, *words, *given] for words in study.variants.values()]
    fixed = [str(o.input_line) for o in overrides if not o.is_sweep_override()]
    return [*swept, [*base, *fixed, "stage=compare"]]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 if every job ended well; the others are run whatever one of them does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path, help="a file of studies/")
    parser.add_argument("overrides", nargs="*", help="settings that win over the study's")
    wanted = parser.parse_args(arguments)
    study = read_study(wanted.study)
    todo = commands(study, f"runs/{wanted.study.stem}_study", wanted.overrides)
    return max(subprocess.run([sys.executable, str(RUN), *words]).returncode for words in todo)


if __name__ == "__main__":
    sys.exit(main())
