"""Choice of the engine of a dense CRF: numba, or torch on a CPU or a GPU."""

from __future__ import annotations

import logging
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

from pipeline.base.errors import ConfigError

_log = logging.getLogger(__name__)


def _numba_engine() -> Any:
    from pipeline.masks.crf import numba_engine  # slow to import, and numba is optional

    return numba_engine


def _torch_engine() -> Any:
    from pipeline.masks.crf import torch_engine

    return torch_engine


def _cuda_engine(device: str) -> Any:
    import torch

    if not torch.cuda.is_available():
        raise ImportError("torch sees no CUDA device")
    engine = _torch_engine()
    lattice = partial(engine.Lattice, device=device)
    return SimpleNamespace(Lattice=lattice, mean_field=engine.mean_field)


_ENGINES = {"numba": _numba_engine, "torch": _torch_engine}


@cache
def engine_of(name: str) -> Any:
    """An engine: ``Lattice`` (the filter of one kernel) and ``mean_field``.

    Args:
        name: numba, torch, or a GPU such as cuda or cuda:1.

    Raises:
        ImportError: The engine needs a package or a device that is missing.
    """
    return _cuda_engine(name) if name.startswith("cuda") else _ENGINES[name]()


@cache
def installed_engine(engine: str, device: str = "cpu") -> str:
    """The name of an engine that works on this machine, for :func:`engine_of`.

    Args:
        engine: numba, torch, cuda, or auto: the GPU if ``device`` is one, else numba, else torch.
        device: Where the caller computes, as torch calls it.

    Raises:
        ConfigError: The name is unknown, or the engine does not work here.
    """
    on_gpu = device.startswith("cuda")
    gpu = device if on_gpu else "cuda"
    choices = {**{name: [name] for name in _ENGINES}, "cuda": [gpu],
               "auto": [gpu] if on_gpu else [*_ENGINES]}  # fmt: skip
    if engine not in choices:
        raise ConfigError(f"DenseCRF: engine is {engine!r}. Pass one of {', '.join(choices)}.")
    for name in choices[engine]:
        try:
            engine_of(name)
        except ImportError as error:
            problem = error
        else:
            if engine == "auto" and name == "torch":
                _log.warning("numba is not installed: the dense CRF runs in torch, more slowly")
            return name
    raise ConfigError(
        f"DenseCRF: engine {engine!r} cannot be used: {problem}. Install what is missing, or "
        "choose another engine."
    ) from problem
