"""Command line of the pipeline: `python scripts/run.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pipeline.run.schema import register_schema

register_schema()


@hydra.main(version_base="1.3", config_path="../configs", config_name="run")
def main(config: DictConfig) -> None:
    """Run the stage that the configuration names, in the folder that Hydra made."""
    from pipeline.commands.launch import launch  # seconds of imports that --help can do without

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    launch(config, folder, sweep=hydra_config.mode is RunMode.MULTIRUN)


if __name__ == "__main__":
    sys.exit(main())
