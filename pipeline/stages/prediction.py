"""Lightning ``predict`` over a list of images: one result, one file, and no image lost silently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.base.errors import failure_of_image
from pipeline.base.ranks import gathered
from pipeline.data.catalogue import Item
from pipeline.data.datasets import TargetedImages, loading
from pipeline.networks.device import exact_products, on_gpu
from pipeline.stages.failures import Failures
from pipeline.stages.job import Job
from pipeline.stages.trainer import make_trainer
from pipeline.tasks.predictor import Batch


def predict(
    job: Job,
    make_task: Callable[[], pl.LightningModule],
    items: Sequence[Item],
    write: Callable[[Item, Tensor], None],
) -> Failures:
    """Predict every image and hand each result to ``write``; return the images that failed.

    Gradients are allowed, since saliency needs them. On a GPU nothing is rounded to TensorFloat-32.

    Args:
        job: With the settings.
        make_task: Makes the task, unless no process has any image.
        items: The images of this process; each process has its own.
        write: Is given an image and its result.
    """
    if not any(gathered(len(items))):
        return {}
    options = loading(job.settings.trainer.workers, pinned=on_gpu(job.settings.trainer))
    loader = DataLoader(TargetedImages(items), batch_size=1, **options)
    writer = _Writer(items, write)
    trainer = make_trainer(job, callbacks=[writer], inference_mode=False)
    with exact_products():
        trainer.predict(make_task(), loader, return_predictions=False)
    return writer.failures


class _Writer(Callback):
    """Hands each result to ``write``; the result of an image that cannot be read is None."""

    def __init__(self, items: Sequence[Item], write: Callable[[Item, Tensor], None]) -> None:
        self.items = {item.id: item for item in items}
        self.write = write
        self.failures: Failures = {}

    def on_predict_batch_end(
        self,
        _trainer: pl.Trainer,
        _task: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        _index: int,
        _loader: int = 0,
    ) -> None:
        """Write one result, or note why there is none."""
        item = self.items[batch[2][0]]
        try:
            if isinstance(outputs, Exception):
                raise outputs
            self.write(item, outputs)
        except Exception as error:
            reason = failure_of_image(error)
            if reason is None:
                raise
            self.failures[item.id] = f"{item.image}: {reason}"
