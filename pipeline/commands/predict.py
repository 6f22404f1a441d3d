"""`tsgb predict`: label images of new photos, by the network of a run."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from pipeline.base import ranks
from pipeline.base.errors import ConfigError, PipelineError, failure_of_image
from pipeline.base.files import storage_explained
from pipeline.base.terminal import Terminal, print_error
from pipeline.data.headers import MAX_MEGAPIXELS
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
from pipeline.stages.prediction import Failures, raise_if_any


def main(words: Sequence[str]) -> int:
    """Exit code of the command: 0, or 1 after a message on standard error.

    Args:
        words: What follows ``tsgb predict``.
    """
    wanted, terminal = parser().parse_args(words), Terminal()
    try:
        with storage_explained(wanted.out):
            photos = find_photos(wanted.photos)
            network = load(wanted.run, _use(wanted), device=wanted.device)
            kinds = Kinds(wanted.overlay, wanted.probabilities, wanted.confidence)
            predict(network, photos, wanted.out, kinds, terminal)
    except PipelineError as error:
        print_error(error)
        return 1
    terminal.summarise(str(wanted.out))
    return 0


def command_of(run: Run) -> str:
    """The words that label photos with the network of a run."""
    return f"tsgb predict {shlex.quote(str(run.folder))} photos/ --out predictions/"


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
    photos = find_photos(places)
    network = _network_of(run)
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
    for path in filter(is_large, photos.values()):
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
    terminal.say("label images", str(outputs.folder / "labels"))
    terminal.say("pixels and confidence", str(table))


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


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: numbers with commas, as in 0.5,1") from error
    if not all(0 < scale < 100 for scale in scales):
        raise argparse.ArgumentTypeError(f"{text!r}: scales are above 0")
    return scales


def parser() -> argparse.ArgumentParser:
    """The parser of the words of the command."""
    words = argparse.ArgumentParser(
        prog="tsgb predict",
        description="Label images of new photos, by the network of a run. The same command goes "
        "on where it was stopped.",
        epilog="Options that are not given are those that the run was evaluated with.",
    )
    add, choice = words.add_argument, argparse.BooleanOptionalAction
    add(
        "run",
        metavar="RUN",
        help="folder of a run or of its network, a checkpoint, or an exported .safetensors",
    )
    add("photos", metavar="PHOTO", nargs="+", help="image files, folders, or .txt lists of paths")
    add("--out", metavar="DIR", type=Path, required=True, help="where the results go")
    add("--overlay", action="store_true", help="also pictures of the labels over the photo")
    add("--probabilities", action="store_true", help="also 16-bit images of each class")
    add("--confidence", action="store_true", help="also 16-bit images of the chosen label's")
    add("--scales", metavar="A,B", type=_scales, help="average over these scales of the photo")
    add("--flip", action=choice, help="average over the mirrored photo too")
    add("--refine", action=choice, help="align with edges, by the run's refinement")
    add("--prior", action=choice, help="multiply by the odds of the run's classifier")
    add("--tile", metavar="N", type=int, help="predict in tiles of N px, for large photos")
    add("--overlap", metavar="SHARE", type=float, default=0.25, help="of tiles; default: 0.25")
    add("--megapixels", metavar="N", type=float, default=MAX_MEGAPIXELS,
        help=f"refuse larger files undecoded; default: {MAX_MEGAPIXELS:g}")  # fmt: skip
    add("--device", default="auto", help="auto (default), cpu or cuda")
    return words
