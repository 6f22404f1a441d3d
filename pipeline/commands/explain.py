"""One image, some classes, one picture of what the classifier looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.errors import ConfigError
from pipeline.base.files import write_bytes
from pipeline.commands.explained import Explained, fitted, library_model, logits_of, own_model
from pipeline.data.datasets import to_tensor
from pipeline.data.images import read_image
from pipeline.networks.pixels import normalise_colours, resize, scaled_size
from pipeline.report.pictures import explain_picture
from pipeline.run.building import build, name_of
from pipeline.run.run import Run
from pipeline.tasks.pseudo_labeler import PseudoLabeler, SaliencyMethod
from tsgb.errors import TSGBError

_MOST_PROBABLE = 3  # classes that are explained if none is named


@dataclass(frozen=True)
class _Recoloured:
    """A saliency method on images whose colours are changed first."""

    method: SaliencyMethod
    colours: Callable[[Tensor], Tensor]

    def attribute(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.method.attribute(self.colours(images), targets)


def run(run: Run) -> None:
    """Write the picture; without ``explain.classes`` of the three most probable classes."""
    path, output = _image_path(run), _output_path(run)
    image = read_image(path)
    pixels = to_tensor(image)[None]
    explained = _explained(run)
    method = _method(run, explained)
    probabilities = _probabilities(explained, pixels)
    classes = _names(explained, len(probabilities))
    targets = _targets(run.settings.explain.classes, classes, probabilities)
    maps = _maps(run, explained, method, pixels, targets)
    shares = [f"{100 * float(probabilities[k]):.1f} %" for k in targets]
    names = [classes[k] for k in targets]
    titles = [f"{name}\n{share}" for name, share in zip(names, shares, strict=True)]
    title = f"{path.name}: {name_of(method)} of {explained.name}"
    write_bytes(output, explain_picture(image, maps, titles, title))
    for name, share in zip(names, shares, strict=True):
        run.terminal.say(f"probability of {name}", share)
    run.terminal.say("picture", str(output))


def _image_path(run: Run) -> Path:
    image = run.settings.explain.image
    if image is None:
        raise ConfigError(
            "explain.image: not given. There is nothing to explain. Add explain.image=PATH, the "
            "path of a JPEG, PNG, BMP or WebP file."
        )
    return Path(image).expanduser()


def _output_path(run: Run) -> Path:
    output = run.settings.explain.output
    if output is None:
        return run.folder / "explain" / f"{_image_path(run).stem}.png"
    path = Path(output).expanduser()
    if path.suffix.lower() != ".png":
        raise ConfigError(
            f"explain.output: {output!r} does not end in .png. The picture is a PNG file and "
            "programs would take it for something else. Give a name like explain.output=dog.png."
        )
    return path


def _explained(run: Run) -> Explained:
    config = run.settings.explain
    if config.model:
        return library_model(run, config.model, config.model_weights, "explain")
    return own_model(run, config.checkpoint, "explain")


def _method(run: Run, explained: Explained) -> dict[str, Any]:
    """The configured method at a layer of the network; says so if there is no such layer."""
    wanted = run.settings.saliency.method
    method = fitted(wanted, explained)
    if wanted.get("layer") is not None and method["layer"] is None:
        run.terminal.console.print(
            f"saliency.method.layer={wanted['layer']} is a layer of the run's classifier, not of "
            f"{run.settings.explain.model}; the method's own default is read instead.",
            markup=False,
        )
    return method


def _probabilities(explained: Explained, pixels: Tensor) -> Tensor:
    """Of the whole image at the size that the network was trained on, [classes]."""
    size = scaled_size(pixels.shape[-2], pixels.shape[-1], explained.size)
    images = explained.colours(normalise_colours(resize(pixels.float(), size)))
    logits = logits_of(explained, images, "explain.model")
    return explained.probabilities(logits.float())[0]


def _names(explained: Explained, count: int) -> Sequence[str]:
    """The class names, or indices in their place where a library knows no names."""
    known = explained.classes
    return known if len(known) == count else [str(index) for index in range(count)]


def _targets(
    wanted: Sequence[str] | None, classes: Sequence[str], probabilities: Tensor
) -> list[int]:
    """Indices of the wanted classes, or of the most probable ones."""
    if not wanted:
        return probabilities.topk(min(_MOST_PROBABLE, len(probabilities))).indices.tolist()
    return [_index_of(name, classes) for name in wanted]


def _index_of(name: str, classes: Sequence[str]) -> int:
    lowered = [known.casefold() for known in classes]
    found = [index for index, known in enumerate(lowered) if known == name.casefold()]
    if len(found) == 1:
        return found[0]
    if not found and name.isdecimal() and int(name) < len(classes):
        return int(name)
    if found:
        raise ConfigError(
            f"explain.classes: {name!r} is the name of {len(found)} classes. "
            f"Give the index of one instead: {', '.join(map(str, found))}."
        )
    close = get_close_matches(name.casefold(), lowered, n=5, cutoff=0.5)
    similar = [classes[lowered.index(match)] for match in close] or list(classes[:10])
    raise ConfigError(
        f"explain.classes: the network has no class {name!r} among its {len(classes)}. "
        f"{'Similar are' if close else 'The first are'}: {', '.join(similar)}. "
        "Give one of its names, or an index from 0."
    )


def _maps(
    run: Run,
    explained: Explained,
    settings: dict[str, Any],
    pixels: Tensor,
    targets: Sequence[int],
) -> NDArray[np.float32]:
    """Maps [K, h, w] in [0, 1], made as those of the saliency stage."""
    config = run.settings.saliency
    try:
        method = build({**settings, "model": explained.network}, "saliency.method")
        recoloured = _Recoloured(method, explained.colours)
        labeler = PseudoLabeler.from_config(explained.network, recoloured, config)
        maps = labeler.predict_step((pixels, torch.tensor([list(targets)])), 0)
    except TSGBError as error:
        raise ConfigError(f"explain: {explained.name}: {error}") from error
    return np.asarray(maps, dtype=np.float32)
