"""`tsgb predict`: label images of new photos, by the network of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.base import ranks
from pipeline.base.errors import ConfigError, failure_of_image
from pipeline.base.memory import keep_freed_memory
from pipeline.base.terminal import Terminal
from pipeline.inference.large import check_large, is_large
from pipeline.inference.loading import Use, load
from pipeline.inference.network import Network
from pipeline.inference.outputs import Kinds, Outputs
from pipeline.inference.photos import Photos, find_photos
from pipeline.inference.tiles import Tiling
from pipeline.networks.device import device_of
from pipeline.run.executor import Step, require
from pipeline.run.run import Run
from pipeline.run.table import STAGES
from pipeline.stages.failures import Failures, raise_if_any


def main(wanted: argparse.Namespace, terminal: Terminal) -> None:
    """Label the photos.

    Args:
        wanted: The words of the command.
        terminal: Where progress and summary are shown.

    Raises:
        PipelineError: They cannot be labelled; the message says why.
    """
    keep_freed_memory()
    network = load(wanted.run, _use(wanted), device=wanted.device)
    photos = find_photos(wanted.photos, network.suffixes)
    kinds = Kinds(wanted.overlay, wanted.probabilities, wanted.confidence)
    predict(network, photos, wanted.out, kinds, terminal)
    terminal.summarise(wanted.out)


def run(run: Run) -> None:
    """Do what ``stage=predict`` asks for, with the settings of ``evaluate``.

    Raises:
        ConfigError: No images are named.
        MissingArtifactError: The run has no finished network.
    """
    config = run.settings.predict
    if not config.images:
        raise ConfigError("predict.images: not given. Add predict.images=FOLDER.")
    places = [config.images] if isinstance(config.images, str) else list(config.images)
    network = _network_of(run)
    photos = find_photos(places, network.suffixes)
    name = Path(places[0]).expanduser().absolute().stem
    out = Path(config.out).expanduser() if config.out else run.folder / "predict" / name
    kinds = Kinds(config.overlay, config.probabilities, config.confidence)
    predict(network, photos, out, kinds, run.terminal)


def _network_of(run: Run) -> Network:
    """The network that these settings describe, used as ``evaluate`` says."""
    config, evaluate = run.settings.predict, run.settings.evaluate
    step = Step(run, STAGES["segmentation"])
    if evaluate.checkpoint is None:
        require(step)
    place = evaluate.checkpoint or step.folder.path
    tiling = None if config.tile is None else Tiling(config.tile, config.overlap)
    scales, prior = tuple(evaluate.scales), evaluate.classifier_prior
    use = Use(scales, evaluate.flip, evaluate.refine, prior, tiling)
    return load(place, use, device=device_of(run.settings.trainer))


def predict(network: Network, photos: Photos, out: Path, kinds: Kinds, terminal: Terminal) -> None:
    """Label every photo that is not labelled yet.

    Raises:
        ConfigError: The folder has other predictions.
        StageIncompleteError: Some photos could not be labelled; the others were.
    """
    for path in (path for path in photos.values() if is_large(network, path)):
        check_large(network, path, labels_only=kinds == Kinds())
    ranks.first(lambda: Outputs(out, network, kinds).folder)  # takes it before the others do
    outputs, failures = Outputs(out, network, kinds), Failures()
    own = dict(ranks.share(list(photos.items())))
    missing = {id_: path for id_, path in own.items() if not outputs.is_done(id_, path)}
    done = sum(ranks.gathered(len(own) - len(missing)))
    if done:
        terminal.note(f"{done} of {len(photos)} photos are labelled already")
    with terminal.progress("predicting", len(missing)) as step:
        for count, (id_, path) in enumerate(missing.items(), start=1):
            reason = _label(network, outputs, id_, path)
            failures |= {id_: reason} if reason else {}
            step(count, len(missing))
    ranks.wait_for_all()
    table = ranks.first(lambda: outputs.write_table(photos))
    raise_if_any(failures, len(photos), "predict")
    terminal.say("label images", outputs.folder / "labels")
    terminal.say("pixels and confidence", table)


def _label(network: Network, outputs: Outputs, id_: str, path: Path) -> str | None:
    """Label one photo; why that is not possible, if so."""
    try:
        outputs.label(network, id_, path)
    except Exception as error:
        reason = failure_of_image(error)
        if reason is None:
            raise
        return reason
    return None


def _use(wanted: argparse.Namespace) -> Use:
    tiling = None if wanted.tile is None else Tiling(wanted.tile, wanted.overlap)
    return Use(wanted.scales, wanted.flip, wanted.refine, wanted.prior, tiling, wanted.megapixels)
