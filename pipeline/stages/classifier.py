"""Stage 1: learn the names of what is in an image."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader

from pipeline.artifacts import StageFolder
from pipeline.config import ClassifierConfig
from pipeline.data.datasets import (
    EpochData,
    LabelledImages,
    Squashed,
    classifier_transform,
    single_threaded,
)
from pipeline.errors import ConfigError
from pipeline.stages.context import Run, number, weights_version
from pipeline.stages.training import CHECKPOINT, check_one_process, fit, make_trainer
from pipeline.tasks.backbones import ClassifierNet, build_classifier, library_network
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.optimisation import build_optimizer


def folder(run: Run) -> StageFolder:
    """Where the classifier is, or will be."""
    # Which layers are read later makes no difference to what is learned.
    config = run.config.classifier
    settings = replace(
        config, middle_layer="", last_layer="", weights=weights_version(config.weights)
    )
    precision = run.config.trainer.precision
    name = config.backbone
    return run.stage("classifier", name, __name__, [], classifier=settings, precision=precision)


def run(run: Run) -> StageFolder:
    """Train the classifier on the image labels of ``train``; report AP on ``val``."""
    done = run.carry_out(folder(run), lambda stage: _train(run, stage))
    run.say("classifier mAP (val, classes that occur)", number(done.summary["mAP"]))
    run.say("classifier", str(done.path / CHECKPOINT))
    return done


def untrained(run: Run) -> ClassifierNet:
    """The network as it is before any weights are read or learned."""
    config, classes = run.config.classifier, len(run.catalogue.classes)
    return build_classifier(config.library, config.backbone, "none", classes)


def check_settings(run: Run) -> None:
    """Build the network once, before any work, so that what cannot work is known now.

    Raises:
        ConfigError: Unknown network, layer or optimiser, weights that do not fit, or layers that
            stay as they are without weights.
    """
    _check_choices(run.config.classifier)
    check_one_process(run.config.trainer)
    config = run.config.classifier
    network = untrained(run)
    if config.weights not in ("none", "download"):
        library_network(config.library, config.backbone, config.weights)
    build_optimizer(config, network.parameters(), [])
    for name in ("middle_layer", "last_layer"):
        layer = getattr(config, name)
        if layer not in dict(network.named_modules()):
            raise ConfigError(
                f"classifier.{name}: {config.backbone} has no layer {layer!r}. Saliency could not "
                f"be read. Its top layers are {', '.join(n for n, _ in _top(network))}."
            )


def _check_choices(config: ClassifierConfig) -> None:
    if config.freeze_until and config.weights == "none":
        raise ConfigError(
            f"classifier.freeze_until: {config.freeze_until!r} with classifier.weights=none. "
            "Layers that learned nothing would stay so. Give weights, or freeze nothing: "
            "classifier.freeze_until=''."
        )


def _top(network: ClassifierNet) -> list[tuple[str, object]]:
    return [(f"backbone.{name}", layer) for name, layer in network.backbone.named_children()]


def load(run: Run) -> ClassifierTask:
    """The trained classifier of this run."""
    stage = run.require(folder(run), "stage=classifier")
    return ClassifierTask.from_checkpoint(str(stage.path / CHECKPOINT))


def _train(run: Run, stage: StageFolder) -> dict[str, Any]:
    config, catalogue = run.config.classifier, run.catalogue
    task = ClassifierTask.from_config(config, catalogue.classes)
    transform = classifier_transform(
        config.size, config.crop_area, config.colour_jitter, config.rotation,
        vertical_flip=config.vertical_flip,
    )  # fmt: skip
    seed, classes = run.config.random_seed, len(catalogue.classes)
    train = LabelledImages(catalogue.train.items, transform, seed, classes)
    data = EpochData(train, config.batch_size, run.config.trainer.workers)
    fit(
        run, stage.path, task, data,
        max_epochs=config.epochs, gradient_clip_val=config.gradient_clip,
    )  # fmt: skip
    return _validate(run, stage, task)


def _validate(run: Run, stage: StageFolder, task: ClassifierTask) -> dict[str, Any]:
    """AP per class and mAP, in float32."""
    config, catalogue = run.config.classifier, run.catalogue
    val = Squashed(catalogue.val.items, config.size, len(catalogue.classes))
    loader = DataLoader(
        val,
        batch_size=config.batch_size,
        num_workers=run.config.trainer.workers,
        worker_init_fn=single_threaded,
    )
    trainer = make_trainer(run, stage.path, logger=False)
    metrics = trainer.validate(task, loader, verbose=False)[0]
    shown = Counter(label for item in catalogue.val.items for label in item.labels)
    average = {
        name: metrics[f"AP/{name}"] if shown[label] else None
        for label, name in enumerate(catalogue.classes)
    }
    known = [value for value in average.values() if value is not None]
    return {
        "mAP": sum(known) / len(known) if known else None,
        "AP": average,
        "images": {name: shown[label] for label, name in enumerate(catalogue.classes)},
        "split": catalogue.val.name,
    }
