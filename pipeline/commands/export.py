"""`tsgb export`: the network of a run as one file that other programs run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import PipelineError
from pipeline.base.files import storage_explained
from pipeline.base.terminal import Terminal, print_error
from pipeline.inference.exporting import Format, export, find_source


def main(words: Sequence[str]) -> int:
    """Exit code of the command: 0, or 1 after a message on standard error.

    Args:
        words: What follows ``tsgb export``.
    """
    wanted, terminal = parser().parse_args(words), Terminal()
    place, out = wanted.run.expanduser(), wanted.out and wanted.out.expanduser()
    try:
        with storage_explained(out or place):
            source = find_source(place, classifier=wanted.classifier)
            for path in export(source, Format(wanted.format), out):
                terminal.say(path.name, str(path))
    except PipelineError as error:
        print_error(error)
        return 1
    terminal.summarise("exported")
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of the words of the command."""
    words = argparse.ArgumentParser(
        prog="tsgb export",
        description="The network of a run as one file that carries its preprocessing, class "
        "names, colours and scores, and a model card beside it.",
    )
    add = words.add_argument
    add("run", metavar="RUN", type=Path, help="folder of a run or of its network, or a checkpoint")
    add("--format", choices=[str(kind) for kind in Format], default=str(Format.onnx),
        help="default: onnx")  # fmt: skip
    add("--out", metavar="PATH", type=Path, help="a folder, or a file; default: RUN/export")
    add("--classifier", action="store_true", help="the run's classifier, as ONNX")
    return words
