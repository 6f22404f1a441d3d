"""Stage 2, first half: saliency maps of every image to be masked, for the classes in its label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.artifacts import StageFolder, atomic_path
from pipeline.data.catalogue import Item, Split, spaced
from pipeline.data.checks import require_labels
from pipeline.errors import ConfigError
from pipeline.stages import classifier
from pipeline.stages.context import Run, build, name_of
from pipeline.stages.prediction import predict, raise_if_any
from pipeline.tasks.pseudo_labeler import PseudoLabeler

SPLITS = ("train", "val")


def folder(run: Run) -> StageFolder:
    """Where the maps are, or will be."""
    config, upstream = run.config.saliency, [classifier.folder(run)]
    some = {} if config.images is None else {"images": list(explained(run).ids)}
    return run.stage(
        "saliency", name_of(config.method), __name__, upstream, saliency=config, **some
    )


def explained(run: Run) -> Split:
    """The images that get maps and masks: those of a split, or some of the scored."""
    split, scored = _splits(run)
    count = run.config.saliency.images
    if count is None:
        return split
    return Split(split.name, tuple(spaced(scored.items or split.items, count)))


def scored_of(run: Run) -> Split:
    """Those of ``explained`` that masks are scored on, if they have ground truth."""
    made, scored = set(explained(run).ids), _splits(run)[1]
    return Split(scored.name, tuple(item for item in scored.items if item.id in made))


def _splits(run: Run) -> tuple[Split, Split]:
    """The images that may be explained, and those of them on which masks are scored."""
    catalogue = run.catalogue
    if run.config.saliency.split == "val":
        return catalogue.val, catalogue.val
    return catalogue.train, catalogue.scored


def check_split(run: Run) -> None:
    """Raise unless ``saliency.split`` names images whose classes are known."""
    if run.config.saliency.split not in SPLITS:
        raise ConfigError(
            f"saliency.split: {run.config.saliency.split!r} is unknown. No image would be known to "
            f"get masks. Choose one of {', '.join(SPLITS)}; data.val names the list behind val."
        )
    if run.config.saliency.split == "val":
        require_labels(run.catalogue.val, "saliency.split=val")


def run(run: Run, then: Callable[[Item], None] | None = None) -> StageFolder:
    """Explain every image of ``explained``: one file of maps in [0, 1] an image.

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
    items = explained(run).items
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
