"""Stage 2, first half: saliency maps of every training image, for the classes in its label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.artifacts import StageFolder, atomic_path
from pipeline.data.catalogue import Item, spaced
from pipeline.stages import classifier
from pipeline.stages.context import Run, build, name_of
from pipeline.stages.prediction import predict, raise_if_any
from pipeline.tasks.pseudo_labeler import PseudoLabeler


def folder(run: Run) -> StageFolder:
    """Where the maps are, or will be."""
    config, upstream = run.config.saliency, [classifier.folder(run)]
    some = {} if config.images is None else {"images": [item.id for item in items_of(run)]}
    return run.stage(
        "saliency", name_of(config.method), __name__, upstream, saliency=config, **some
    )


def items_of(run: Run) -> Sequence[Item]:
    """The images that are explained and get masks: those of ``train``, or some of the scored."""
    catalogue, count = run.catalogue, run.config.saliency.images
    if count is None:
        return catalogue.train.items
    return spaced(catalogue.scored.items or catalogue.train.items, count)


def run(run: Run, then: Callable[[Item], None] | None = None) -> StageFolder:
    """Explain every image of ``items_of``: one file of maps in [0, 1] an image.

    ``then`` is called with each image whose file was just written.
    """
    run.require(classifier.folder(run), "stage=classifier")
    done = run.carry_out(folder(run), lambda stage: _explain_all(run, stage, then))
    run.say("saliency", f"{done.summary['images']} images, {done.path / 'maps'}")
    return done


def map_path(stage: StageFolder, item: Item) -> Path:
    """The file that holds the maps of an image."""
    return stage.path / "maps" / f"{item.id}.npz"


def read_maps(stage: StageFolder, item: Item) -> NDArray[np.float32]:
    """Maps [K, h, w] in [0, 1] of the classes in the label, a quarter of the image's sides."""
    with np.load(map_path(stage, item)) as content:
        return np.asarray(content["maps"], dtype=np.float32)


def _explain_all(
    run: Run, stage: StageFolder, then: Callable[[Item], None] | None
) -> dict[str, Any]:
    items = items_of(run)
    missing = [item for item in items if not map_path(stage, item).exists()]

    def write(item: Item, maps: Tensor) -> None:
        values = maps.cpu().numpy().astype(np.float16)
        with atomic_path(map_path(stage, item)) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, maps=values, classes=np.asarray(item.labels))
        if then is not None:
            then(item)

    failures = predict(run, stage.path, _labeler(run), missing, write) if missing else {}
    raise_if_any(failures, len(items), "saliency")
    return {"images": len(items), "method": run.config.saliency.method["_target_"]}


def _labeler(run: Run) -> PseudoLabeler:
    """The task that explains the run's classifier with the configured method."""
    config = run.config.saliency
    network = classifier.load(run).network
    method = build({**config.method, "model": network}, "saliency.method")
    return PseudoLabeler.from_config(network, method, config)
