"""Which engine computes, and what is said about it."""

import pytest
import torch

from pipeline.base.errors import ConfigError
from pipeline.masks.crf import engines as engines_of_the_crf
from pipeline.masks.dense_crf import DenseCRF, Gaussian

KERNELS = (Gaussian(sxy=3, compat=1),)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_cuda_engine_needs_a_gpu():
    with pytest.raises(ConfigError, match=r"engine 'cuda' cannot be used: torch sees no CUDA dev"):
        DenseCRF(KERNELS, engine="cuda")


def test_torch_replaces_a_missing_numba(monkeypatch, caplog):
    def missing():
        raise ImportError("No module named 'numba'")

    monkeypatch.setitem(engines_of_the_crf._ENGINES, "numba", missing)
    caches = (engines_of_the_crf.installed_engine, engines_of_the_crf.engine_of)
    for function in caches:
        function.cache_clear()
    try:
        engines = [DenseCRF(KERNELS)._engine for _ in range(2)]
        with pytest.raises(ConfigError, match="engine 'numba' cannot be used: No module named"):
            DenseCRF(KERNELS, engine="numba")
    finally:
        for function in caches:
            function.cache_clear()

    assert engines == ["torch", "torch"]
    assert caplog.messages == ["numba is not installed: the dense CRF runs in torch, more slowly"]
