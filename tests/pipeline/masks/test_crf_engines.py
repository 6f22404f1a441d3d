"""Which engine computes, and what is said about it."""

import time
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.base.errors import ConfigError
from pipeline.masks.crf import engines, torch_engine
from pipeline.masks.dense_crf import Bilateral, DenseCRF, Gaussian
from pipeline.masks.par import PixelAdaptiveRefinement
from pipeline.masks.refine import Chain, CRFRefinement, NoRefinement, on_device

KERNELS = (Gaussian(sxy=3, compat=3), Bilateral(sxy=20, srgb=9, compat=5))


@pytest.fixture
def caches():
    """The engines that were found are looked for again, in the test and after it."""
    functions = (engines.installed_engine, engines.engine_of)
    for function in functions:
        function.cache_clear()
    yield
    for function in functions:
        function.cache_clear()


@pytest.fixture
def gpus(caches, monkeypatch):
    """GPUs whose part the CPU plays; the list has the GPU of every lattice that was built."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    real, asked = torch_engine.Lattice, []

    def lattice(*arguments, device=None):
        asked.append(device)
        return real(*arguments)

    monkeypatch.setattr(torch_engine, "Lattice", lattice)
    return asked


def scene():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (24, 31, 3), dtype=np.uint8)
    planes = generator.random((21, 24, 31)).astype(np.float32)
    return image, planes / planes.sum(0)


def test_auto_computes_on_the_gpu_of_the_run(gpus):
    image, planes = scene()

    marginals = DenseCRF(KERNELS).on("cuda:1")(image, -np.log(planes))

    assert set(gpus) == {"cuda:1"}
    expected = DenseCRF(KERNELS, engine="numba")(image, -np.log(planes))
    np.testing.assert_allclose(marginals, expected, rtol=0, atol=1e-4)
    assert np.abs(marginals - planes).max() > 0.1  # there was something to do


@pytest.mark.parametrize(("engine", "device"), [("numba", "cuda:1"), ("auto", "cpu")])
def test_a_chosen_engine_and_a_run_on_the_cpu_leave_the_gpu_alone(gpus, engine, device):
    image, planes = scene()

    DenseCRF(KERNELS, engine=engine).on(device)(image, -np.log(planes))

    assert gpus == []


def test_each_process_has_its_own_gpu_also_where_cuda_was_asked_for(gpus):
    image, planes = scene()

    DenseCRF(KERNELS, engine="cuda").scaled(2).on("cuda:3")(image, -np.log(planes))

    assert set(gpus) == {"cuda:3"}


def test_every_step_of_a_chain_goes_to_the_gpu(gpus):
    image, planes = scene()
    chain = Chain({"none": NoRefinement(), "crf": CRFRefinement()})

    on_device(chain, "cuda:0")(image, [planes])

    assert set(gpus) == {"cuda:0"}


@pytest.mark.parametrize(
    "refine", [CRFRefinement(), PixelAdaptiveRefinement(iterations=1)], ids=["crf", "par"]
)
def test_threads_take_turns_on_a_gpu(gpus, refine, monkeypatch):
    image, planes = scene()
    inside, most = [], []

    def work(*_):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return planes

    monkeypatch.setattr(DenseCRF, "prepare", lambda *_: SimpleNamespace(infer=work))
    monkeypatch.setattr(CRFRefinement, "_unary", lambda *_: planes)
    monkeypatch.setattr(PixelAdaptiveRefinement, "_refined", work)
    placed = refine.on("cuda:0")
    threads = [Thread(target=placed, args=(image, [planes])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == [1] * 4


@pytest.mark.parametrize(("asked", "device"), [("auto", "meta"), ("cpu", "cpu")])
def test_par_computes_where_the_run_does_unless_a_device_was_chosen(asked, device, monkeypatch):
    image, planes = scene()
    refine, seen = PixelAdaptiveRefinement(iterations=1, device=asked).on("meta"), []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: seen.append(t.device.type) or torch.ones(1))

    refine(image, [planes])

    assert seen == [device]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_cuda_engine_needs_a_gpu():
    with pytest.raises(ConfigError, match=r"engine 'cuda' cannot be used: torch sees no CUDA dev"):
        DenseCRF(KERNELS, engine="cuda")


def test_torch_replaces_a_missing_numba(caches, monkeypatch, caplog):
    def missing():
        raise ImportError("No module named 'numba'")

    monkeypatch.setitem(engines._ENGINES, "numba", missing)

    chosen = [DenseCRF(KERNELS).engine for _ in range(2)]

    with pytest.raises(ConfigError, match="engine 'numba' cannot be used: No module named"):
        DenseCRF(KERNELS, engine="numba")
    assert chosen == ["torch", "torch"]
    assert caplog.messages == ["numba is not installed: the dense CRF runs in torch, more slowly"]
