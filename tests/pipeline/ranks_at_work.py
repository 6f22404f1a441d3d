"""What a test lets several processes do: `torchrun ranks_at_work.py FOLDER DATA RUN`.

Each process writes what it found to FOLDER; the test compares it with what one process finds.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.base import ranks
from pipeline.base.errors import DataError, PipelineError, StageIncompleteError
from pipeline.data.datasets import EpochData, LabelledImages, MaskedImages
from pipeline.data.palette import read_label_image
from pipeline.run.run import Run
from pipeline.run.settings import plain
from pipeline.scoring import ConfusionMatrix
from pipeline.stages.trainer import make_trainer
from pipeline.stages.training import seed_everything
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.losses import BalancedCrossEntropy, CrossEntropy
from pipeline.tasks.segmenter import SegmenterTask
from tests.conftest import TINY, composed
from tests.pipeline.runs import again, do, job

BATCH = 5  # three images for the first of two processes, two for the second


def main(folder, data, run_folder):
    """Everything, in every process."""
    torch.set_num_threads(1)
    ranks.connect("gloo")
    run = Run(plain(composed(*TINY, f"data.root={data}")), Path(run_folder))
    talk(folder)
    for name, gradients in gradients_of_a_step(run).items():
        if ranks.is_first():
            torch.save(gradients, folder / f"{name}.pt")
    predicted(run, folder)
    ranks.disconnect()


def talk(folder):
    """What the processes tell each other."""
    place, matrix = ranks.here(), ConfusionMatrix(2)
    matrix.update(np.full((1, 2), place.rank), np.ones((1, 2), np.int64))
    matrix.gather()
    heard = {
        "shares": ranks.gathered(ranks.share("abcde")),
        "alone": ranks.first(lambda: [ranks.share("abcde"), ranks.first(lambda: place.rank)]),
        "counts": matrix.counts.tolist(),
        "error": error_of(lambda: ranks.first(fail)),
        "disagreement": error_of(lambda: ranks.agree(["a", f"b{place.rank}"], "data")),
    }
    (folder / f"heard-{place.rank}.json").write_text(json.dumps(heard))


def fail():
    raise DataError(f"rank {ranks._State.place.rank} failed")


def error_of(call):
    try:
        call()
    except PipelineError as error:
        return f"{type(error).__name__}: {error}"
    return ""


class Notes(Callback):
    """The gradients of the first step, as the optimiser gets them."""

    def on_before_optimizer_step(self, _trainer, task, _optimizer):
        self.gradients = {
            n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None
        }


def gradients_of_a_step(run):
    """Of both networks and both losses, in float64, without dropout and batch statistics."""
    losses = {"classifier": None, "plain": CrossEntropy(), "balanced": BalancedCrossEntropy()}
    found = {}
    for name, loss in losses.items():
        seed_everything(job(run, "classifier"))
        task, notes = task_of(run, loss), Notes()
        trainer = make_trainer(
            job(run, "classifier"), max_steps=1, precision="64-true", callbacks=[notes],
            limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(task, EpochData(images_of(run, loss), BATCH, 0))
        found[name] = notes.gradients
    return found


def task_of(run, loss):
    classes, settings = run.data.classes, run.settings
    if loss is None:
        task = ClassifierTask.from_config(settings.classifier, classes)
    else:
        task = SegmenterTask.from_config(settings.segmenter, classes)
        task.loss = loss
    kinds = (_BatchNorm, nn.Dropout, nn.Dropout2d)
    task._always_eval = [name for name, layer in task.named_modules() if isinstance(layer, kinds)]
    return task


class Untouched:
    """No augmentation."""

    def set_random_seed(self, _seed):
        pass

    def __call__(self, **arrays):
        return arrays


def images_of(run, loss):
    items = run.data.train.items
    if loss is None:
        return LabelledImages(items, Untouched(), 0, len(run.data.classes))
    return MaskedImages(items, Untouched(), 0, labels_with_void, len(run.data.classes))


def labels_with_void(item):
    """Every third image is void but for its last rows, so that shares are unequal."""
    values = read_label_image(item.mask).copy()
    values[: 60 if int(item.id[-1]) % 3 == 0 else 5] = 255
    return values


def predicted(run, folder):
    """Relabel with two unreadable images, one for each process, and once more without."""
    victims = [item.image for item in run.data.train.items[:2]]
    kept = [path.read_bytes() for path in victims]
    ranks.wait_for_all()
    ranks.first(lambda: [path.unlink() for path in victims])
    failure = ""
    try:
        do(run, "relabel")
    except StageIncompleteError as error:
        failure = str(error)
    (folder / f"failure-{ranks.here().rank}.txt").write_text(failure)
    ranks.wait_for_all()
    ranks.first(
        lambda: [path.write_bytes(content) for path, content in zip(victims, kept, strict=True)]
    )
    do(again(run), "relabel")
    photos = str(run.data.val.items[0].image.parent)
    words = (f"predict.images={photos}", f"predict.out={folder / 'labelled'}")
    do(Run(plain(composed(*TINY, f"data.root={sys.argv[2]}", *words)), run.folder), "predict")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
