"""The pipeline as a Hydra application: from the words of a command line to a launch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pipeline.base.errors import PipelineError
from pipeline.base.files import storage_explained
from pipeline.base.memory import keep_freed_memory
from pipeline.base.ranks import is_first
from pipeline.base.terminal import Terminal, print_error
from pipeline.commands.command_line import CommandLine, understand
from pipeline.commands.processes import start
from pipeline.commands.stopping import stop_at_once
from pipeline.run.schema import CONFIGS

_HELP = ("--help", "-h")


def main() -> None:
    """Run the command that the words of this process describe."""
    stop_at_once()
    keep_freed_memory()
    words = sys.argv[1:]
    if any(word in _HELP for word in words):
        sys.stdout.write(_help())
        return
    try:
        line = understand(words)
        if line.processes > 1:
            sys.exit(start(line.processes, words))
        if line.remembered is not None and is_first():
            path = line.remembered.path
            sys.stderr.write(f"settings: {path}, and the words of this command\n")
        sys.argv[1:] = line.arguments
        with storage_explained(Path.cwd()):
            _application(line)
    except PipelineError as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        if is_first():  # all processes read the same words
            print_error(error)
        sys.exit(1)


def _help() -> str:
    """The template of ``run.yaml``. Hydra would first list all options of all groups: seconds."""
    return str(OmegaConf.load(CONFIGS / "run.yaml").hydra.help.template)


def _application(line: CommandLine) -> None:
    """Hand the words to Hydra, which composes the settings and calls back."""

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="run")
    def run(config: DictConfig) -> None:
        # Said first: what follows imports torch and takes seconds.
        Terminal().note(str(Path(config.run_dir).expanduser().absolute()), "run")
        from pipeline.commands.launch import launch

        hydra_config = HydraConfig.get()
        sweep = hydra_config.mode is RunMode.MULTIRUN
        job = Path(hydra_config.runtime.output_dir) if sweep else None
        launch(config, line.lasting, job)

    run()
