"""The pipeline as a Hydra application: from the words of a command line to a launch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pipeline.base.errors import PipelineError
from pipeline.base.files import storage_explained
from pipeline.base.terminal import print_error
from pipeline.commands.command_line import CommandLine, understand
from pipeline.commands.stopping import stop_at_once
from pipeline.run.schema import CONFIGS


def main() -> None:
    """Run the command that the words of this process describe."""
    stop_at_once()
    try:
        line = understand(sys.argv[1:])
        if line.remembered is not None:
            path = line.remembered.path
            sys.stderr.write(f"settings: {path}, and the words of this command\n")
        sys.argv[1:] = line.arguments
        with storage_explained(Path.cwd()):
            _application(line)
    except PipelineError as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        print_error(error)
        sys.exit(1)


def _application(line: CommandLine) -> None:
    """Hand the words to Hydra, which composes the settings and calls back."""

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="run")
    def run(config: DictConfig) -> None:
        from pipeline.commands.launch import launch  # seconds of imports that --help can do without

        hydra_config = HydraConfig.get()
        sweep = hydra_config.mode is RunMode.MULTIRUN
        job = Path(hydra_config.runtime.output_dir) if sweep else None
        launch(config, line.lasting, job)

    run()
