"""Stage `segmentation`: train the segmenter on pseudo-masks, on given masks or on ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pipeline.base.arrays import LabelImage
from pipeline.base.config import GROUND_TRUTH, PSEUDO, SegmenterConfig, Void
from pipeline.base.ranks import first
from pipeline.data.catalogue import Item
from pipeline.data.datasets import MaskedImages, segmenter_transform
from pipeline.data.palette import read_label_image
from pipeline.data.truth import ground_truth
from pipeline.data.void import void_is_background
from pipeline.networks.colours import with_colours
from pipeline.stages.corrected import corrected_path, keep_corrected, learned_before
from pipeline.stages.job import Job, Summary
from pipeline.stages.label_images import mask_path
from pipeline.stages.trained import load_classifier
from pipeline.stages.training import enough_epochs, fit, seed_everything, training_data
from pipeline.tasks.segmenter import SegmenterTask, initial_encoder_weights

_CORRECTED_SHARE = 0.25  # of the images that an epoch shows
_MOST_REPEATS = 10


def work(job: Job) -> Summary:
    """Train to the last epoch; that checkpoint is the result, however it scores."""
    seed_everything(job)
    items = job.data.train.items
    bands = job.data.bands
    config = with_colours(job.settings.segmenter, job.settings.classifier, bands)
    task = SegmenterTask.from_config(config, job.data.classes, bands)
    task.loss = job.build(config.loss, "segmenter.loss")
    _initialise(job, task, config)
    transform = segmenter_transform(
        config.size, config.scale, config.colour_jitter, task.colours.mean, bands
    )
    real = first(lambda: keep_corrected(job, partial(training_labels, config, job.inputs)))
    learned = list(dict.fromkeys([*real, *learned_before(config)]))
    task.note_corrected(learned)
    read_labels = partial(_labels_of, config, job.inputs, job.folder, frozenset(real))
    repeats = config.corrected_repeats or enough_repeats(len(items), len(real))
    shown = [*items, *_again(items, real, repeats)]
    classes = len(job.data.classes)
    images = MaskedImages(shown, transform, job.settings.random_seed, read_labels, classes)
    trainer = fit(
        job, task, training_data(job, images, config.batch_size),
        max_epochs=enough_epochs(config, len(shown)), gradient_clip_val=config.gradient_clip,
    )  # fmt: skip
    loss = trainer.callback_metrics.get("loss")  # None if all epochs were done already
    last = None if loss is None else float(loss)
    length = {"steps": trainer.global_step, "epochs": trainer.max_epochs}
    facts = {"images": len(items), "corrected_masks": len(learned), **length, "last_loss": last}
    return {"labels": config.labels, **facts}


def enough_repeats(images: int, corrected: int) -> int:
    """How often an epoch shows an image with a corrected mask, if no number is set.

    So often that a quarter of what it shows has one, at most ten times (docs/results.md).

    Example:
        >>> enough_repeats(400, 20), enough_repeats(400, 2), enough_repeats(400, 399)
        (6, 10, 1)
    """
    if not corrected:
        return 1
    wanted = _CORRECTED_SHARE / (1 - _CORRECTED_SHARE) * (images - corrected) / corrected
    return min(max(round(wanted), 1), _MOST_REPEATS)


def _again(items: Sequence[Item], ids: Iterable[str], repeats: int) -> list[Item]:
    """The images that an epoch shows more than once, as often as it does so."""
    chosen = set(ids)
    return [item for item in items if item.id in chosen] * (repeats - 1)


def _labels_of(
    config: SegmenterConfig,
    inputs: Mapping[str, Path],
    folder: Path,
    corrected: frozenset[str],
    item: Item,
) -> LabelImage:
    """The label image that an image is learned from: its corrected mask, if it has one.

    Void in a real mask is the outline of an object, which no class owns.
    """
    if item.id in corrected:
        return read_label_image(corrected_path(folder, item.id))
    labels = training_labels(config, inputs, item)
    real = config.labels == GROUND_TRUTH or config.void == Void.ignored
    return labels if real else void_is_background(labels)


def training_labels(config: SegmenterConfig, inputs: Mapping[str, Path], item: Item) -> LabelImage:
    """The label image of an image, corrected masks left aside.

    Args:
        config: Says whose label images: ``segmenter.labels``.
        inputs: Folders of the stages before, by name.
        item: The image, with its ground truth if ``labels`` asks for that.
    """
    if config.labels == PSEUDO:
        return read_label_image(mask_path(inputs["pseudo_labels"], "masks", item))
    if config.labels == GROUND_TRUTH:
        return ground_truth(item)
    return read_label_image(Path(config.labels).expanduser() / f"{item.id}.png")


def _initialise(job: Job, task: SegmenterTask, config: SegmenterConfig) -> None:
    tensors = initial_encoder_weights(config)
    if config.weights == "classifier":
        tensors = load_classifier(job.inputs["classifier"]).network.state_dict()
    if tensors is not None:
        task.load_encoder(tensors, f"segmenter.weights={config.weights}")
