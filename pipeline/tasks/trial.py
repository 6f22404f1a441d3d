"""Training steps and predictions on noise: a network that cannot work fails in seconds.

The others are timed, for an estimate of how long the run will take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch
from torch import Tensor

from pipeline.base.config import TrainerConfig
from pipeline.base.errors import ConfigError, PipelineError, reason
from pipeline.networks.depthwise import speed_up_depthwise
from pipeline.networks.device import device_of, training_precision
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.network_task import NetworkTask
from pipeline.tasks.optimisation import build_optimizer
from pipeline.tasks.segmenter import SegmenterTask

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_ONE_VALUE = "more than 1 value per channel"  # torch's words for a batch norm without a batch


def try_training(task: NetworkTask, labels: Tensor, side: int, trainer: TrainerConfig) -> float:
    """Train two steps, as a training would: its crops, its precision, its optimiser.

    Args:
        task: A network that is thrown away afterwards.
        labels: What the network should answer, one for each crop of a batch.
        side: Side of a crop, px.
        trainer: Hardware and precision.

    Returns:
        Seconds of the second step.

    Raises:
        ConfigError: The network cannot be trained on such a batch.
    """
    count = len(labels)
    batch = "one crop" if count == 1 else f"batches of {count} crops"
    with _explained(task, f"cannot be trained on {batch} of {side} x {side} px"):
        device, precision = device_of(trainer), _AUTOCAST.get(training_precision(trainer))
        speed_up_depthwise(task.to(device).network)
        task.train()
        learning = [p for p in task.parameters() if p.requires_grad]
        optimizer = build_optimizer(task.settings, learning, [])
        kind = torch.device(device).type  # "cuda" of "cuda:1"
        images = task.colours.noise(count, side, side)

        def step() -> None:
            with torch.autocast(kind, precision, enabled=precision is not None):
                loss = task.loss_of((images.to(device), labels.to(device)))
            loss.backward()
            optimizer.step()

        return seconds_of(step)


@torch.no_grad()
def try_segmenter(
    task: SegmenterTask, size: tuple[int, int], scale: float, trainer: TrainerConfig
) -> float:
    """Predict an image of ``size`` (height, width) in px at a scale; return the seconds it takes.

    Raises:
        ConfigError: The segmenter cannot take it.
    """
    height, width = size
    with _explained(task, f"cannot predict an image of {width} x {height} px at scale {scale:g}"):
        image = task.colours.noise(1, height, width).to(task.to(device_of(trainer)).device)
        task.eval()
        return seconds_of(lambda: task.predict_probabilities(image, [scale], flip=False))


@torch.no_grad()
def try_classifier(task: ClassifierTask, size: tuple[int, int], trainer: TrainerConfig) -> None:
    """Classify an image of ``size`` (height, width) in px.

    Raises:
        ConfigError: The classifier cannot take it.
    """
    height, width = size
    with _explained(task, f"cannot classify an image of {width} x {height} px"):
        task.eval()(task.colours.noise(1, height, width).to(task.to(device_of(trainer)).device))


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that something takes once it was done before, which is when it takes longer."""
    work()
    _wait_for_gpu()
    start = perf_counter()
    work()
    _wait_for_gpu()
    return perf_counter() - start


def _wait_for_gpu() -> None:
    """Wait until a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def _explained(task: NetworkTask, what: str) -> Iterator[None]:
    """Name the network before what it cannot do."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        cause = reason(error)
        remedy = _remedy(task.group, cause)
        raise ConfigError(f"{task.group}: {task.title} {what}: {cause} {remedy}") from error


def _remedy(group: str, cause: str) -> str:
    if _ONE_VALUE in cause:
        return (
            "Batch normalisation needs more than one value to learn from. Set "
            f"{group}.batch_size=2 or more, or a larger {group}.size."
        )
    if group == "classifier":
        return "Choose another classifier.size, or a convolutional network such as resnet50."
    return (
        "Training sees crops of segmenter.size, prediction whole images times the scale; both are "
        "padded to multiples of 32. Choose an encoder for any size, such as resnet50 or "
        "tu-convnext_tiny; or let a transformer take any size with segmenter.options="
        "{dynamic_img_size:true}; or another segmenter.arch or segmenter.size."
    )
