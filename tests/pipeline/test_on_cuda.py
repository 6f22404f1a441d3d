"""A real GPU against the CPU: maps, masks, training, mixed precision, resume, two at once.

The engines of the dense CRF and every saliency method have such tests beside their others.
"""

import copy
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.base.config import Accelerator, ClassifierConfig, SegmenterConfig, TrainerConfig
from pipeline.data.palette import read_label_image
from pipeline.networks.device import device_of, exact_products, training_precision
from pipeline.run.run import Run
from pipeline.stages.label_images import mask_path
from pipeline.stages.maps import read_maps
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.segmenter import SegmenterTask
from tests.conftest import ROOT
from tests.pipeline.runs import do, kill_before
from tests.pipeline.stages.test_segmentation import checkpoint

pytestmark = pytest.mark.gpu

GPU = TrainerConfig(accelerator=Accelerator.gpu, workers=0, progress=False)
CLASSES = ("a", "b", "c")
AGREE = 0.995  # share of equal pixels: where two labels are nearly tied, rounding decides


def segmenter():
    torch.manual_seed(0)
    config = SegmenterConfig(arch="deeplabv3plus", encoder="resnet18")
    return SegmenterTask.from_config(config, CLASSES)


def classifier():
    torch.manual_seed(0)
    return ClassifierTask.from_config(ClassifierConfig(backbone="resnet18"), CLASSES)


def batch_of(task):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, 128, 128), generator=generator, dtype=torch.uint8)
    if isinstance(task, ClassifierTask):
        return images, torch.randint(0, 2, (4, 3), generator=generator).float()
    labels = torch.randint(0, 4, (4, 128, 128), generator=generator, dtype=torch.uint8)
    labels[:, :20] = 255
    return images, labels


def step(task, device, precision=None):
    """Loss and gradient of one step, on the CPU."""
    task = copy.deepcopy(task).to(device).train()
    for module in task.modules():
        if isinstance(module, nn.Dropout):
            module.eval()  # its masks are drawn by the device
    batch = [part.to(device) for part in batch_of(task)]
    kind = torch.device(device).type
    with exact_products(), torch.autocast(kind, precision, enabled=precision is not None):
        loss = task.loss_of(batch)
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None])
    return loss.detach().cpu().float(), gradient.cpu().float()


def difference(found, expected):
    """Length of the difference as a share of the length."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("make", [classifier, segmenter])
def test_a_training_step_equals_that_of_the_cpu(make):
    task = make()

    loss, gradient = step(task, device_of(GPU))

    expected_loss, expected_gradient = step(task, "cpu")
    torch.testing.assert_close(loss, expected_loss, rtol=1e-4, atol=0)
    assert difference(gradient, expected_gradient) < 1e-3


@pytest.mark.parametrize("make", [classifier, segmenter])
def test_a_step_in_mixed_precision_is_near_that_of_float32(make):
    name = training_precision(GPU)
    precision = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}[name]
    task = make()

    loss, gradient = step(task, device_of(GPU), precision)

    expected_loss, expected_gradient = step(task, device_of(GPU))
    torch.testing.assert_close(loss, expected_loss, rtol=0.03, atol=0)
    assert 0 < difference(gradient, expected_gradient) < 0.6  # 0.36 on a CPU with bfloat16


def test_channels_last_changes_the_speed_only():
    last, first = segmenter(), segmenter()
    first._layout = torch.contiguous_format
    first.network.to(memory_format=torch.contiguous_format)

    loss, gradient = step(last, device_of(GPU))

    expected_loss, expected_gradient = step(first, device_of(GPU))
    torch.testing.assert_close(loss, expected_loss, rtol=1e-4, atol=0)
    assert difference(gradient, expected_gradient) < 1e-3


@pytest.fixture
def on_gpu(copied):
    """A copy of the run that the CPU has finished, whose further work is the GPU's."""
    return Run(replace(copied.settings, trainer=GPU), copied.folder)


def made_again(run, stage):
    """The folder of a stage whose files were removed and made anew."""
    shutil.rmtree(run.stage(stage).path)
    return do(run, stage).path


def assert_equal_maps(found, expected, items):
    """The maps of all images in two folders; they are stored in 16 bits, in [0, 1]."""
    assert items
    for item in items:
        np.testing.assert_allclose(
            read_maps(found, item), read_maps(expected, item), rtol=0, atol=4e-3
        )


def equal_pixels(found, expected):
    return float(np.mean(read_label_image(found) == read_label_image(expected)))


def test_maps_equal_those_of_the_cpu(on_gpu, finished):
    folder = made_again(on_gpu, "saliency")

    assert_equal_maps(folder, finished.stage("saliency").path, finished.data.train.items)


@pytest.mark.parametrize("kind", ["seeds", "refined", "masks"])
def test_masks_equal_those_of_the_cpu(on_gpu, finished, kind):
    folder = made_again(on_gpu, "pseudo_labels")

    for item in finished.data.train.items:
        expected = mask_path(finished.stage("pseudo_labels").path, kind, item)
        assert equal_pixels(mask_path(folder, kind, item), expected) >= AGREE


def test_predictions_equal_those_of_the_cpu(on_gpu, finished):
    folder = made_again(on_gpu, "evaluate") / "predictions"

    for path in (finished.stage("evaluate").path / "predictions").iterdir():
        assert equal_pixels(folder / path.name, path) >= AGREE


def test_a_training_that_was_killed_ends_where_it_would_have_ended(on_gpu, tmp_path):
    settings = replace(on_gpu.settings.segmenter, epochs=2, labels="ground_truth", weights="none")
    chosen = replace(on_gpu.settings, segmenter=settings, trainer=replace(GPU, precision="32-true"))
    whole, killed = (Run(chosen, tmp_path / name) for name in ("whole", "killed"))
    expected = checkpoint(do(whole, "segmentation"))["state_dict"]
    kill_before(1, killed, "segmentation")
    resumed = checkpoint(do(killed, "segmentation"))["state_dict"]

    for name, values in expected.items():
        torch.testing.assert_close(resumed[name], values, rtol=1e-3, atol=1e-4)


def test_two_commands_share_a_gpu(finished, tmp_path):
    commands = []
    for name in ("one", "other"):
        shutil.copytree(finished.folder, tmp_path / name)
        shutil.rmtree(tmp_path / name / "saliency")
        words = [f"run_dir={tmp_path / name}", "stage=saliency", "trainer=gpu"]
        script = [sys.executable, str(ROOT / "scripts" / "run.py"), *words, "trainer.workers=0"]
        commands.append(subprocess.Popen(script, stderr=subprocess.PIPE, text=True))

    errors = [command.communicate(timeout=300)[1] for command in commands]

    assert [command.returncode for command in commands] == [0, 0], errors
    made = finished.stage("saliency").path
    for name in ("one", "other"):
        folder = tmp_path / name / made.relative_to(finished.folder)
        assert_equal_maps(folder, made, finished.data.train.items)
