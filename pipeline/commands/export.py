"""`tsgb export`: the network of a run as one file that other programs run."""

from __future__ import annotations

import argparse

from pipeline.base.terminal import Terminal
from pipeline.inference.export_format import Format
from pipeline.inference.exporting import export, find_source


def main(wanted: argparse.Namespace, terminal: Terminal) -> None:
    """Export what was asked for.

    Args:
        wanted: The words of the command.
        terminal: Where progress and summary are shown.

    Raises:
        PipelineError: It cannot be exported; the message says why.
    """
    source = find_source(wanted.run.expanduser(), classifier=wanted.classifier)
    out = wanted.out and wanted.out.expanduser()
    written = export(source, Format(wanted.format), out)
    for path in written:
        terminal.say(path.name, path)
    terminal.summarise(written[0].parent)
