"""What ``tsgb explain`` does: from the words of the command to a picture."""

import argparse
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tsgb.draw import Picture, save
from tsgb.errors import TSGBError
from tsgb.explain.classifier import Classifier, ClassifierError, library_classifier
from tsgb.explain.command import CommandError
from tsgb.explain.explanation import explain
from tsgb.explain.images import ImageError, Photo, TooLargeError, read_photo
from tsgb.explain.names import UnknownClassError, similar
from tsgb.explain.networks import NetworkError
from tsgb.explain.state_dicts import WeightsError, is_checkpoint
from tsgb.index import methods
from tsgb.method import Method

ReadCheckpoint = Callable[[str], Classifier]
"""Makes the classifier in a checkpoint of the pipeline; raises CommandError."""


def explained(read_checkpoint: ReadCheckpoint, wanted: argparse.Namespace) -> str:
    """Write the picture; one line of what it shows."""
    if wanted.size is not None and wanted.size < 1:
        raise CommandError(f"--size: {wanted.size} px is too small. Give 1 or more.")
    photo = _photo(wanted.image, wanted.megapixels)
    method_class = method_named(wanted.method)
    out = wanted.out or Path(f"{wanted.image.stem}_{method_class.facts.name}.png")
    options = method_options(method_class, wanted.layer, wanted.option)
    classifier = _classifier(wanted, read_checkpoint)
    method = _made(method_class, classifier, options)
    view = classifier.preprocessing.view(photo.image, wanted.size, crop=wanted.crop)
    source = f"{method_class.__name__} of {classifier.name}"
    title = f"{wanted.image.name}: {source}"
    try:
        found = explain(view, classifier, method.attribute, words=wanted.target, title=title)
    except UnknownClassError as error:
        raise CommandError(f"--target: {error}") from error
    except ClassifierError as error:
        raise CommandError(
            f"--model: {error} Set another size with --size, or give --crop to a network that "
            "takes squares of one size only."
        ) from error
    _save(out, found.picture)
    if photo.note:
        sys.stderr.write(f"tsgb: {photo.note}\n")
    return f"{out}: {source}: {', '.join(map(str, found.classes))}"


def _save(path: Path, picture: Picture) -> None:
    try:
        save(path, picture)
    except ValueError as error:
        raise CommandError(f"--out: {error}") from error


def _photo(path: Path, max_megapixels: float) -> Photo:
    try:
        return read_photo(path, max_megapixels)
    except ImageError as error:
        remedy = " See --megapixels." if isinstance(error, TooLargeError) else ""
        raise CommandError(f"IMAGE: {error}{remedy}") from error


def _classifier(wanted: argparse.Namespace, read_checkpoint: ReadCheckpoint) -> Classifier:
    """The classifier of a library, or the one in a checkpoint of the pipeline."""
    try:
        if wanted.weights not in ("download", "none") and is_checkpoint(wanted.weights):
            return _trained(wanted, read_checkpoint)
        if wanted.model is None:
            raise CommandError(
                "--model: not given. Name a network, such as resnet50; only a checkpoint of "
                "`tsgb run`, as --weights, needs none."
            )
        return library_classifier(wanted.library, wanted.model, wanted.weights)
    except NetworkError as error:
        raise CommandError(f"--model: {error} See also --library and --weights.") from error
    except WeightsError as error:
        raise CommandError(f"--weights: {error}") from error


def _trained(wanted: argparse.Namespace, read_checkpoint: ReadCheckpoint) -> Classifier:
    found = read_checkpoint(wanted.weights)
    if wanted.model not in (None, found.name, found.name.partition("/")[2]):
        raise CommandError(
            f"--model: {wanted.model!r} is given, but {wanted.weights!r} is a checkpoint of "
            f"{found.name}. Leave --model out; a checkpoint names its network."
        )
    return found


def _made(method: type[Method], classifier: Classifier, options: Mapping[str, Any]) -> Method:
    try:
        return method(classifier.network, **options)
    except TSGBError:
        raise
    except ValueError as error:
        raise CommandError(str(error)) from error


def method_named(name: str) -> type[Method]:
    """The method of that name; case, underscores and hyphens do not matter.

    Raises:
        CommandError: No method has that name; the message lists similar ones.

    Example:
        >>> method_named("Grad-CAM").__name__
        'GradCAM'
    """
    found = {_plain(known): value for known, value in methods().items()}.get(_plain(name))
    if found is None:
        raise CommandError(
            f"--method: there is no method {name!r}. "
            f"{similar(name, list(methods()))} See 'tsgb methods'."
        )
    return found


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()


def method_options(method: type[Method], layer: str | None, words: Sequence[str]) -> dict[str, Any]:
    """Arguments of a method's constructor.

    Args:
        method: Method whose options they are.
        layer: Layer to read; None leaves it to the method.
        words: Further options as ``key=value``; values become what the defaults are.

    Raises:
        CommandError: The method has no such option, or the value is of another type.

    Example:
        >>> from tsgb import TSGB
        >>> method_options(TSGB, "layer3", ["kappa=0.5"])
        {'layer': 'layer3', 'kappa': 0.5}
    """
    name, parameters = method.facts.name, dict(inspect.signature(method).parameters)
    takes_layer = parameters.pop("layer", None) is not None
    del parameters["model"]
    if layer is not None and not takes_layer:
        raise CommandError(f"--layer: {name} has no layer to choose. Leave --layer out.")
    options: dict[str, Any] = {} if layer is None else {"layer": layer}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in parameters:
            known = ", ".join(f"{p.name}={_shown(p.default)}" for p in parameters.values())
            raise CommandError(
                f"--option: {word!r} is not an option of {name}. Give KEY=VALUE; its options and "
                f"their defaults are: {known or 'none'}."
            )
        options[key] = _converted(word, value, parameters[key].default)
    return options


def _shown(default: Any) -> Any:
    is_method = isinstance(default, type) and issubclass(default, Method)
    return default.facts.name if is_method else default


def _converted(word: str, value: str, default: Any) -> Any:
    """The value as the type of the default; where that is a method, the value is its name."""
    if isinstance(default, type):
        return method_named(value)
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.casefold()]
        if isinstance(default, tuple):
            return tuple(value.split(","))
        return type(default)(value)
    except (KeyError, ValueError) as error:
        kind = {bool: "true or false", int: "a whole number"}.get(type(default), "a number")
        raise CommandError(f"--option: {word!r} is not {kind}.") from error
