"""Stage `classifier`: learn the names of what is in an image."""

from __future__ import annotations

from collections import Counter

from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader

from pipeline.base.ranks import share
from pipeline.data.catalogue import spaced
from pipeline.data.datasets import (
    LabelledImages,
    Squashed,
    classifier_transform,
    loading,
)
from pipeline.networks.device import exact_products, on_gpu, workers_of
from pipeline.stages.held_out import HeldOutLoss, plan
from pipeline.stages.job import Job, Summary
from pipeline.stages.trainer import make_trainer
from pipeline.stages.training import enough_epochs, fit, seed_everything, training_data
from pipeline.tasks.classifier import ClassifierTask


def work(job: Job) -> Summary:
    """Train the classifier on the image labels of ``train``, then validate it on ``val``."""
    seed_everything(job)
    config, data = job.settings.classifier, job.data
    task = ClassifierTask.from_config(config, data.classes, data.bands)
    transform = classifier_transform(
        config.size, config.crop_area, config.colour_jitter, config.rotation,
        vertical_flip=config.vertical_flip, bands=data.bands,
    )  # fmt: skip
    seed, classes = job.settings.random_seed, len(data.classes)
    images = LabelledImages(data.train.items, transform, seed, classes)
    epochs = enough_epochs(config, len(images))
    trainer = fit(
        job, task, training_data(job, images, config.batch_size),
        _held_out(job, len(images), epochs),
        max_epochs=epochs, gradient_clip_val=config.gradient_clip,
    )  # fmt: skip
    return {**_validate(job, task), "steps": trainer.global_step, "epochs": trainer.max_epochs}


def _held_out(job: Job, images: int, epochs: int) -> list[Callback]:
    """What logs the loss on held-out images, if that costs next to nothing."""
    config, data = job.settings.classifier, job.data
    found = plan(images, len(data.val.items), epochs)
    if found is None:
        return []
    count, every = found
    shown = Squashed(spaced(data.val.items, count), config.size, len(data.classes))
    return [HeldOutLoss(shown, every)]


def _validate(job: Job, task: ClassifierTask) -> Summary:
    """Average precision of each class that occurs in ``val``, and their mean, in float32.

    Each process classifies its share of the images; the metric gathers what all have found.
    """
    config, data = job.settings.classifier, job.data
    trainer = job.settings.trainer
    images = Squashed(share(data.val.items), config.size, len(data.classes))
    options = loading(workers_of(trainer), pinned=on_gpu(trainer))
    loader = DataLoader(images, batch_size=config.batch_size, **options)
    with exact_products():
        metrics = make_trainer(job).validate(task, loader, verbose=False)[0]
    shown = Counter(label for item in data.val.items for label in item.labels)
    average = {
        name: metrics[f"AP/{name}"] if shown[label] else None
        for label, name in enumerate(data.classes)
    }
    known = [value for value in average.values() if value is not None]
    return {
        "mAP": sum(known) / len(known) if known else None,
        "AP": average,
        "images": {name: shown[label] for label, name in enumerate(data.classes)},
        "split": data.val.name,
        "held_out": len(data.val.items),
    }
