"""Several processes from a plain command: `trainer.devices=N` without torchrun or srun."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pipeline.base import ranks
from pipeline.base.config import Command
from pipeline.base.errors import ConfigError

ONE_IS_ENOUGH = frozenset(
    (
        Command.report, Command.explain, Command.saliency_benchmark,
        Command.compare, Command.verify,
    )
)  # fmt: skip
"""Commands that run in one process; ``trainer.devices`` does not count for them."""


def wanted(stage: Command, devices: int, *, sweep: bool) -> int:
    """How many processes this one has to start; 1 if it does the work itself.

    Raises:
        ConfigError: Several processes for a sweep, whose jobs would meet in each other's folders.
    """
    several = ranks.are_several() or (devices > 1 and not ranks.is_launched())
    if sweep and several:
        raise ConfigError(
            "-m with several processes: the jobs of a sweep have one process each. Leave "
            "trainer.devices out, or start each job as a command of its own."
        )
    return 1 if ranks.is_launched() or stage in ONE_IS_ENOUGH else devices


def start(count: int, words: Sequence[str]) -> int:
    """Run the same command in several processes of this machine, by torchrun; its exit code.

    All stages are in the same processes, as with torchrun and srun. Lightning's own launcher would
    start the others in the middle of the first stage.

    Args:
        count: Number of processes.
        words: What follows ``tsgb run``.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    cores = os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(cores // count, 1)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=str(os.getpid()), max_restarts=0,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0",
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "pipeline.command", "run", *words)
    except ChildFailedError:  # which has told its error
        return 1
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0
