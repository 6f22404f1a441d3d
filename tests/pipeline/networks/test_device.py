"""What the machine must have, and the precision that follows from it."""

import pytest
import torch

from pipeline.base.config import Accelerator, TrainerConfig
from pipeline.base.errors import ConfigError
from pipeline.networks.device import check_trainer, training_precision


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


def test_processes_of_a_launcher_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")

    with pytest.raises(ConfigError, match="WORLD_SIZE=4"):
        check_trainer(TrainerConfig())
