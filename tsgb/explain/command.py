"""The command ``tsgb``: list the methods, and explain an image in a picture.

Only the picture needs torch, whose import takes seconds: help and the list do without.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tsgb._optional import LIBRARIES
from tsgb._version import __version__
from tsgb.errors import TSGBError
from tsgb.explain.images import MAX_MEGAPIXELS
from tsgb.facts import written_facts

if TYPE_CHECKING:
    from tsgb.explain.answer import ReadCheckpoint
    from tsgb.explain.classifier import Classifier

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # argparse has no public name

EXAMPLES = """\
examples:
  tsgb explain dog.jpg --model resnet50 --target dog --out map.png
  tsgb explain dog.jpg --model mobilenet_v2 --layer features.13 --target "golden retriever" tabby
  tsgb explain dog.jpg --model resnet18 --method grad_cam --weights none    (no download)
  tsgb explain dog.jpg --weights last.ckpt              (a classifier that `tsgb run` trained)
"""


class CommandError(TSGBError, ValueError):
    """The command asks for something that does not exist."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the command: 0, or 1 after a message on standard error.

    Args:
        arguments: Words after ``tsgb``; None takes those of the process.

    Example:
        >>> main(["explain", "nowhere.jpg", "--model", "resnet18", "--out", "map.png"])
        1
    """
    parser = argparse.ArgumentParser(
        prog="tsgb", description="Saliency maps: which pixels speak for a class."
    )
    parser.add_argument("--version", action="version", version=f"tsgb {__version__}")
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    return execute(parser.parse_args(arguments))


def execute(parsed: argparse.Namespace) -> int:
    """Run the command that was parsed, print its answer, and return the exit code."""
    try:
        text = parsed.answer(parsed)
    except (TSGBError, OSError) as error:
        sys.stderr.write(f"tsgb: {error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    return 0


def without_pipeline(path: str) -> "Classifier":
    """Says what the file is, for a command that cannot read it.

    Raises:
        CommandError: Always.
    """
    raise CommandError(
        f"--weights: {path!r} is a checkpoint that `tsgb run` trained, and the pipeline is needed "
        "to read it. Install it, pip install 'tsgb[pipeline]', and use the command tsgb."
    )


def add_commands(
    commands: "Commands", read_checkpoint: "ReadCheckpoint" = without_pipeline
) -> None:
    """Add ``explain`` and ``methods``; :func:`execute` runs what their parsers return."""
    table = commands.add_parser("methods", help="list the methods")
    table.set_defaults(answer=_methods)
    parser = commands.add_parser(
        "explain", help="explain an image in a picture", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(answer=partial(_explain, read_checkpoint))
    add = parser.add_argument
    add("image", metavar="IMAGE", type=Path, help="a JPEG, PNG or WebP file")
    add("--model", metavar="NAME", help="network of the library, such as resnet50")
    add("--library", choices=LIBRARIES, default="torchvision",
        help="library of the network; default: torchvision")  # fmt: skip
    add("--weights", metavar="PATH|download|none", default="download",
        help="a state dict or a checkpoint of `tsgb run` (then without --model), the library's "
        "best, or random ones; default: download")  # fmt: skip
    add("--method", metavar="NAME", default="tsgb", help="see 'tsgb methods'; default: tsgb")
    add("--layer", metavar="NAME", help="where the map is read, as in model.named_modules()")
    add("--target", metavar="CLASS", nargs="+", action="extend",
        help="names, parts of names, or indices; default: the three most probable")  # fmt: skip
    add("--option", metavar="KEY=VALUE", nargs="+", action="extend", default=[],
        help="options of the method, such as kappa=0.5")  # fmt: skip
    add("--size", metavar="N", type=int,
        help="shorter side of the image in px; default: the network's own")  # fmt: skip
    add("--crop", action="store_true",
        help="show the network only the middle square, as in its test; default: all")  # fmt: skip
    add("--megapixels", metavar="N", type=float, default=MAX_MEGAPIXELS,
        help=f"refuse larger images before decoding them; default: {MAX_MEGAPIXELS:g}")  # fmt: skip
    add("--out", metavar="PATH", type=Path,
        help="the picture, such as map.png; default: IMAGE_METHOD.png in this folder")  # fmt: skip


def _methods(_: argparse.Namespace) -> str:
    """A table: name, class, where the map is read, first line of the documentation."""
    rows = [("name", "class", "read-out", "map")]
    for method in sorted(written_facts(), key=lambda method: method.facts.name):
        line = re.sub(r":\w+:`(\w+)`", r"\1", method.about)  # links of the documentation
        rows.append((method.facts.name, method.class_name, method.facts.read_out, line))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [[cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
             for row in rows]  # fmt: skip
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _explain(read_checkpoint: "ReadCheckpoint", wanted: argparse.Namespace) -> str:
    """Write the picture; one line of what it shows."""
    from tsgb.explain.answer import explained  # and torch with it

    return explained(read_checkpoint, wanted)
