"""The layout of networks in memory: none that crashes on some processors."""

import pytest
import timm
import torch

from pipeline.base.config import Accelerator, ClassifierConfig, SegmenterConfig, TrainerConfig
from pipeline.networks.pixels import memory_format
from pipeline.tasks import trial
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.segmenter import SegmenterTask
from pipeline.tasks.trial import try_training

CLASSES = ("a", "b")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobileone_s0", torch.contiguous_format),
        ("repvgg_a0", torch.contiguous_format),
        ("fastvit_t8", torch.contiguous_format),
        ("resnet18", torch.channels_last),  # its 1 x 1 convolutions of stride 2 have many channels
        ("mobilenetv2_100", torch.channels_last),
    ],
)
def test_strided_stems_over_few_channels_are_kept_out_of_channels_last(name, expected):
    assert memory_format(timm.create_model(name)) is expected


def tasks(network):
    yield ClassifierTask.from_config(ClassifierConfig(library="timm", backbone=network), CLASSES)
    yield SegmenterTask.from_config(
        SegmenterConfig(arch="unet", encoder=f"tu-{network}"), ("a", "b")
    )


@pytest.mark.parametrize(("network", "contiguous"), [("mobileone_s0", True), ("resnet18", False)])
def test_weights_and_images_of_a_task_have_the_same_layout(network, contiguous):
    for task in tasks(network):
        layouts = {
            tensor.is_contiguous()
            for tensor in (
                task.inputs(torch.zeros(2, 3, 32, 32)),
                *(p for p in task.network.parameters() if p.ndim == 4 and min(p.shape[1:3]) > 1),
            )
        }
        assert layouts == {contiguous}


def test_a_stem_that_crashes_in_channels_last_survives_its_first_backward_pass():
    task = SegmenterTask.from_config(SegmenterConfig(arch="unet", encoder="tu-fastvit_t8"), CLASSES)

    try_training(task, torch.zeros(2, 64, 64), 64, TrainerConfig(accelerator=Accelerator.cpu))

    assert all(p.isfinite().all() for p in task.parameters())


def test_a_step_is_tried_on_the_gpu_of_a_number(monkeypatch):
    monkeypatch.setattr(trial, "device_of", lambda _: "cpu:0")
    task = SegmenterTask.from_config(
        SegmenterConfig(arch="linknet", encoder="tu-test_resnet"), CLASSES
    )

    try_training(task, torch.zeros(2, 64, 64), 64, TrainerConfig())

    assert any(p.grad is not None for p in task.parameters())
