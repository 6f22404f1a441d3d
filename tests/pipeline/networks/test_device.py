"""What the machine must have, and the precision that follows from it."""

import pytest
import torch

from pipeline.base import ranks
from pipeline.base.config import Accelerator, TrainerConfig
from pipeline.base.errors import ConfigError
from pipeline.networks import device
from pipeline.networks.device import check_trainer, device_of, training_precision, workers_of


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_a_gpu_that_only_emulates_bfloat16_trains_in_float16(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )

    assert training_precision(TrainerConfig()) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accelerator": Accelerator.gpu}, "trainer.accelerator: gpu, but torch sees none"),
        ({"devices": 2}, "trainer.devices=2"),
    ],
)
def test_what_the_machine_does_not_have_is_refused(monkeypatch, settings, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ConfigError, match=message):
        check_trainer(TrainerConfig(**settings))


def test_the_gpu_of_an_apple_is_refused_and_not_taken_by_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    with pytest.raises(ConfigError, match=r"none but Apple's \(mps\), which is refused: n"):
        check_trainer(TrainerConfig(accelerator=Accelerator.gpu))
    assert device_of(TrainerConfig()) == "cpu"


def test_every_process_has_the_gpu_of_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ranks, "here", lambda: ranks.Place(rank=5, size=8, local_rank=1))

    assert device_of(TrainerConfig()) == "cuda:1"


def test_processes_of_a_launcher_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")

    with pytest.raises(ConfigError, match="WORLD_SIZE=4"):
        check_trainer(TrainerConfig())


@pytest.mark.parametrize(("cores", "processes", "workers"), [(64, 4, 8), (12, 2, 6), (2, 4, 1)])
def test_beside_a_gpu_all_cores_load_images(monkeypatch, cores, processes, workers):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "_cores", lambda: cores)
    monkeypatch.setattr(ranks, "here", lambda: ranks.Place(local_size=processes))

    assert workers_of(TrainerConfig()) == workers
    assert workers_of(TrainerConfig(workers=3)) == 3
    assert workers_of(TrainerConfig(accelerator=Accelerator.cpu)) == 2
