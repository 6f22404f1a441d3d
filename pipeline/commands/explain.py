"""One image, some classes, one picture of what the classifier looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pipeline.base.arrays import Image
from pipeline.base.errors import ConfigError
from pipeline.base.files import write_bytes
from pipeline.base.terminal import ToPaste
from pipeline.commands.explained import about_photos, library_model, own_model
from pipeline.data.datasets import to_tensor
from pipeline.data.headers import MAX_MEGAPIXELS
from pipeline.networks.explained import ExplainedNetwork, fitted
from pipeline.report.pictures import encode_png
from pipeline.run.building import build, name_of
from pipeline.run.run import Run
from pipeline.tasks.saliency_predictor import SaliencyPredictor
from tsgb.errors import TSGBError
from tsgb.explain.classifier import Classifier, ClassifierError
from tsgb.explain.explanation import explain
from tsgb.explain.images import ImageError, Photo, TooLargeError, read_photo
from tsgb.explain.names import UnknownClassError


def run(run: Run) -> None:
    """Write the picture; without ``explain.classes`` that of the three most probable classes."""
    path, output = _image_path(run), _output_path(run)
    config = run.settings.explain
    if run.settings.data.get("channels") and not (config.model or config.checkpoint):
        raise ConfigError(about_photos(f"{run.settings.data['channels']} bands"))
    photo = _photo(run, path)
    network = _network(run)
    method = _method(run, network)
    classifier = network.classifier
    try:
        found = explain(
            classifier.preprocessing.view(photo.image),
            classifier,
            _attribution(run, classifier, method, np.asarray(photo.image)),
            words=run.settings.explain.classes,
            title=f"{path.name}: {name_of(method)} of {classifier.name}",
        )
    except UnknownClassError as error:
        raise ConfigError(f"explain.classes: {error}") from error
    except ClassifierError as error:
        raise ConfigError(f"explain.model: {error}") from error
    except TSGBError as error:
        raise ConfigError(f"explain: {classifier.name}: {error}") from error
    write_bytes(output, encode_png(found.picture))
    if photo.note:
        run.terminal.note(photo.note)
    for chosen in found.classes:
        note = f" ({chosen.note})" if chosen.note else ""
        run.terminal.say(f"probability of {chosen.name}", f"{chosen.percent}{note}")
    run.terminal.say("look at", ToPaste(output))


def _photo(run: Run, path: Path) -> Photo:
    try:
        return read_photo(path, run.settings.data.get("max_megapixels", MAX_MEGAPIXELS))
    except TooLargeError as error:
        raise ConfigError(f"explain.image: {error} See data.max_megapixels.") from error
    except ImageError as error:
        raise ConfigError(f"explain.image: {error}") from error


def _image_path(run: Run) -> Path:
    image = run.settings.explain.image
    if image is None:
        raise ConfigError(
            "explain.image: not given. Add explain.image=PATH, the path of a JPEG, PNG, BMP or "
            "WebP file."
        )
    return Path(image).expanduser()


def _output_path(run: Run) -> Path:
    output = run.settings.explain.output
    if output is None:
        return run.folder / "explain" / f"{_image_path(run).stem}.png"
    path = Path(output).expanduser()
    if path.suffix.lower() != ".png":
        raise ConfigError(
            f"explain.output: {output!r} does not end in .png, but the picture is a PNG file. "
            "Give a name like explain.output=dog.png."
        )
    return path


def _network(run: Run) -> ExplainedNetwork:
    config = run.settings.explain
    if config.model:
        return library_model(run, config.model, config.model_weights, "explain")
    return own_model(run, config.checkpoint, "explain")


def _method(run: Run, network: ExplainedNetwork) -> dict[str, Any]:
    """The configured method at a layer of the network; says so if there is no such layer."""
    wanted = run.settings.saliency.method
    method = fitted(wanted, network)
    if wanted.get("layer") is not None and method["layer"] is None:
        run.terminal.note(
            f"saliency.method.layer={wanted['layer']} is a layer of the run's classifier, not of "
            f"{run.settings.explain.model}; the method's own default is read instead."
        )
    return method


def _attribution(
    run: Run, classifier: Classifier, settings: dict[str, Any], image: Image
) -> Callable[[Tensor, Tensor], Tensor]:
    """Makes maps [1, K, h, w] of the image as the saliency stage does: in [0, 1], all scales."""
    method = build({**settings, "model": classifier.network}, "saliency.method")
    predictor = SaliencyPredictor.from_config(
        classifier.network, method, run.settings.saliency, classifier.preprocessing.normalise
    )
    pixels = to_tensor(image)[None]
    return lambda _, targets: predictor.predict_image(pixels, targets)[None]
