"""Choice of the engine of a dense CRF: numba, or torch on a CPU or a GPU."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from pipeline.base.errors import ConfigError

_log = logging.getLogger(__name__)


def _numba_engine() -> Any:
    from pipeline.masks.crf import numba_engine  # slow to import, and numba is optional

    return numba_engine


def _torch_engine() -> Any:
    from pipeline.masks.crf import torch_engine

    return torch_engine


def _cuda_engine() -> Any:
    from pipeline.masks.crf import cuda_engine

    cuda_engine.need_device()
    return cuda_engine


_ENGINES = {"numba": _numba_engine, "torch": _torch_engine, "cuda": _cuda_engine}


@cache
def engine_of(name: str) -> Any:
    """The module of an engine, with ``Lattice`` (the filter of one kernel) and ``mean_field``.

    Args:
        name: numba, torch or cuda.

    Raises:
        ImportError: The engine needs a package or a device that is missing.
    """
    return _ENGINES[name]()


@cache
def installed_engine(engine: str) -> str:
    """The name of an engine that works on this machine.

    Args:
        engine: numba, torch, cuda, or auto for the first of them that works.

    Raises:
        ConfigError: The name is unknown, or the engine does not work here.
    """
    if engine not in (*_ENGINES, "auto"):
        raise ConfigError(
            f"DenseCRF: engine is {engine!r}. Pass one of auto, {', '.join(_ENGINES)}."
        )
    for name in _ENGINES if engine == "auto" else (engine,):
        try:
            engine_of(name)
        except ImportError as error:
            problem = error
        else:
            if engine == "auto" and name != "numba":
                _log.warning("numba is not installed: the dense CRF runs in torch, more slowly")
            return name
    raise ConfigError(
        f"DenseCRF: engine {engine!r} cannot be used: {problem}. Install what is missing, or "
        "choose another engine."
    ) from problem
