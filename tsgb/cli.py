"""The command ``tsgb``: which methods there are, and one image explained in one picture."""

import argparse
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tsgb
from tsgb._classifiers import CommandError, fitting, load_classifier
from tsgb._networks import similar
from tsgb._optional import optional_package
from tsgb.draw import Picture, colours, grid, overlay, save
from tsgb.errors import TSGBError
from tsgb.method import FeatureMapMethod, Method

_MOST_PROBABLE = 3  # classes that are explained if none is named
_BAR = 16  # height of the scale of colours, px
_EXAMPLES = """\
examples:
  tsgb explain dog.jpg --model resnet50 --target dog --out map.png
  tsgb explain dog.jpg --model mobilenet_v2 --layer features.13 --target "golden retriever" tabby
  tsgb explain dog.jpg --model resnet18 --method grad_cam --weights none    (no download)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the command: 0, or 1 after a message on standard error.

    Args:
        arguments: Words after ``tsgb``; None takes those of the process.

    Example:
        >>> main(["explain", "nowhere.jpg", "--model", "resnet18", "--out", "map.png"])
        1
    """
    parsed = _parser().parse_args(arguments)
    try:
        text = parsed.run(parsed)
    except (TSGBError, OSError) as error:
        sys.stderr.write(f"tsgb: {error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    return 0


def methods() -> dict[str, type[Method]]:
    """All methods by their names on the command line.

    Example:
        >>> methods()["grad_cam"].__name__
        'GradCAM'
    """
    exported = [value for value in vars(tsgb).values() if isinstance(value, type)]
    classes = [value for value in exported if issubclass(value, Method)]
    return {
        _snake_case(value.__name__): value for value in classes if not inspect.isabstract(value)
    }


def _snake_case(name: str) -> str:
    name = name.replace("HiRes", "Hires")  # one word, as in the name of its module
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tsgb", description="Saliency maps: which pixels speak for a class."
    )
    parser.add_argument("--version", action="version", version=f"tsgb {tsgb.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    table = commands.add_parser("methods", help="list the methods")
    table.set_defaults(run=_methods)
    explain = commands.add_parser(
        "explain", help="explain an image in a picture", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    explain.set_defaults(run=_explain)
    add = explain.add_argument
    add("image", metavar="IMAGE", type=Path, help="a JPEG, PNG or WebP file")
    add("--model", metavar="NAME", required=True, help="network of the library, such as resnet50")
    add("--library", choices=("torchvision", "timm"), default="torchvision",
        help="where the network is from; default: torchvision")  # fmt: skip
    add("--weights", metavar="PATH|download|none", default="download",
        help="a state dict, the library's best, or random ones; default: download")  # fmt: skip
    add("--method", metavar="NAME", default="tsgb", help="see 'tsgb methods'; default: tsgb")
    add("--layer", metavar="NAME", help="where the map is read, as in model.named_modules()")
    add("--target", metavar="CLASS", nargs="+", action="extend",
        help="names, parts of names, or indices; default: the three most probable")  # fmt: skip
    add("--option", metavar="KEY=VALUE", nargs="+", action="extend", default=[],
        help="of the method, such as kappa=0.5")  # fmt: skip
    add("--size", metavar="N", type=int,
        help="shorter side of the image in px; default: the network's own")  # fmt: skip
    add("--crop", action="store_true",
        help="see the middle square only, as the network was tested; default: all")  # fmt: skip
    add("--out", metavar="PATH", type=Path,
        help="the picture, such as map.png; default: IMAGE_METHOD.png in this folder")  # fmt: skip
    return parser


def _methods(_: argparse.Namespace) -> str:
    """A table: name, class, where the map is read, first line of the documentation."""
    rows = [("name", "class", "read-out", "map")]
    for name, method in sorted(methods().items()):
        line = (inspect.getdoc(method) or "").partition("\n")[0]
        line = re.sub(r":\w+:`(\w+)`", r"\1", line)  # links of the documentation
        rows.append((name, method.__name__, _read_out(method), line))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [[cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
             for row in rows]  # fmt: skip
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _read_out(method: type[Method]) -> str:
    if method is tsgb.GradualExtrapolation:
        return "first pool"
    if "base" in inspect.signature(method).parameters:
        return "its base's"
    return "last map" if issubclass(method, FeatureMapMethod | tsgb.CAM) else "image"


def _explain(wanted: argparse.Namespace) -> str:
    """Write the picture and say in one line what it shows."""
    if wanted.size is not None and wanted.size < 1:
        raise CommandError(f"--size: {wanted.size} px is no size of an image. Give 1 or more.")
    image = _opened(wanted.image)
    method_class = _method_class(wanted.method)
    out = wanted.out or Path(f"{wanted.image.stem}_{_snake_case(method_class.__name__)}.png")
    options = _options(wanted.method, method_class, wanted.layer, wanted.option)
    classifier = load_classifier(wanted.library, wanted.model, wanted.weights)
    method = _made(method_class, classifier.network, options)
    view = classifier.preprocessing.view(image, wanted.size, crop=wanted.crop)
    images = classifier.preprocessing.tensor(view)
    probabilities = _probabilities(classifier.network, images, wanted.model)
    names = _fitting_names(classifier.classes, len(probabilities))
    targets, notes = _targets(wanted.target, names, probabilities)
    maps = method.attribute(images, torch.tensor([targets]))[0]
    shares = [f"{100 * float(probabilities[target]):.1f} %" for target in targets]
    random = " (random weights)" if wanted.weights == "none" else ""
    source = f"{type(method).__name__} of {wanted.library}/{wanted.model}{random}"
    captions = [f"{names[target]}\n{s}" for target, s in zip(targets, shares, strict=True)]
    _save(out, _picture(view, maps, captions, f"{wanted.image.name}: {source}"))
    explained = zip(targets, shares, notes, strict=True)
    said = [f"{names[target]} [{target}] {share}{note}" for target, share, note in explained]
    return f"{out}: {source}: {', '.join(said)}"


def _picture(view: Picture, maps: Tensor, captions: Sequence[str], title: str) -> Picture:
    """The image and its scale of colours, and beside them each map over its overlay."""
    signed = bool((maps < 0).any())
    ends = torch.linspace(-1.0 if signed else 0.0, 1.0, view.shape[1])
    scale = colours(ends.expand(_BAR, -1), signed=signed)
    legend = "against ... for the class" if signed else "zero ... maximum"
    drawn = [colours(one, signed=signed, size=view.shape[:2]) for one in maps]
    upper = [("image", view), *zip(captions, drawn, strict=True)]
    lower = [(legend, scale), *(("", overlay(view, one)) for one in maps)]
    return grid([*upper, *lower], columns=len(upper), title=title)


def _save(path: Path, picture: Picture) -> None:
    try:
        save(path, picture)
    except ValueError as error:
        raise CommandError(f"--out: {error}") from error


def _opened(path: Path) -> Any:
    """The image file as Pillow's RGB image, turned as the camera was held."""
    pillow = optional_package("PIL.Image", "tsgb explain")
    turned = optional_package("PIL.ImageOps", "tsgb explain").exif_transpose
    if not path.is_file():
        raise CommandError(f"IMAGE: there is no file {str(path)!r}. Check the path.")
    try:
        with pillow.open(path) as file:
            return turned(file).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: a broken PNG
        raise CommandError(
            f"IMAGE: {str(path)!r} cannot be read ({error}). Give a JPEG, PNG or WebP file."
        ) from error


def _method_class(name: str) -> type[Method]:
    """The method of that name; underscores and capitals do not matter."""
    found = {_plain(known): value for known, value in methods().items()}.get(_plain(name))
    if found is None:
        raise CommandError(
            f"--method: there is no method {name!r}. "
            f"{similar(name, list(methods()))} See 'tsgb methods'."
        )
    return found


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()


def _options(
    name: str, method: type[Method], layer: str | None, words: Sequence[str]
) -> dict[str, Any]:
    """Arguments of the constructor from ``key=value`` words, of the types of their defaults."""
    parameters = dict(inspect.signature(method).parameters)
    takes_layer = parameters.pop("layer", None) is not None
    del parameters["model"]
    if layer is not None and not takes_layer:
        raise CommandError(f"--layer: {name} reads at a place of its own. Leave --layer out.")
    options: dict[str, Any] = {} if layer is None else {"layer": layer}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in parameters:
            known = ", ".join(f"{p.name}={_shown(p.default)}" for p in parameters.values())
            raise CommandError(
                f"--option: {word!r} is no option of {name}. Give KEY=VALUE; its options and "
                f"their defaults are: {known or 'none'}."
            )
        options[key] = _converted(word, value, parameters[key].default)
    return options


def _shown(default: Any) -> Any:
    return _snake_case(default.__name__) if isinstance(default, type) else default


def _converted(word: str, value: str, default: Any) -> Any:
    """The value as the type of the default; a class stands for a method's name."""
    if isinstance(default, type):
        return _method_class(value)
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.casefold()]
        if isinstance(default, tuple):
            return tuple(value.split(","))
        return type(default)(value)
    except (KeyError, ValueError) as error:
        kind = {bool: "true or false", int: "a whole number"}.get(type(default), "a number")
        raise CommandError(f"--option: {word!r} is not {kind}. Give one.") from error


def _made(method: type[Method], network: nn.Module, options: Mapping[str, Any]) -> Method:
    try:
        return method(network, **options)
    except TSGBError:
        raise
    except ValueError as error:
        raise CommandError(str(error)) from error


def _probabilities(network: nn.Module, images: Tensor, name: str) -> Tensor:
    """Of the classes, [classes]."""
    try:
        with torch.no_grad():
            logits = network(images)
    except (AssertionError, RuntimeError, ValueError) as error:
        height, width = images.shape[-2:]
        raise CommandError(
            f"--model: {name} cannot take an image of {width} x {height} px ({error}). "
            "Give another --size, or --crop for a network that takes squares of one size only."
        ) from error
    return logits[0].float().softmax(-1)


def _fitting_names(names: Sequence[str], count: int) -> Sequence[str]:
    """The names, or indices in their place where the library knows no names."""
    return names if len(names) == count else [str(index) for index in range(count)]


def _targets(
    wanted: Sequence[str] | None, names: Sequence[str], shares: Tensor
) -> tuple[list[int], list[str]]:
    """Class indices, and what to say of each choice that was left to the network."""
    if not wanted:
        best = shares.topk(min(_MOST_PROBABLE, len(shares))).indices.tolist()
        return best, [""] * len(best)
    chosen, said = [], []
    for word in wanted:
        found = fitting(word, names)
        if not found:
            raise CommandError(
                f"--target: the network has no class {word!r}. {similar(word, names)} "
                f"Give a name, a part of one, or an index from 0 to {len(names) - 1}."
            )
        chosen.append(max(found, key=lambda index: float(shares[index])))
        several = f" (the most probable of {len(found)} that {word!r} fits)"
        said.append(several if len(found) > 1 else "")
    return chosen, said


if __name__ == "__main__":
    sys.exit(main())
