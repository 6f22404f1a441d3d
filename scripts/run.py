"""Command line of the pipeline: `python scripts/run.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.stages.schema import register_schema

register_schema()


@hydra.main(version_base="1.3", config_path="../configs", config_name="run")
def main(config: DictConfig) -> None:
    """Run the stage that the configuration names, in the folder that Hydra made."""
    from pipeline.stages.launch import launch  # seconds of imports that --help can do without

    folder = Path(HydraConfig.get().runtime.output_dir)
    inside = folder.is_relative_to(Path.cwd())
    launch(config, folder.relative_to(Path.cwd()) if inside else folder)


if __name__ == "__main__":
    sys.exit(main())
