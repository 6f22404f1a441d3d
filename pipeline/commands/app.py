"""The pipeline as a Hydra application: from the words of a command line to a launch."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pipeline.commands.stopping import stop_at_once
from pipeline.run.schema import CONFIGS, register_schema

register_schema()


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="run")
def main(config: DictConfig) -> None:
    """Run the stage that the configuration names, in the folder that Hydra made."""
    stop_at_once()
    from pipeline.commands.launch import launch  # seconds of imports that --help can do without

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    launch(config, folder, sweep=hydra_config.mode is RunMode.MULTIRUN)
