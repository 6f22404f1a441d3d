"""The processes of a run: which of them this one is, and what they tell each other.

torchrun, srun or the command itself starts them, torch.distributed connects them. Each is known by
its rank, from 0. In a run of one process every function here answers at once.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import ConfigError, LostProcessError, PipelineError

if TYPE_CHECKING:
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
    from torch import Tensor

T = TypeVar("T")
_TO_MEET = timedelta(minutes=10)  # machines of a cluster start at different times
_TO_WAIT = timedelta(days=365)  # one process may work for days while the others wait
_TO_END = 5.0  # seconds in which processes with the same error come to it
_ERRORS = "errors"
_TORCHRUN = "TORCHELASTIC_RUN_ID"  # in the environment of every process that it starts
# What gloo and torch say when a process at the other end has ended.
_LOST = ("Connection closed by peer", "Connection reset", "Broken pipe", "remote process exited")


@dataclass(frozen=True)
class Place:
    """Where this process stands among those of its run.

    Attributes:
        rank: Its number, from 0.
        size: Number of processes.
        local_rank: Its number on this machine, from 0.
        local_size: Number of processes on this machine, the same on all machines.
        environment: What started them, in Lightning's words; None for a single process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    environment: ClusterEnvironment | None = None


class _State:
    place = Place()
    alone = False  # rank 0 does what the others wait for
    store: Any = None


def here() -> Place:
    """Where this process stands; on its own within :func:`first`."""
    return Place() if _State.alone else _State.place


def is_first() -> bool:
    """Whether this is rank 0, which writes and speaks for all."""
    return (_State.place.rank if _State.store is not None else _announced()[0]) == 0


def are_several() -> bool:
    """Whether this is one of several processes, connected with the others or not yet."""
    return _announced()[1] > 1


def is_launched() -> bool:
    """Whether torchrun has started this process, or srun as one of several."""
    return _TORCHRUN in os.environ or are_several()


def _announced() -> tuple[int, int]:
    """Rank and size as torchrun or srun tells them."""
    tell = os.environ.get
    if _TORCHRUN in os.environ:
        return int(tell("RANK", "0")), int(tell("WORLD_SIZE", "1"))
    if _is_task_of_srun():
        return int(tell("SLURM_PROCID", "0")), int(tell("SLURM_NTASKS", "1"))
    return 0, 1


def _is_task_of_srun() -> bool:
    """A command in a shell that `srun --pty bash` gave stands for itself."""
    return "SLURM_PROCID" in os.environ and os.environ.get("SLURM_JOB_NAME") != "bash"


def share(items: Sequence[T]) -> list[T]:
    """This process's part of a list: every one of ``size``, from its own rank on.

    The parts of all processes make up the list, without padding or repeats.

    Example:
        >>> share(["a", "b", "c"])
        ['a', 'b', 'c']
    """
    return list(items[here().rank :: here().size])


def gathered(value: T) -> list[T]:
    """What each process gave, in the order of the ranks; all have to call it.

    Example:
        >>> gathered("a")
        ['a']
    """
    place = here()
    if place.size == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * place.size
    with _loss_explained():
        dist.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Wait until every process is here."""
    gathered(None)


def summed(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum over all processes, which have to give arrays of one shape.

    Example:
        >>> summed(np.array([1, 2]))
        array([1, 2])
    """
    if here().size == 1:
        return counts
    import torch
    import torch.distributed as dist

    total = torch.from_numpy(counts.copy())
    with _loss_explained():
        dist.all_reduce(total)
    return total.numpy()


def first(work: Callable[[], T]) -> T:
    """What ``work`` returns on rank 0; the others wait for it, and all have to call this.

    Within ``work`` rank 0 is on its own: shares are whole lists, and nobody is waited for.

    Raises:
        PipelineError: On every rank, if ``work`` raised it.

    Example:
        >>> first(lambda: 3)
        3
    """
    if here().size == 1:
        return work()
    import torch.distributed as dist

    answer: list[Any] = [_tried(work) if is_first() else None]
    with _loss_explained():
        dist.broadcast_object_list(answer, src=0)
    value, error = answer[0]
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def _tried(work: Callable[[], T]) -> tuple[T | None, PipelineError | None]:
    """The result, or an error that all ranks can tell; any other ends the process, and the run."""
    _State.alone = True
    try:
        return work(), None
    except PipelineError as error:
        return None, error
    finally:
        _State.alone = False


def agree(facts: Sequence[str], what: str) -> None:
    """Raise unless all processes found the same.

    Raises:
        ConfigError: Names the first rank with another answer, and its machine.
    """
    answers = gathered((socket.gethostname(), list(facts)))
    host, own = answers[0]
    for rank, (machine, found) in enumerate(answers):
        if found != own:
            differing = next((a, b) for a, b in zip(own, found, strict=True) if a != b)
            raise ConfigError(
                f"{what}: {differing[0]} in process 0 (on {host}), {differing[1]} in process "
                f"{rank} (on {machine}). Data, weights, code and the kind of device have to be "
                "the same for all processes."
            )


def connect(backend: str) -> None:
    """Connect the processes that torchrun or srun has started; nothing to do for a single one.

    Args:
        backend: A backend of torch.distributed, such as ``gloo``.

    Raises:
        ConfigError: The processes do not find each other, or their number differs between machines.
    """
    place = _started()
    if place.size == 1 or place.environment is None:
        return
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    os.environ["MASTER_ADDR"] = address = place.environment.main_address
    os.environ["MASTER_PORT"] = port = str(place.environment.main_port)
    try:
        meeting = rendezvous("env://", place.rank, place.size, timeout=_TO_MEET)
        store = next(iter(meeting))[0]
    except dist.DistError as error:
        raise ConfigError(
            f"process {place.rank} of {place.size}: the others did not come to {address}:{port} "
            f"within {_TO_MEET.seconds // 60} minutes. Start all of them with torchrun, or on "
            "SLURM with srun before `python`."
        ) from error
    dist.init_process_group(
        backend, store=store, rank=place.rank, world_size=place.size, timeout=_TO_WAIT
    )
    _State.place, _State.store = place, store


def disconnect() -> None:
    """Leave the others, at the end of a command that went well."""
    if _State.store is not None:
        import torch.distributed as dist

        dist.destroy_process_group()
    _State.place, _State.store = Place(), None


def _started() -> Place:
    """What torchrun or srun says of this process."""
    if _TORCHRUN not in os.environ and not _is_task_of_srun():
        return Place()  # without Lightning, whose import takes seconds
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if TorchElasticEnvironment.detect():
        return _place(TorchElasticEnvironment(), int(os.environ["LOCAL_WORLD_SIZE"]))
    if _is_task_of_srun():
        tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", "1"))
        # Lightning insists on this one, which srun leaves out, or takes over from sbatch.
        os.environ["SLURM_NTASKS_PER_NODE"] = str(tasks // nodes)
        # Lightning's own requeueing would save, and prefer, a checkpoint within an epoch.
        return _place(SLURMEnvironment(auto_requeue=False), tasks // nodes)
    return Place()


def _place(environment: ClusterEnvironment, local_size: int) -> Place:
    size, local_rank = environment.world_size(), environment.local_rank()
    if size % max(local_size, 1):
        raise ConfigError(
            f"{size} processes do not spread evenly over the machines ({local_size} on this one). "
            "Start as many on each."
        )
    return Place(environment.global_rank(), size, local_rank, local_size, environment)


def reports(error: Exception) -> bool:
    """Whether this process tells about an error: the first of all that had one."""
    place, store = _State.place, _State.store
    if store is None:
        return True
    try:
        told = int(store.add(_ERRORS, 1))
    except RuntimeError:  # rank 0, which kept count, was killed
        return place.rank == 1 or not isinstance(error, LostProcessError)
    return told == 1


def linger() -> None:
    """After an error, let rank 0 keep count until the others have ended, for a few seconds.

    torchrun keeps count itself.
    """
    if _State.store is None or _TORCHRUN in os.environ or not is_first():
        return
    deadline = time.monotonic() + _TO_END
    while _State.store.add(_ERRORS, 0) < _State.place.size and time.monotonic() < deadline:
        time.sleep(0.1)


def as_lost(error: Exception) -> Exception:
    """The error, or what it means if it says that another process has ended."""
    if _State.store is None or not any(words in str(error) for words in _LOST):
        return error
    return LostProcessError(
        f"process {_State.place.rank} of {_State.place.size}: another process of the run has "
        "ended. Its error is above, unless it was killed. What is finished is kept: the same "
        "command goes on, with any number of processes."
    )


@contextmanager
def _loss_explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        lost = as_lost(error)
        if lost is error:
            raise
        raise lost from error


def mean(count: Tensor) -> Tensor:
    """The mean of a number over all processes, float; all have to call it.

    A sum over a share of a step, divided by this mean count, is what DDP's mean over the
    processes turns into the mean over the whole step.

    Example:
        >>> import torch
        >>> mean(torch.tensor(3))
        tensor(3.)
    """
    place, total = here(), count.detach().float()
    if place.size == 1:
        return total
    import torch.distributed as dist

    total = total.clone()
    dist.all_reduce(total)
    return total / place.size
