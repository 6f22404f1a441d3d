"""Lightning ``predict`` over a list of images: one result, one file, and no image lost silently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader

from pipeline.base.arrays import Floats
from pipeline.base.config import TrainerConfig
from pipeline.base.errors import failure_of_image
from pipeline.base.ranks import gathered
from pipeline.data.catalogue import Item
from pipeline.data.datasets import TargetedImages, loading
from pipeline.networks.device import exact_products, on_gpu, workers_of
from pipeline.stages.failures import BackgroundPool, Failures
from pipeline.stages.job import Job
from pipeline.stages.trainer import make_trainer
from pipeline.tasks.predictor import Batch

Write = Callable[[Item, Floats], None]


def predict(
    job: Job,
    make_task: Callable[[], pl.LightningModule],
    items: Sequence[Item],
    write: Write,
) -> Failures:
    """Predict every image and hand each result to ``write``; return the images that failed.

    Gradients are allowed, since saliency needs them. On a GPU nothing is rounded to TensorFloat-32,
    and results are written by other threads, for the GPU not to wait.

    Args:
        job: With the settings.
        make_task: Makes the task, unless no process has any image.
        items: The images of this process; each process has its own.
        write: Is given an image and its result; images come in any order.
    """
    if not any(gathered(len(items))):
        return {}
    settings, failures = job.settings.trainer, Failures()
    options = loading(workers_of(settings), pinned=on_gpu(settings))
    loader = DataLoader(TargetedImages(items), batch_size=1, **options)
    with exact_products(), _beside(settings, partial(_finish, write, failures)) as hand_over:
        trainer = make_trainer(job, callbacks=[_Results(items, hand_over)], inference_mode=False)
        trainer.predict(make_task(), loader, return_predictions=False)
    return failures


_Result = tuple[Item, Floats | Exception]


def _finish(write: Write, failures: Failures, result: _Result) -> None:
    """Write one result, or note why there is none."""
    item, found = result
    try:
        if isinstance(found, Exception):
            raise found
        write(item, found)
    except Exception as error:
        reason = failure_of_image(error)
        if reason is None:
            raise
        failures[item.id] = f"{item.image}: {reason}"


@contextmanager
def _beside(
    settings: TrainerConfig, work: Callable[[_Result], None]
) -> Iterator[Callable[[_Result], None]]:
    """Where results go: to threads beside a GPU; a network on a CPU needs the cores itself."""
    if not on_gpu(settings):
        yield work
        return
    with BackgroundPool(work, max(workers_of(settings), 1)) as pool:
        yield pool.submit


class _Results(Callback):
    """Hands over each result as an array, or the reason why an image has none."""

    def __init__(self, items: Sequence[Item], hand_over: Callable[[_Result], None]) -> None:
        self.items = {item.id: item for item in items}
        self.hand_over = hand_over

    def on_predict_batch_end(
        self,
        _trainer: pl.Trainer,
        _task: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        _index: int,
        _loader: int = 0,
    ) -> None:
        """Hand over the result of one image."""
        found = outputs if isinstance(outputs, Exception) else outputs.cpu().numpy()
        self.hand_over((self.items[batch[2][0]], found))
